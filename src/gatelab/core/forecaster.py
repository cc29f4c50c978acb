"""A recurrent forecaster: window normalisation, recurrent core over the look-back, direct multi-horizon head.

All horizons come from the last state at once (a direct forecast); nothing is fed back step by step. Patches
and channel independence follow PatchTST (Nie et al. 2023, arXiv:2211.14730). It knows nothing of losses or
data sets.

Each window of a series may be normalised by its own past, undone on the forecast: RevIN (Kim et al. 2022,
"Reversible instance normalization") or its simplest relative, subtraction of the last value. The statistics come from
the look-back only. This is not the scaler of the data set, which is fitted once on the training split.

Dimensions: B batch, T look-back, C channels, K target channels, P horizon, H the core's output.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.contract import make_core

Normalization = Literal["revin", "last", "none"]


class WindowNorm(nn.Module):
    """Normalise a look-back window and bring a forecast back to its level and scale.

    `norm(past [B, T, C]) -> (normalised past, statistics)`; `norm.undo(forecast [B, P, K], statistics,
    index [K])`.

    Args:
        channels: C.
        kind: "revin" subtracts the window's mean, divides by its standard deviation and applies a learned
            scale and shift per channel; "last" subtracts the last value; "none" does nothing.
        eps: added to the variance, so that a constant window stays finite.
    """

    def __init__(self, channels: int, kind: Normalization, eps: float = 1e-5) -> None:
        super().__init__()
        if kind not in ("revin", "last", "none"):
            raise ValueError(f"normalization must be 'revin', 'last' or 'none', got {kind!r}")
        self.kind, self.eps = kind, eps
        if kind == "revin":
            self.scale = nn.Parameter(torch.ones(channels))
            self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, past: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Return the normalised past and the statistics (level, spread), each [B, 1, C]."""
        if self.kind == "none":
            return past, None
        if self.kind == "last":
            level = past[:, -1:]
            return past - level, (level, torch.ones_like(level))
        level = past.mean(dim=1, keepdim=True)
        spread = (past.var(dim=1, keepdim=True, unbiased=False) + self.eps).sqrt()
        return (past - level) / spread * self.scale + self.shift, (level, spread)

    def undo(self, forecast: Tensor, statistics: tuple[Tensor, Tensor] | None, index: Tensor) -> Tensor:
        """Bring forecast [B, P, K] back; `index` [K] says which channel each forecast column is."""
        if statistics is None:
            return forecast
        level, spread = (s[..., index] for s in statistics)
        if self.kind == "revin":
            # the learned scale may pass through zero: eps**2 keeps the division finite, as in the authors' code
            forecast = (forecast - self.shift[index]) / (self.scale[index] + self.eps**2)
        return forecast * spread + level


class Forecaster(nn.Module):
    """Forecast P steps of K channels from the look-back: `model(past [B, T, C]) -> [B, P, K]`.

    Args:
        channels: C.
        horizon: P, steps.
        core: makes the recurrent core (see `Core`) when called as `core(input_size=...)`; it must be time-major.
        targets: indices of the K target channels among the C inputs; None takes all, in order.
        normalization: of each window by its own past, see `WindowNorm`.
        channel_independent: one univariate core, shared by all channels; only target channels are read.
        patch: the look-back is cut into patches of this many steps, so the core runs T/patch steps.
        dropout: on the state that the head reads.
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
    ) -> None:
        super().__init__()
        for name, value in {"channels": channels, "horizon": horizon, "patch": patch}.items():
            if value <= 0:
                raise ValueError(f"{name} must be greater than zero, got {value}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be a probability, 0 <= dropout <= 1, got {dropout!r}")
        chosen = list(range(channels)) if targets is None else list(targets)
        if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= i < channels for i in chosen):
            raise ValueError(f"targets must be distinct indices in 0 ... {channels - 1}, got {chosen}")
        self.channels, self.horizon, self.patch, self.dropout = channels, horizon, patch, float(dropout)
        self.channel_independent = channel_independent
        self.register_buffer("index", torch.tensor(chosen), persistent=False)
        self.normalization = WindowNorm(channels, normalization)
        self.core = make_core(core, patch if channel_independent else patch * channels, "Forecaster", None)
        outputs = horizon if channel_independent else horizon * len(chosen)
        self.head = nn.Linear(self.core.output_size, outputs)

    def forward(self, past: Tensor) -> Tensor:
        """Return the forecast [B, P, K] for `past` [B, T, C]; T must be a multiple of `patch`."""
        if past.dim() != 3 or past.shape[2] != self.channels or past.shape[1] == 0:
            raise ValueError(f"past must be [B, T, {self.channels}] with T >= 1, got {list(past.shape)}")
        batch, steps, _ = past.shape
        if steps % self.patch:
            raise ValueError(f"patch={self.patch} does not divide the look-back of {steps} steps")
        x, statistics = self.normalization(past)
        x = x[..., self.index] if self.channel_independent else x
        y = self.head(F.dropout(self._summary(self._as_steps(x)), self.dropout, self.training))
        if self.channel_independent:
            forecast = y.view(batch, len(self.index), self.horizon).transpose(1, 2)
        else:
            forecast = y.view(batch, self.horizon, len(self.index))
        return self.normalization.undo(forecast, statistics, self.index)

    def _as_steps(self, x: Tensor) -> Tensor:
        """Cut x [B, T, C] into the core's input: [T/patch, B, patch*C], or [T/patch, B*C, patch]."""
        batch, steps, channels = x.shape
        x = x.view(batch, steps // self.patch, self.patch, channels)
        if self.channel_independent:
            return x.permute(1, 0, 3, 2).reshape(-1, batch * channels, self.patch)
        return x.transpose(0, 1).reshape(-1, batch, self.patch * channels)

    def _summary(self, x: Tensor) -> Tensor:
        """The core's last output [B, H]; of a reverse direction, the output that has seen every step."""
        y, _ = self.core(x)
        if not getattr(self.core, "bidirectional", False):
            return y[-1]
        hidden = y.shape[-1] // 2
        return torch.cat((y[-1, :, :hidden], y[0, :, hidden:]), dim=-1)
