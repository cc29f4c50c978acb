"""From the state after the look-back to the raw numbers of every future step: the heads of a `Forecaster`.

    direct      one linear map from the last state to all steps, and a linear function of each step's covariates
    mlp         a context for each step from the last state; context and covariates of the step through a small network
                (the decoder of MQ-RNN, Wen et al. 2017, arXiv:1711.11053)
    segments    each future segment by one step of the same core, all from the last state and at once: a step reads
                which segment and which channel it is for, instead of values (SegRNN, Lin et al. 2023, arXiv:2308.11200)
    recursive   the core goes on, step after step; what it said is its next input (`Forecaster` does the feeding)

Each is called with a `Summary` of the look-back and returns `[R, P, k, n]`; the last one reads an output of the core
and returns the next `patch` steps. A row R is a window, or one channel of a window where channels are independent.

Dimensions: R rows, P horizon, k channels of a row (all K targets, or 1), n raw numbers a value, H the core's output,
D its input, E features of a future step, M segments.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.gru import GRU

DecoderName = Literal["direct", "segments", "recursive", "mlp"]


class Summary(NamedTuple):
    """What a decoder starts from.

    Attributes:
        y: the core's output after the look-back, [R, H]; state: the core's state there, its batch in dimension 1.
        future: features of the future steps [R, P, E], or None; core: the recurrent layer itself.
    """

    y: Tensor
    state: Any
    future: Tensor | None
    core: Callable[..., tuple[Tensor, Any]]


class Direct(nn.Linear):
    """All steps at once from the last state."""

    def __init__(
        self, state: int, horizon: int, values: tuple[int, int], features: int, dropout: float
    ) -> None:
        super().__init__(state, horizon * math.prod(values))
        self.shape, self.dropout = (horizon, *values), dropout
        self.of_features = nn.Linear(features, math.prod(values), bias=False) if features else None

    def forward(self, summary: Summary) -> Tensor:  # type: ignore[override]
        """Return [R, P, k, n]."""
        raw = super().forward(F.dropout(summary.y, self.dropout, self.training)).view(-1, *self.shape)
        if self.of_features is not None:
            assert summary.future is not None
            raw = raw + self.of_features(summary.future).view(raw.shape)
        return raw


class MLP(nn.Module):
    """A context of `size` numbers for each step, then one small network for all steps."""

    def __init__(
        self, state: int, horizon: int, values: tuple[int, int], features: int, dropout: float, size: int
    ) -> None:
        super().__init__()
        self.shape, self.dropout = (horizon, *values), dropout
        self.context = nn.Linear(state, horizon * size)
        self.hidden = nn.Linear(size + features, size)
        self.head = nn.Linear(size, math.prod(values))

    def forward(self, summary: Summary) -> Tensor:
        """Return [R, P, k, n]."""
        y = F.dropout(summary.y, self.dropout, self.training)
        x = self.context(y).view(y.shape[0], self.shape[0], -1)
        x = x if summary.future is None else torch.cat((x, summary.future), dim=-1)
        raw: Tensor = self.head(self.hidden(x).relu())
        return raw.view(-1, *self.shape)


class Segments(nn.Module):
    """Every segment of the future by one step of the core from the last state, in parallel.

    Args:
        rows: into how many channels rows fall, in order and again and again: K where channels are independent, else 1.
            With more than one, half of a step's input tells the channel.
        segment: steps of a segment; the last one is cut where it reaches beyond the horizon.
    """

    def __init__(
        self,
        core_input: int,
        state: int,
        horizon: int,
        values: tuple[int, int],
        features: int,
        dropout: float,
        segment: int,
        rows: int,
    ) -> None:
        super().__init__()
        self.segments = math.ceil(horizon / segment)
        self.horizon, self.segment, self.values, self.dropout = horizon, segment, values, dropout
        of_channel = core_input // 2 if rows > 1 else 0
        self.position = nn.Parameter(torch.randn(self.segments, core_input - of_channel))
        self.channel = nn.Parameter(torch.randn(rows, of_channel)) if of_channel else None
        self.of_features = nn.Linear(segment * features, core_input) if features else None
        self.head = nn.Linear(state, segment * math.prod(values))

    def forward(self, summary: Summary) -> Tensor:
        """Return [R, P, k, n]."""
        rows, m = summary.y.shape[0], self.segments
        groups = 1 if self.channel is None else len(self.channel)  # of rows that read the same
        x = self.position.expand(groups, m, -1)
        if self.channel is not None:
            x = torch.cat((x, self.channel[:, None].expand(groups, m, -1)), dim=-1)
        if self.of_features is not None:
            assert summary.future is not None
            future = F.pad(summary.future, (0, 0, 0, m * self.segment - self.horizon))
            features = self.of_features(future.reshape(rows, m, -1))
            x = (x + features.unflatten(0, (-1, groups))).flatten(0, 1)
        y = _branch(summary.core, x, summary.state, rows)
        raw = self.head(F.dropout(y, self.dropout, self.training))
        return raw.reshape(rows, m * self.segment, *self.values)[:, : self.horizon]


class Recursive(nn.Linear):
    """The next `patch` steps from the last output."""

    def __init__(self, state: int, patch: int, values: tuple[int, int], dropout: float) -> None:
        super().__init__(state, patch * math.prod(values))
        self.shape, self.dropout = (patch, *values), dropout

    def forward(self, y: Tensor) -> Tensor:
        """Return [..., patch, k, n] for outputs [..., H]."""
        raw = super().forward(F.dropout(y, self.dropout, self.training))
        return raw.view(*y.shape[:-1], *self.shape)


def _branch(core: Any, x: Tensor, state: Any, rows: int) -> Tensor:
    """One step of the core from each of the states of R rows with each of M inputs x [K, M, D]: [R, M, H]."""
    if isinstance(core, GRU) and not core.zoneout:
        return core.branch(x, state)
    m = x.shape[1]
    x = x.repeat(rows // len(x), 1, 1)
    y, _ = core(x.reshape(1, rows * m, -1), repeat_state(state, m))
    return y[0].unflatten(0, (rows, m))


def repeat_state(state: Any, times: int) -> Any:
    """The state of a batch in which every row stands `times` times, one after the other; its batch is dimension 1."""
    if isinstance(state, tuple):
        return tuple(repeat_state(part, times) for part in state)
    return state.repeat_interleave(times, dim=1)
