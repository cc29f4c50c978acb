"""Two orders of batches of similar length, so that little of a batch is padding.

`SimilarLengths` counts the examples of a batch; `LengthOrder` can count their steps as well, as translation does.

Dimensions: `n` items.
"""

from typing import Final

import numpy as np

from gatelab.data.base_module import BatchOrder
from gatelab.data.messages import DataError

POOL: Final = 50
"""Batches whose examples are sorted by length together."""


class SimilarLengths(BatchOrder):
    """Batches of equally many examples of similar length; which ones meet changes from epoch to epoch.

    In training the examples are shuffled, those of every `POOL` batches sorted by length, and the batches shuffled, all
    of it a function of (seed, epoch). Else they are sorted by length.

    lengths: of the examples `[n]`; the other arguments are those of `BatchOrder`.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(
            len(lengths), batch_size, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size
        )
        self.lengths, self.pool = lengths, POOL * batch_size

    def permutation(self) -> np.ndarray:
        """Return the order of all examples `[n]` in the current epoch."""
        if not self.shuffle:
            return np.argsort(self.lengths, kind="stable")
        shuffled = super().permutation()
        pools = np.split(shuffled, range(self.pool, self.items, self.pool))
        order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        *batches, last = np.split(order, self.edges[1:-1])  # the last one may be smaller or larger
        draw = np.random.Generator(np.random.PCG64([self.seed, self.epoch, 1]))
        return np.concatenate([*(batches[i] for i in draw.permutation(len(batches))), last])


class LengthOrder(BatchOrder):
    """The items sorted by length, cut into batches of at most `batch_size` items and `budget` steps, padding included.

    In training the items of equal length and the batches are shuffled, anew for each epoch and the same for everybody
    who knows the seed and the epoch; how the sorted items are cut never changes, so that every epoch has as many
    batches. An item longer than the budget is a batch with the fewest others that let every rank have one.

    lengths: `[n]`, steps of each item. budget: None for no other limit than `batch_size`.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        budget: int | None = None,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(
            len(lengths), batch_size, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size
        )
        self.lengths = lengths
        if budget is not None:
            self.edges = _edges(np.sort(lengths), batch_size, budget, world_size)

    def permutation(self) -> np.ndarray:
        """Return the items sorted by length `[n]`, in training those of equal length in a random order."""
        shuffled = super().permutation()
        return shuffled[np.argsort(self.lengths[shuffled], kind="stable")]

    def _share(self, order: np.ndarray, batch: int) -> np.ndarray:
        """Return this rank's part of the batch whose turn it is."""
        if self.shuffle:
            turns = np.random.Generator(np.random.PCG64([self.seed, self.epoch, 1]))
            batch = turns.permutation(len(self))[batch]
        return super()._share(order, batch)


def _edges(lengths: np.ndarray, batch_size: int, budget: int, world_size: int) -> np.ndarray:
    """Return the borders of batches of ascending lengths `[n]`."""
    if budget < 1:
        raise DataError(f"data.batch_tokens={budget}: give at least 1, or null for no limit")
    edges, start = [0], 0
    for stop in range(1, len(lengths) + 1):
        items = stop - start
        over = items > batch_size or items * lengths[stop - 1] > budget
        if over and items > world_size:
            start = stop - 1
            edges.append(start)
    edges.append(len(lengths))
    if len(edges) > 2 and edges[-1] - edges[-2] < world_size:
        del edges[-2]
    return np.array(edges)
