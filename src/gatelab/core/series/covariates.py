"""Covariates of a forecast: what is known beside the values themselves, as features of every step.

Numbers are taken as they are; categories become vectors that are learned (entity embeddings, Guo and Berkhahn 2016,
arXiv:1604.06737). Category 0 stands for one that was not seen in training: its vector is zero and stays so.

Dimensions: B windows, T look-back, P horizon, C channels; F and G known covariates (numbers,
categories), S and U static ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

LARGEST_EMBEDDING = 16


class Covariates(NamedTuple):
    """What a window has beside its values; None where the data have none of it.

    observed: `[B, T, C]` bool, False where a value of the past is missing; known: `[B, T + P, F]` float;
    known_codes: `[B, T + P, G]` int64; static: `[B, S]` float; static_codes: `[B, U]` int64; start: `[B]` int64, the
    number of the step of time with which the window begins.
    """

    observed: Tensor | None = None
    known: Tensor | None = None
    known_codes: Tensor | None = None
    static: Tensor | None = None
    static_codes: Tensor | None = None
    start: Tensor | None = None


class CovariateFeatures(nn.Module):
    """Turn covariates into features: of every step `[B, T + P, step_size]`, and of the series `[B, series_size]`.

    Args:
        known, static: their numbers F and S.
        known_codes, static_codes: of each categorical one, how many values it has.
        embedding_size: length of a category's vector; None: half of the values, at most 16.
    """

    def __init__(
        self,
        known: int = 0,
        known_codes: Sequence[int] = (),
        static: int = 0,
        static_codes: Sequence[int] = (),
        embedding_size: int | None = None,
    ) -> None:
        super().__init__()
        if embedding_size is not None and embedding_size < 1:
            raise ValueError(f"embedding_size must be greater than zero, got {embedding_size}")
        self.known, self.static = known, static
        self.of_steps = _embeddings(known_codes, embedding_size)
        self.of_series = _embeddings(static_codes, embedding_size)
        self.step_size = known + sum(e.embedding_dim for e in self._of(self.of_steps))
        self.series_size = static + sum(e.embedding_dim for e in self._of(self.of_series))

    def forward(self, given: Covariates, steps: int) -> tuple[Tensor | None, Tensor | None]:
        """Return both, None where there are none; `steps` is T + P.

        Raises ValueError where the window lacks what the network was made for.
        """
        known = self._join("known", given.known, self.known, given.known_codes, self.of_steps)
        if known is not None and known.shape[1] != steps:
            raise ValueError(f"known covariates must be of T + P = {steps} steps, got {known.shape[1]}")
        return known, self._join("static", given.static, self.static, given.static_codes, self.of_series)

    def _join(
        self, name: str, numbers: Tensor | None, size: int, codes: Tensor | None, embeddings: nn.ModuleList
    ) -> Tensor | None:
        parts = []
        for label, found, wanted in (
            (name, numbers, size),
            (f"{name}_codes", codes, len(embeddings)),
        ):
            have = 0 if found is None else found.shape[-1]
            if have < wanted:
                raise ValueError(
                    f"the network was made for {wanted} covariates {label!r}, the data have {have}"
                )
        if size and numbers is not None:
            parts.append(numbers)
        if codes is not None:
            parts += [embed(codes[..., i]) for i, embed in enumerate(embeddings)]
        return torch.cat(parts, dim=-1) if parts else None

    @staticmethod
    def _of(embeddings: nn.ModuleList) -> list[nn.Embedding]:
        return [e for e in embeddings if isinstance(e, nn.Embedding)]


def _embeddings(values: Sequence[int], size: int | None) -> nn.ModuleList:
    """A table for each category: a row for each value and row 0 for an unknown one."""
    return nn.ModuleList(
        nn.Embedding(n + 1, size or min(LARGEST_EMBEDDING, (n + 1) // 2), padding_idx=0) for n in values
    )
