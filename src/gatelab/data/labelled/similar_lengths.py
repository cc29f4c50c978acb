"""An order of batches in which sequences of similar length stand together, so that little is padded."""

from typing import Final

import numpy as np

from gatelab.data.base_module import BatchOrder

POOL: Final = 50
"""Batches whose examples are sorted by length together."""


class SimilarLengths(BatchOrder):
    """Batches of examples of similar length, so that little is padded.

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
