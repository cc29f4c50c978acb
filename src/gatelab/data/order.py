"""The order in which batches are visited: a pure function of (seed, epoch), shared out over ranks.

The sampler yields one array of item numbers per batch, so a dataset fetches a whole batch at once. It can
begin its first pass in the middle (`start`), which is what resuming inside an epoch needs. It never repeats
or drops an item.
"""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DistributedSampler

from gatelab.data.messages import DataError


def batch_edges(items: int, batch_size: int, world_size: int) -> np.ndarray:
    """Return the borders `[n+1]` of the global batches of `items` items: `batch_size` each, fewer in the last.

    A last batch that could not give every rank an item is joined to the one before: all ranks always see the
    same number of batches, none of them empty (a rank without a batch would wait for ever in a collective
    call).
    """
    if items < world_size:
        raise DataError(f"{items} windows cannot be shared over {world_size} processes; use fewer devices")
    edges = np.append(np.arange(0, items, batch_size), items)
    if len(edges) > 2 and edges[-1] - edges[-2] < world_size:
        edges = np.delete(edges, -2)
    return edges


class BatchOrder(DistributedSampler):
    """Yields the item numbers of each of this rank's batches, for a `DataLoader` with `batch_size=None`.

    It is a `DistributedSampler` by name only, so that Lightning recognises that the sharing is done and
    leaves it be.
    """

    def __init__(
        self, items: int, batch_size: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.items, self.shuffle, self.seed = items, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.edges = batch_edges(items, batch_size, world_size)
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next pass takes."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the batches of a whole epoch, also when the next pass starts later."""
        return len(self.edges) - 1

    def permutation(self) -> np.ndarray:
        """Return the order of all items `[items]` in the current epoch."""
        if not self.shuffle:
            return np.arange(self.items)
        # PCG64 gives the same numbers on every machine; SeedSequence hashes the pair, so no two overlap
        return np.random.Generator(np.random.PCG64([self.seed, self.epoch])).permutation(self.items)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield item numbers batch by batch, from batch `start` on the first pass and from 0 ever after."""
        # a generator on purpose: a loader with workers asks for two iterators and draws from the second alone, so
        # `start` is used up by the first drawn batch, not by the asking
        start, self.start = self.start, 0
        order = self.permutation()
        for batch in range(start, len(self)):
            yield self._share(order, batch)

    def _share(self, order: np.ndarray, batch: int) -> np.ndarray:
        """Return this rank's part of a global batch: near-equal parts, in order."""
        return np.array_split(order[self.edges[batch] : self.edges[batch + 1]], self.world_size)[self.rank]
