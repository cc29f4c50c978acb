"""Metrics of distributions: the sums of `gatelab.data.series.scores` as torchmetrics, reducible over processes.

Letters: B windows, P horizon, K target channels, Q levels.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torchmetrics import Metric

from gatelab.data.series.scores import (
    intervals,
    loss_levels,
    quantile_fractions,
    quantile_sums,
)
from gatelab.tasks.metrics import own_scales

DISTRIBUTION_FIGURES: Final = ("sql", "wql", "crps", "msis")
"""Those that a model can be chosen by."""


class QuantileError(Metric):
    """Scores of quantile forecasts: `sql`, `wql`, `crps`, `msis` and coverage, see `gatelab.data.series.scores`.

    Args:
        levels: Q levels in rising order. Figures that need others are absent.
        mean, std, mase_scale, horizon: as `ForecastError`.

    `crps` is the closed form where `update` is given one, else the mean of the quantile losses.
    """

    full_state_update = False
    higher_is_better = False
    SUMS = ("pinball", "inside", "scaled", "interval", "size", "scored", "defined")
    pinball: Tensor
    scored: Tensor
    exact: Tensor
    with_exact: Tensor
    mean: Tensor
    std: Tensor
    mase_scale: Tensor

    def __init__(
        self,
        levels: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
        mase_scale: Sequence[float],
        horizon: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.levels = tuple(round(float(level), 6) for level in levels)
        if not self.levels or not all(0 < level < 1 for level in self.levels):
            raise ValueError(f"levels must lie between 0 and 1, not {list(levels)}")
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must rise, not {list(levels)}")
        for name, values in (("mean", mean), ("std", std), ("mase_scale", mase_scale)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64), persistent=False)
        self.shape = (horizon, len(mean))
        several: dict[str, list[Any]] = {
            "pinball": loss_levels(self.levels),
            "inside": intervals(self.levels),
        }
        for name in (*self.SUMS, "exact", "with_exact"):
            shape = (len(several[name]), *self.shape) if name in several else self.shape
            kind = torch.int64 if name in ("scored", "defined", "with_exact") else torch.float64
            self.add_state(name, torch.zeros(shape, dtype=kind), dist_reduce_fx="sum")

    def update(
        self,
        quantiles: Tensor,
        future: Tensor,
        scored: Tensor | None = None,
        *,
        level: Tensor | None = None,
        spread: Tensor | None = None,
        mase_scale: Tensor | None = None,
        crps: Tensor | None = None,
    ) -> None:
        """Add a batch: quantiles [B, P, K, Q] and truths [B, P, K], both scaled, but where `scored` is False.

        crps: [B, P, K], scaled, where the distribution has it in closed form. The others are those of `ForecastError`.
        """
        if quantiles.shape != (*future.shape, len(self.levels)) or future.shape[1:] != self.shape:
            raise ValueError(
                f"quantiles {list(quantiles.shape)} must be {['B', *self.shape, len(self.levels)]} and future "
                f"{list(future.shape)} the same but for the last"
            )
        scales = own_scales(self, level, spread, mase_scale)
        mask = torch.ones_like(future, dtype=torch.bool) if scored is None else scored
        sums = quantile_sums(
            lambda level: quantiles[..., self.levels.index(level)].to(torch.float64),
            future.to(torch.float64),
            mask,
            scales,
            self.levels,
        )
        for name, value in sums.items():
            setattr(self, name, getattr(self, name) + value)
        if crps is not None:
            self.exact += torch.where(mask, crps.to(torch.float64) * scales[1], 0.0).sum(0)
            self.with_exact += mask.sum(0)

    def compute(self) -> dict[str, Tensor]:
        """Return the figures as float64 scalars."""
        return {name: top.sum() / below.sum() for name, (top, below) in self._fractions().items()}

    def _fractions(self) -> dict[str, tuple[Tensor, Tensor]]:
        found = quantile_fractions({name: getattr(self, name) for name in self.SUMS}, self.levels)
        return found | ({"crps": (self.exact, self.with_exact)} if self.with_exact.any() else {})

    def per_step(self) -> dict[str, list[float]]:
        """Return every figure of each horizon step (length P) in this process."""
        return self._over(1)

    def per_target(self) -> dict[str, list[float]]:
        """Return every figure of each target (length K) in this process."""
        return self._over(0)

    def _over(self, axis: int) -> dict[str, list[float]]:
        fractions = self._fractions().items()
        return {name: (top.sum(axis) / below.sum(axis)).tolist() for name, (top, below) in fractions}
