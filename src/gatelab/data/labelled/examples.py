"""Sequences of different lengths behind each other in one array, and padded batches of some of them.

Dimensions: `n` examples, `S` steps of all of them, `B` batch, `T` steps of the longest in it, `C` channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gatelab.data.disk_cache import CacheEntry
from gatelab.data.labelled.spec import LabelledBatch


class Sequences(NamedTuple):
    """`values[starts[i]:starts[i+1]]` is sequence i.

    values: `[S]` token ids or `[S, C]` channels, in float64 where they are scaled in it; starts: `[n+1]` int64.
    """

    values: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[np.ndarray]) -> "Sequences":
        """Join sequences, at least one."""
        return cls(np.concatenate(parts), np.cumsum([0, *map(len, parts)]))

    @property
    def lengths(self) -> np.ndarray:
        """The steps of each `[n]`."""
        return np.diff(self.starts)

    def take(self, index: np.ndarray) -> "Sequences":
        """Some of them, in that order."""
        parts = [self.values[self.starts[i] : self.starts[i + 1]] for i in index]
        return Sequences.of(parts) if parts else Sequences(self.values[:0], np.zeros(1, np.int64))

    def padded(
        self, index: np.ndarray, mean: Sequence[float] = (), std: Sequence[float] = ()
    ) -> tuple[Tensor, Tensor]:
        """Return sequences `[B, T]` int64 or `[B, T, C]` float32 with zeros behind their ends, and lengths `[B]`.

        mean, std: what channels are standardised by, one each or one for all.
        """
        lengths = self.lengths[index]
        steps = np.arange(lengths.max())
        inside = steps < lengths[:, None]
        place = np.where(inside, self.starts[index][:, None] + steps, 0)
        values = self.values[place]
        if values.ndim == 2:
            return torch.from_numpy(np.where(inside, values, 0).astype(np.int64)), torch.from_numpy(lengths)
        scaled = values.astype(np.float64 if values.dtype == np.float64 else np.float32)
        if len(mean):
            level, spread = np.array([mean, std], dtype=scaled.dtype)
            scaled = (scaled - level) / spread
        filled = np.where(inside[..., None], scaled, 0).astype(np.float32)
        return torch.from_numpy(filled), torch.from_numpy(lengths)


class Examples(Dataset):
    """A split: sequences with their labels `[n]`, as padded batches.

    An array of numbers gives the batch of those examples.
    """

    def __init__(
        self,
        sequences: Sequences,
        labels: np.ndarray,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        self.sequences, self.labels = sequences, torch.from_numpy(labels)
        self.mean, self.std = mean, std

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: np.ndarray) -> LabelledBatch:
        inputs, lengths = self.sequences.padded(index, self.mean, self.std)
        return LabelledBatch(inputs, lengths, self.labels[torch.from_numpy(index)])


@dataclass
class Labelled:
    """Examples that were read and shared out.

    labels, parts: `[n]`, places among `classes` and among `SPLITS`. tokenizer: as plain data, of texts. level: of
    tokens, or "". channels: their names. mean, std: what the channels are standardised by.
    """

    sequences: Sequences
    labels: np.ndarray
    parts: np.ndarray
    classes: list[str]
    tokenizer: dict[str, Any] | None = None
    level: str = ""
    channels: list[str] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    fingerprint: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def keep(self) -> CacheEntry:
        """Return it as an entry of the cache."""
        facts = {
            name: value for name, value in vars(self).items() if name not in ("sequences", "labels", "parts")
        }
        arrays = self.sequences._asdict() | {"labels": self.labels, "parts": self.parts}
        return CacheEntry(arrays, facts)

    @classmethod
    def restore(cls, entry: CacheEntry) -> "Labelled":
        """Return what `keep` was asked of."""
        arrays = {name: array.copy() for name, array in entry.arrays.items()}  # writable, as torch wants them
        sequences = Sequences(arrays["values"], arrays["starts"])
        return cls(sequences, arrays["labels"], arrays["parts"], **entry.facts)
