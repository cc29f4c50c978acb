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
        """Return window `index` (a number, or an array of one number as `BatchOrder` yields it)."""
        k = int(np.asarray(index).item())
        if not 0 <= k < len(self):
            raise IndexError(k)
        rows = slice(self.cuts[k], self.cuts[k + 1])
        reset = torch.full((self.inputs.shape[1],), k == 0)
        reset[self.resets.get(self.cuts[k], [])] = True
        return TokenBatch(self.inputs[rows].long(), self.targets[rows].long(), reset)
