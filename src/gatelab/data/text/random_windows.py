"""Training windows of random length, the same for everybody who knows the seed and the epoch."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gatelab.data.base_module import BatchOrder

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
