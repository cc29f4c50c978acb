"""A recurrent forecaster: a cycle taken out, window normalisation, a core over the look-back, a decoder, an output.

Patches and channel independence follow PatchTST (Nie et al. 2023, arXiv:2211.14730). The parts stand in `series/`:
`cycle.py`, `normalization.py`, `covariates.py`, `decoders.py`, `outputs.py`. It knows nothing of data sets.

Dimensions: B batch, T look-back, C channels, K target channels, P horizon, H the core's output, n parameters of the
output. Rows R of the core: B windows, or B*K where channels are independent. S patches.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gatelab.core.contract import make_core
from gatelab.core.series.covariates import CovariateFeatures, Covariates
from gatelab.core.series.cycle import Cycle
from gatelab.core.series.decoders import (
    MLP,
    DecoderName,
    Direct,
    Recursive,
    Segments,
    Summary,
)
from gatelab.core.series.normalization import Normalization, Statistics, WindowNorm
from gatelab.core.series.outputs import Output, OutputName, make_output

Choose = Callable[[Tensor], Tensor]
"""The values [B, p, K] that are fed back, from their parameters."""


class Forecaster(nn.Module):
    """Forecast P steps of K channels: `model(past [B, T, C], covariates=None) -> [B, P, K]`, or `[B, P, K, n]`.

    The latter where `output` is a distribution of n parameters; `model.output` tells what they mean
    (`gatelab.core.series.outputs`). They are on the scale of `past`.

    Args:
        channels: C.
        horizon: P, steps.
        core: makes the recurrent core (see `Core`) when called as `core(input_size=...)`; it must be time-major.
        targets: indices of the K target channels among the C inputs; None takes all, in order.
        normalization: of each window by its own past, see `WindowNorm`.
        channel_independent: one univariate core, shared by all channels; only target channels are read.
        patch: the look-back is cut into patches of this many steps, so the core runs T/patch steps.
        dropout: on the state that the head reads.
        output: point, quantiles, gaussian, student_t or negative_binomial.
        levels: of the quantiles; None: .1, .2 ... .9.
        decoder: direct, segments, recursive or mlp, see `gatelab.core.series.decoders`. A recursive one with a
            distribution learns from the true values before each step (teacher forcing); what it says of later steps
            comes from `trajectories`, since its parameters hold only if every step before had been the point forecast.
        segment: steps of a future segment (decoder=segments); None: as many as `patch`.
        width: a linear map and a ReLU make so many inputs of the core from a patch, as in SegRNN; None: the core reads
            the patch itself, with decoder=segments as many as the core's output has.
        mlp_size: of decoder=mlp, numbers that tell a step what the state says of it, and units of what reads them.
        known, known_codes, static, static_codes, embedding_size: covariates, see `CovariateFeatures`.
        mask_input: whether each value of the past was observed, as a further input.
        cycle: steps of a learnt cycle that is taken from the past and added to the forecast, see `Cycle`; windows must
            then tell where they start (`Covariates.start`). None: no cycle.

    Raises ValueError where they do not fit together.
    """

    index: Tensor

    def __init__(
        self,
        channels: int,
        horizon: int,
        core: Callable[..., Any],
        *,
        targets: Sequence[int] | None = None,
        normalization: Normalization = "revin",
        channel_independent: bool = False,
        patch: int = 1,
        dropout: float = 0.0,
        output: OutputName = "point",
        levels: Sequence[float] | None = None,
        decoder: DecoderName = "direct",
        segment: int | None = None,
        width: int | None = None,
        mlp_size: int = 32,
        known: int = 0,
        known_codes: Sequence[int] = (),
        static: int = 0,
        static_codes: Sequence[int] = (),
        embedding_size: int | None = None,
        mask_input: bool = False,
        cycle: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "horizon": horizon, "patch": patch, "mlp_size": mlp_size}
        sizes |= {name: n for name, n in {"segment": segment, "width": width}.items() if n is not None}
        for name, value in sizes.items():
            if value <= 0:
                raise ValueError(f"{name} must be greater than zero, got {value}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be a probability, 0 <= dropout <= 1, got {dropout!r}")
        chosen = list(range(channels)) if targets is None else list(targets)
        if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= i < channels for i in chosen):
            raise ValueError(f"targets must be distinct indices in 0 ... {channels - 1}, got {chosen}")
        self.channels, self.horizon, self.patch, self.dropout = channels, horizon, patch, float(dropout)
        self.channel_independent, self.mask_input = channel_independent, mask_input
        self.register_buffer("index", torch.tensor(chosen), persistent=False)
        self.normalization = WindowNorm(channels, normalization)
        self.output = make_output(output, levels)
        if self.normalization.moves and not self.output.has_location:
            raise ValueError(
                f"output={output} is of counts from 0, which normalization={normalization} moves to another level; "
                "give task.net.normalization=scale or none"
            )
        self.cycle = None if cycle is None else Cycle(cycle, channels)
        if cycle is not None:
            _check_cycle(decoder, self.output)
        self.covariates = CovariateFeatures(known, known_codes, static, static_codes, embedding_size)
        if width is None and decoder == "segments":
            width = _output_size(core)
        values = patch if channel_independent else patch * channels
        inputs = values * (2 if mask_input else 1) + patch * self.covariates.step_size
        inputs += self.covariates.series_size
        self.core = make_core(core, width or inputs, "Forecaster", None)
        self.embed = nn.Sequential(nn.Linear(inputs, width), nn.ReLU()) if width else None
        self.decoder = decoder
        self.head = self._make_head(segment or patch, width or inputs, mlp_size)

    def _make_head(self, segment: int, core_input: int, mlp_size: int) -> Any:
        state, horizon, rows = self.core.output_size, self.horizon, len(self.index)
        values = (1 if self.channel_independent else rows, self.output.size)
        features = self.covariates.step_size + self.covariates.series_size
        if self.decoder == "direct":
            return Direct(state, horizon, values, features, self.dropout)
        if self.decoder == "mlp":
            return MLP(state, horizon, values, features, self.dropout, mlp_size)
        if self.decoder == "segments":
            rows = rows if self.channel_independent else 1
            sizes = (core_input, state, horizon, values, features, self.dropout)
            return Segments(*sizes, segment, rows)
        if self.decoder != "recursive":
            raise ValueError(f"decoder must be direct, segments, recursive or mlp, got {self.decoder!r}")
        if not self.channel_independent and rows < self.channels:
            raise ValueError(
                f"decoder=recursive feeds back every channel that it reads, but only {rows} of {self.channels} are "
                "forecast; forecast all (data.target=null) or give task.net.channel_independent=true"
            )
        if getattr(self.core, "bidirectional", False):
            raise ValueError("decoder=recursive goes on from the past: the core must not be bidirectional")
        return Recursive(state, self.patch, values, self.dropout)

    @property
    def teacher_forcing(self) -> bool:
        """Whether a training step must give the true future, to be fed back."""
        return self.decoder == "recursive" and self.output.is_distribution

    def forward(
        self, past: Tensor, covariates: Covariates | None = None, future: Tensor | None = None
    ) -> Tensor:
        """Return the forecast [B, P, K], or parameters [B, P, K, n], for `past` [B, T, C].

        T must be a multiple of `patch`. `future` [B, P, K] is read by a recursive decoder only, which then feeds back
        its values in place of its own point forecasts.

        Raises ValueError for another shape, and where covariates are missing that the network was made for.
        """
        window = self._window(past, covariates)
        if self.decoder == "recursive" and future is not None:
            return self._follow(window, future)
        y, state = self._summary(window)
        if self.decoder == "recursive":
            return self._go_on(window, y, state, self.output.point)
        ahead = window.ahead(past.shape[1], self.horizon)
        ahead = None if ahead is None else self._of_rows(ahead)
        forecast = self._finish(self.head(Summary(y, state, ahead, self.core)), window.statistics)
        if window.cycle is None:
            return forecast
        cycle = window.cycle[:, past.shape[1] :, self.index]
        return self.output.moved(forecast, lambda values: values + cycle, torch.ones_like(cycle))

    def trajectories(
        self,
        past: Tensor,
        covariates: Covariates | None = None,
        n: int = 100,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return n futures drawn for each window, [n, B, P, K].

        A recursive decoder draws each step given the steps before. Any other draws each step for itself: then only
        single steps mean something, not a path.
        """
        if self.decoder != "recursive":
            return self.output.sample(self(past, covariates), n, generator)
        window = self._window(past, covariates)
        y, state = self._summary(window)
        channels = len(self.index) if self.channel_independent else 1
        drawn: list[Tensor] = []

        def choose(parameters: Tensor) -> Tensor:
            drawn.append(self.output.sample(parameters, 1, generator)[0])
            return drawn[-1]

        y, state = _repeat(y, n, channels, 0), _repeat(state, n, channels, 1)
        self._go_on(window.repeated(n), y, state, choose)
        return torch.cat(drawn, dim=1)[:, : self.horizon].unflatten(0, (-1, n)).movedim(1, 0)

    # the parts of a forecast

    def _window(self, past: Tensor, covariates: Covariates | None) -> "_Window":
        """The normalised past of the channels that the core reads, and the covariates as features."""
        if past.dim() != 3 or past.shape[2] != self.channels or past.shape[1] == 0:
            raise ValueError(f"past must be [B, T, {self.channels}] with T >= 1, got {list(past.shape)}")
        if past.shape[1] % self.patch:
            raise ValueError(f"patch={self.patch} does not divide the look-back of {past.shape[1]} steps")
        given = covariates or Covariates()
        cycle = None
        if self.cycle is not None:
            if given.start is None:
                raise ValueError("cycle: the network must be told where windows start (covariates.start [B])")
            cycle = self.cycle(given.start, past.shape[1] + self.horizon)
            past = past - cycle[:, : past.shape[1]]
        x, statistics = self.normalization(past, given.observed)
        steps, static = self.covariates(given, past.shape[1] + self.horizon)
        observed = given.observed
        if self.mask_input:
            observed = torch.ones_like(x) if observed is None else observed.to(x.dtype)
        else:
            observed = None
        if self.channel_independent:
            x = x[..., self.index]
            observed = None if observed is None else observed[..., self.index]
        return _Window(x, observed, steps, static, statistics, cycle)

    def _summary(self, window: "_Window") -> tuple[Tensor, Any]:
        """The core's last output [R, H] and its state; of a reverse direction, the output that has seen every step."""
        steps = window.steps
        if self.decoder == "recursive":  # a step reads the covariates of the one that it is to forecast
            steps = self._moved(steps)
        length = window.x.shape[1]
        x = self._inputs(
            window.x, window.observed, None if steps is None else steps[:, :length], window.static
        )
        y, state = self.core(x)
        if not getattr(self.core, "bidirectional", False):
            return y[-1], state
        hidden = y.shape[-1] // 2
        return torch.cat((y[-1, :, :hidden], y[0, :, hidden:]), dim=-1), state

    def _moved(self, steps: Tensor | None) -> Tensor | None:
        """Features of the steps one patch later; the last of them are never read."""
        return None if steps is None else nn.functional.pad(steps[:, self.patch :], (0, 0, 0, 2 * self.patch))

    def _go_on(self, window: "_Window", y: Tensor, state: Any, choose: Choose) -> Tensor:
        """Forecast patch after patch from the output y [R, H]; `choose` makes the next input from the last forecast."""
        length, steps, forecast = window.x.shape[1], self._moved(window.steps), []
        for start in range(0, self.horizon, self.patch):
            parameters = self._finish(self.head(y), window.statistics)
            forecast.append(parameters)
            value = choose(parameters)
            if start + self.patch < self.horizon:
                now = slice(length + start, length + start + self.patch)
                features = None if steps is None else steps[:, now]
                x = self._inputs(self._fed(value, window.statistics), None, features, window.static)
                out, state = self.core(x, state)
                y = out[0]
        return torch.cat(forecast, dim=1)[:, : self.horizon]

    def _follow(self, window: "_Window", future: Tensor) -> Tensor:
        """Forecast each patch from the true values before it, all in one call of the core."""
        known = (self.horizon - 1) // self.patch * self.patch  # steps of the future that are fed
        x = torch.cat((window.x, self._fed(future[:, :known], window.statistics)), dim=1)
        steps, observed = self._moved(window.steps), window.observed
        if observed is not None:
            observed = torch.cat((observed, torch.ones_like(x[:, observed.shape[1] :])), dim=1)
        features = None if steps is None else steps[:, : x.shape[1]]
        y, _ = self.core(self._inputs(x, observed, features, window.static))
        raw = self.head(y[window.x.shape[1] // self.patch - 1 :])  # [P/patch, R, patch, k, n]
        raw = raw.transpose(0, 1).flatten(1, 2)[:, : self.horizon]
        return self._finish(raw, window.statistics)

    def _fed(self, values: Tensor, statistics: Statistics) -> Tensor:
        """Values [B, p, K] on the scale of the data as inputs [B, p, C]."""
        x = self.normalization.apply_to(values, statistics, self.index)
        return x if self.channel_independent else x[..., self.index.argsort()]

    def _inputs(
        self, x: Tensor, observed: Tensor | None, steps: Tensor | None, static: Tensor | None
    ) -> Tensor:
        """The core's input [S, R, D] from values [B, S * patch, C], and what there is beside them."""
        if self.mask_input and observed is None:
            observed = torch.ones_like(x)
        parts = [self._as_steps(x)] + ([] if observed is None else [self._as_steps(observed)])
        if steps is not None:
            batch, length, size = steps.shape
            patches = steps.reshape(batch, length // self.patch, self.patch * size)
            parts.append(self._of_rows(patches).transpose(0, 1))
        if static is not None:
            parts.append(self._of_rows(static).expand(parts[0].shape[0], -1, -1))
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return joined if self.embed is None else self.embed(joined)

    def _as_steps(self, x: Tensor) -> Tensor:
        """Cut x [B, T, C] into the core's input: [T/patch, B, patch*C], or [T/patch, B*C, patch]."""
        batch, steps, channels = x.shape
        x = x.reshape(batch, steps // self.patch, self.patch, channels)
        if self.channel_independent:
            return x.permute(1, 0, 3, 2).reshape(-1, batch * channels, self.patch)
        return x.transpose(0, 1).reshape(-1, batch, self.patch * channels)

    def _of_rows(self, x: Tensor) -> Tensor:
        """What belongs to windows [B, ...], for the rows [R, ...]."""
        return x.repeat_interleave(len(self.index), dim=0) if self.channel_independent else x

    def _finish(self, raw: Tensor, statistics: Statistics) -> Tensor:
        """The output's parameters, on the scale of the data, from raw numbers [R, p, k, n]."""
        if self.channel_independent:
            _, steps, _, n = raw.shape
            raw = raw.view(-1, len(self.index), steps, n).transpose(1, 2)
        if self.output.is_distribution and raw.dtype in (torch.bfloat16, torch.float16):
            raw = raw.float()  # a likelihood has too few digits in half precision
        norm = self.normalization
        return self.output.moved(
            self.output.parameters(raw),
            lambda values: norm.undo(values, statistics, self.index),
            norm.stretch(statistics, self.index),
        )


class _Window(NamedTuple):
    """A batch of windows as the core reads them.

    Attributes:
        x: normalised values [B, T, C]; observed: which of them count, 0 or 1, where the core is told.
        steps: features of every step [B, T + P, E]; static: of the series [B, F]; None where there are none.
        cycle: levels of every step [B, T + P, C], those of the past taken from `x` already; None: there is no cycle.
    """

    x: Tensor
    observed: Tensor | None
    steps: Tensor | None
    static: Tensor | None
    statistics: Statistics
    cycle: Tensor | None

    def ahead(self, past: int, horizon: int) -> Tensor | None:
        """All features of the future steps [B, P, E + F]."""
        parts = [] if self.steps is None else [self.steps[:, past:]]
        if self.static is not None:
            parts.append(self.static[:, None].expand(-1, horizon, -1))
        return torch.cat(parts, dim=-1) if parts else None

    def repeated(self, times: int) -> "_Window":
        """Each window `times` times, one after the other."""
        return _Window(*(_repeat(part, times, 1, 0) for part in self))


def _repeat(part: Any, times: int, together: int, dim: int) -> Any:
    """Repeat blocks of `together` rows in dimension `dim` of a tensor or of a nest of tuples of them; None stays."""
    if part is None:
        return None
    if isinstance(part, tuple):
        return tuple(_repeat(one, times, together, dim) for one in part)
    blocks = part.unflatten(dim, (-1, together)).repeat_interleave(times, dim=dim)
    return blocks.flatten(dim, dim + 1)


def _check_cycle(decoder: str, output: Output) -> None:
    """Raise ValueError for a decoder or an output that cannot go with a cycle."""
    if decoder == "recursive":
        raise ValueError(
            "cycle: decoder=recursive feeds back its own forecasts; give task.net.decoder=direct, segments or mlp"
        )
    if not output.has_location:
        raise ValueError(
            f"cycle: output={output.name} is of counts from 0, which a cycle moves to another level; give "
            "task.net.output=quantiles, or task.net.cycle=null"
        )


def _output_size(core: Callable[..., Any]) -> int:
    """The features of the core's output, from one that is made without memory or random numbers."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the caller hears of them when the core is made in earnest
        return int(make_core(core, 1, "Forecaster", None).output_size)
