"""Cuts a sequence of tokens into parallel streams and windows: each position is scored exactly once.

Training streams are contiguous pieces of near-equal length. Evaluation streams have a burn-in: a stream that
starts inside the corpus first reads the tokens before its own part without being scored, so that its state,
and with it the perplexity, does not depend on how many streams there are. A training text may have a boundary:
a place where it does not go on from the token before (a fold's validation block was taken out there). Nothing
crosses it: the input there is the seed token, a window ends before it, and that stream's state is reset. Pure
arithmetic on arrays, which may be mapped from a file larger than memory; no Lightning.

Dimensions: `N` tokens, `B` streams, `L` steps of the longest stream.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gatelab.data.messages import DataError
from gatelab.data.specs import IGNORE, TokenBatch

_RESIDENT: Final = 128 << 20
"""Bytes of a mapped file that may lie in this process' memory, about."""
_READ_AHEAD: Final = 64 << 10  # of each place that is read, the system maps about so much


def leave_memory(tokens: np.ndarray) -> None:
    """Give back the memory of what was read of a mapped file; it is read again where it is asked for again."""
    if isinstance(tokens.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        tokens.base.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Streams:
    """`B` streams side by side over one array of tokens, of which nothing is copied until a window is asked for.

    tokens: `[N]`. Stream i reads positions `starts[i]..ends[i]` and is scored on `first[i]..ends[i]`, all `[B]`.
    boundaries: places in `tokens` that do not follow the token before them.
    """

    tokens: np.ndarray
    seed_token: int
    starts: np.ndarray
    first: np.ndarray
    ends: np.ndarray
    boundaries: tuple[int, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """For a loader worker that is not forked: the name of a mapped file, not its content."""
        state, tokens = dict(self.__dict__), self.tokens
        if isinstance(tokens, np.memmap) and tokens.filename is not None:
            state["tokens"] = (tokens.filename, tokens.dtype, "c", tokens.offset, tokens.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["tokens"], tuple):
            state["tokens"] = np.memmap(*state["tokens"])
        self.__dict__.update(state)

    @property
    def steps(self) -> int:
        """Steps of the longest stream."""
        return int((self.ends - self.starts).max())

    @property
    def burn_in(self) -> int:
        """First steps during which only stream 0 is scored."""
        return int((self.first - self.starts).max())

    @property
    def resets(self) -> tuple[tuple[int, int], ...]:
        """(step, stream) of every boundary inside a stream."""
        return tuple(
            (int(at - self.starts[stream]), int(stream))
            for at in self.boundaries
            for stream in np.flatnonzero((self.starts < at) & (at < self.ends))
        )

    def window(self, start: int, stop: int, columns: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return inputs and targets `[stop - start, B]` int64 of some steps; targets are `IGNORE` where not scored."""
        starts, first, ends = self.starts[columns], self.first[columns], self.ends[columns]
        position = starts[None, :] + np.arange(start, stop)[:, None]
        inside = position < ends[None, :]
        follows = inside & (position > 0)
        if self.boundaries:
            follows &= ~np.isin(position, self.boundaries)
        scored = inside & (position >= first[None, :])
        position = np.where(inside, position, 0)
        targets = np.where(scored, self.tokens[position].astype(np.int64), IGNORE)
        before = self.tokens[np.maximum(position - 1, 0)].astype(np.int64)
        inputs = np.where(follows, before, self.seed_token)
        return torch.from_numpy(inputs), torch.from_numpy(targets)


def train_streams(
    tokens: np.ndarray, streams: int, seed_token: int, boundaries: Sequence[int] = ()
) -> Streams:
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
    return Streams(tokens, seed_token, ends - lengths, ends - lengths, ends, tuple(boundaries))


def eval_streams(
    tokens: np.ndarray, streams: int, burn_in: int, seed_token: int, world_size: int = 1
) -> Streams:
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
    too_many = max(0, burn_in + streams - n)
    usable = streams - world_size * min(-(-too_many // world_size), max(0, (streams - 1) // world_size))
    # rounding up: q * usable + burn == n with the smallest burn >= burn_in
    scored = max(1, (n - (burn_in if usable > 1 else 0)) // usable)
    burn = n - usable * scored
    starts = np.arange(usable) * scored
    ends = starts + burn + scored
    first = np.where(np.arange(usable) == 0, 0, starts + burn)
    return Streams(tokens, seed_token, starts, first, ends)


class StreamWindows(Dataset):
    """Windows of `window` steps over a rank's share of the streams; item k is the k-th `TokenBatch` in time.

    A window also ends where the burn-in ends, so the states at that moment are the ones carried between two
    windows; and before a boundary, for all streams alike, since a state can be reset between two windows only.
    """

    def __init__(self, streams: Streams, window: int | None, *, rank: int = 0, world_size: int = 1) -> None:
        steps, columns = streams.steps, len(streams.starts)
        share = columns // world_size
        self.streams = streams
        self.mine = slice(rank * share, (rank + 1) * share)
        size = window or steps
        stops = sorted({0, streams.burn_in, *(step for step, _ in streams.resets), steps})
        # an array, since a large corpus has millions of windows
        inside = [np.arange(start, stop, size) for start, stop in pairwise(stops)]
        self.cuts = np.concatenate([*inside, [steps]])
        self.resets: dict[int, list[int]] = {}
        for step, stream in streams.resets:
            if stream // share == rank:
                self.resets.setdefault(step, []).append(stream % share)
        self._read = 0

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
            start, stop = int(self.cuts[k]), int(self.cuts[k + 1])
        inputs, targets = self.streams.window(start, stop, self.mine)
        streams, tokens = inputs.shape[1], self.streams.tokens
        reset = torch.full((streams,), start == 0)
        reset[self.resets.get(start, [])] = True
        self._read += streams * max((stop - start) * tokens.itemsize, _READ_AHEAD)
        if self._read > _RESIDENT:
            leave_memory(tokens)
            self._read = 0
        return TokenBatch(inputs, targets, reset)
