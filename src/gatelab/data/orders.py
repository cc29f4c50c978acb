"""Orders of batches other than the plain one, every one a pure function of (seed, epoch).

`SimilarLengths` and `LengthOrder` put examples of similar length together, so that little of a batch is padding; the
second can count their steps as well, as translation does. `SeriesOrder` meets every series of a panel equally often.
`RandomWindows` cuts a text anew.

Dimensions: `n` items.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from gatelab.data.base_module import BatchOrder
from gatelab.data.messages import DataError

POOL: Final = 50
"""Batches whose examples are sorted by length together."""


class SimilarLengths(BatchOrder):
    """Batches of equally many examples of similar length; which ones meet changes from epoch to epoch.

    In training the examples are shuffled, those of every `POOL` batches sorted by length, and the batches shuffled, all
    of it a function of (seed, epoch). Else they are sorted by length.

    lengths: of the examples `[n]`; options: those of `BatchOrder`.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        **options: Any,
    ) -> None:
        super().__init__(len(lengths), batch_size, **options)
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

    lengths: `[n]`, steps of each item. budget: None for no other limit than `batch_size`. options: of `BatchOrder`.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        budget: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(len(lengths), batch_size, **options)
        self.lengths = lengths
        if budget is not None:
            self.edges = _edges(np.sort(lengths), batch_size, budget, self.world_size)

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


class SeriesOrder(BatchOrder):
    """An order of training in which every series is met equally often, however many windows it has.

    An epoch has as many windows as there are, drawn: the series in a new order again and again, of each a window at
    random.

    series: of which each window is `[n]`, in order; options: those of `BatchOrder`.
    """

    def __init__(self, series: np.ndarray, batch_size: int, **options: Any) -> None:
        super().__init__(len(series), batch_size, **options)
        _, self.first, self.count = np.unique(series, return_index=True, return_counts=True)

    def permutation(self) -> np.ndarray:
        """Return the windows `[n]` of the current epoch; some stand there more than once."""
        random = np.random.Generator(np.random.PCG64([self.seed, self.epoch]))
        rounds = -(-self.items // len(self.first))
        series = np.concatenate([random.permutation(len(self.first)) for _ in range(rounds)])[: self.items]
        return self.first[series] + (random.random(self.items) * self.count[series]).astype(np.int64)


SHORTEST, DEVIATION, HALVED = 5, 5.0, 0.05
"""Of random windows: fewest steps, standard deviation in steps, share of windows about half as long."""


class RandomWindows(BatchOrder):
    """Windows of random length over `steps` steps, in order; each batch is the pair (start, stop) of its steps.

    Merity et al. 2018 (arXiv:1708.02182), section 4.1: lengths are drawn around `window`, or in one of twenty windows
    around half of it, so that it is not always the same tokens that see a short past. Here they are drawn once for
    a run and shuffled for every epoch: an epoch always has the same number of steps. stops: steps before which a window
    has to end (boundaries of the text).
    """

    def __init__(self, steps: int, window: int, stops: Sequence[int] = (), *, seed: int = 0) -> None:
        random = np.random.Generator(np.random.PCG64([seed, steps, window]))
        edges = sorted({0, *stops, steps})
        self.parts = [(start, _lengths(random, stop - start, window)) for start, stop in pairwise(edges)]
        super().__init__(sum(len(lengths) for _, lengths in self.parts), 1, shuffle=False, seed=seed)

    def permutation(self) -> np.ndarray:
        """Return the (start, stop) of every window [items, 2] of the current epoch."""
        random = np.random.Generator(np.random.PCG64([self.seed, self.epoch]))
        stops = np.concatenate(
            [start + random.permutation(lengths).cumsum() for start, lengths in self.parts]
        )
        return np.stack([np.append(0, stops[:-1]), stops], axis=1)


def _lengths(random: np.random.Generator, steps: int, window: int) -> np.ndarray:
    """Lengths that add up to `steps`; a rest that would be shorter than `SHORTEST` joins the last."""
    found: list[int] = []
    left = steps
    while left > 0:
        mean = window if random.random() >= HALVED else window / 2
        length = min(max(SHORTEST, int(random.normal(mean, DEVIATION))), left)
        found.append(length if left - length >= SHORTEST else left)
        left -= found[-1]
    return np.array(found)
