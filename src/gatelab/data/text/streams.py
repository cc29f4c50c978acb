"""Cuts a sequence of tokens into parallel streams and windows: each position is scored exactly once.

Training streams are contiguous pieces of near-equal length. Evaluation streams have a burn-in: a stream that
starts inside the corpus first reads the tokens before its own part without being scored, so that its state,
and with it the perplexity, does not depend on how many streams there are. A training text may have a boundary:
a place where it does not go on from the token before (a fold's validation block was taken out there). Nothing
crosses it: the input there is the seed token, a window ends before it, and that stream's state is reset. Pure
arithmetic on arrays; no files, no Lightning.

Dimensions: `N` tokens, `B` streams, `L` steps of the longest stream.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gatelab.data.base_module import BatchOrder
from gatelab.data.messages import DataError
from gatelab.data.specs import IGNORE, TokenBatch


class Streams(NamedTuple):
    """`B` streams side by side.

    inputs, targets: `[L, B]` int32 (targets `IGNORE` where not scored).
    burn_in: first steps during which only stream 0 is scored.
    resets: (step, stream) of every boundary inside a stream.
    """

    inputs: Tensor
    targets: Tensor
    burn_in: int
    resets: tuple[tuple[int, int], ...] = ()


def _gather(
    tokens: Tensor,
    seed_token: int,
    starts: np.ndarray,
    first: np.ndarray,
    ends: np.ndarray,
    boundaries: Sequence[int] = (),
) -> Streams:
    """Lay out streams that read positions `starts..ends` and score `first..ends`, all `[B]`."""
    steps = int((ends - starts).max())
    before = torch.cat([torch.tensor([seed_token], dtype=torch.int32), tokens.to(torch.int32)])
    position = torch.from_numpy(starts)[None, :] + torch.arange(steps)[:, None]
    inside = position < torch.from_numpy(ends)[None, :]
    scored = inside & (position >= torch.from_numpy(first)[None, :])
    position = torch.where(inside, position, 0)  # position 0 reads the seed token
    targets = torch.where(scored, before[position + 1], IGNORE)
    before[list(boundaries)] = seed_token
    resets = tuple(
        (int(at - starts[stream]), int(stream))
        for at in boundaries
        for stream in np.flatnonzero((starts < at) & (at < ends))
    )
    return Streams(before[position], targets, int((first - starts).max()), resets)


def train_streams(tokens: Tensor, streams: int, seed_token: int, boundaries: Sequence[int] = ()) -> Streams:
    """Cut `tokens` `[N]` into contiguous streams whose lengths differ by at most one; nothing is dropped.

    The input of a stream's first step is the token before it in the corpus (the seed token for the first
    stream). A stream that is one token shorter ends with one padded step. boundaries: places in `tokens` that do
    not follow the token before them. Raises `DataError` if there are fewer tokens than streams.
    """
    if len(tokens) < streams:
        raise DataError(
            f"data.batch_size={streams} streams need at least that many tokens; got {len(tokens)}"
        )
    lengths = np.full(streams, len(tokens) // streams)
    lengths[: len(tokens) % streams] += 1
    ends = np.cumsum(lengths)
    return _gather(tokens, seed_token, ends - lengths, ends - lengths, ends, boundaries)


def eval_streams(tokens: Tensor, streams: int, burn_in: int, seed_token: int, world_size: int = 1) -> Streams:
    """Cut `tokens` `[N]` into streams of exactly equal length `L`, every token scored exactly once.

    Stream i > 0 reads `burn_in` tokens (rounded up so that all comes out even, by less than `streams`) before
    the first one it is scored on; it is scored on `q = L - burn_in` tokens, stream 0 on all its `L`. So at
    step `burn_in` stream i has just read the very token on which stream i-1 ends at step `L`: the two states
    can be compared. Fewer streams are used when the corpus is too short for so many (one stream alone needs
    no burn-in and is exact), but always a multiple of `world_size`; the burn-in is cut only if one stream per
    process is already too many.
    """
    n = len(tokens)
    if n < world_size:
        raise DataError(f"{n} tokens cannot be evaluated by {world_size} processes; use fewer devices")
    usable = streams
    while usable > world_size and n < burn_in + usable:
        usable -= world_size
    # rounding up: q * usable + burn == n with the smallest burn >= burn_in
    scored = max(1, (n - (burn_in if usable > 1 else 0)) // usable)
    burn = n - usable * scored
    starts = np.arange(usable) * scored
    ends = starts + burn + scored
    first = np.where(np.arange(usable) == 0, 0, starts + burn)
    return _gather(tokens, seed_token, starts, first, ends)


class StreamWindows(Dataset):
    """Windows of `window` steps over a rank's share of the streams; item k is the k-th `TokenBatch` in time.

    A window also ends where the burn-in ends, so the states at that moment are the ones carried between two
    windows; and before a boundary, for all streams alike, since a state can be reset between two windows only.
    """

    def __init__(self, streams: Streams, window: int | None, *, rank: int = 0, world_size: int = 1) -> None:
        steps, columns = streams.inputs.shape
        share = columns // world_size
        mine = slice(rank * share, (rank + 1) * share)
        self.inputs = streams.inputs[:, mine].contiguous()
        self.targets = streams.targets[:, mine].contiguous()
        size = window or steps
        stops = sorted({0, streams.burn_in, *(step for step, _ in streams.resets), steps})
        self.cuts = [*(cut for start, stop in pairwise(stops) for cut in range(start, stop, size)), steps]
        self.resets: dict[int, list[int]] = {}
        for step, stream in streams.resets:
            if stream // share == rank:
                self.resets.setdefault(step, []).append(stream % share)

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def __getitem__(self, index: int | np.ndarray) -> TokenBatch:
        """Return window `index`: a number, an array of one as `BatchOrder` yields it, or steps from `RandomWindows`."""
        given = np.asarray(index).reshape(-1).tolist()
        if len(given) == 2:
            start, stop = given
        else:
            (k,) = given
            if not 0 <= k < len(self):
                raise IndexError(k)
            start, stop = self.cuts[k], self.cuts[k + 1]
        reset = torch.full((self.inputs.shape[1],), start == 0)
        reset[self.resets.get(start, [])] = True
        return TokenBatch(self.inputs[start:stop].long(), self.targets[start:stop].long(), reset)


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
