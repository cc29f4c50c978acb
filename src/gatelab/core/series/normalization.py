"""Normalisation of each window by its own past, undone on the forecast.

RevIN (Kim et al. 2022, "Reversible instance normalization") and its relatives: subtraction of the last value, and
division by the mean absolute value (Salinas et al. 2020, DeepAR). The statistics come from the observed values of the
look-back only. This is not the scaler of the data set, which is fitted once on the training split.

Dimensions: B windows, T look-back, C channels, K target channels, P horizon.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Normalization = Literal["revin", "last", "scale", "none"]
Statistics = tuple[Tensor, Tensor] | None
KINDS = ("revin", "last", "scale", "none")


class WindowNorm(nn.Module):
    """Normalise a look-back window and bring a forecast back to its level and scale.

    `norm(past [B, T, C]) -> (normalised past, statistics)`; `norm.undo(forecast [B, P, K], statistics,
    index [K])`.

    Args:
        channels: C.
        kind: "revin" subtracts the window's mean, divides by its standard deviation and applies a learned
            scale and shift per channel; "last" subtracts the last value; "scale" divides by the mean absolute value;
            "none" does nothing.
        eps: added to the variance, so that a constant window stays finite.
    """

    def __init__(self, channels: int, kind: Normalization, eps: float = 1e-5) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"normalization must be 'revin', 'last', 'scale' or 'none', got {kind!r}")
        self.kind, self.eps = kind, eps
        if kind == "revin":
            self.scale = nn.Parameter(torch.ones(channels))
            self.shift = nn.Parameter(torch.zeros(channels))

    @property
    def moves(self) -> bool:
        """Whether a forecast is moved to another level, not only scaled."""
        return self.kind in ("revin", "last")

    def forward(self, past: Tensor, observed: Tensor | None = None) -> tuple[Tensor, Statistics]:
        """Return the normalised past and the statistics (level, spread), each [B, 1, C].

        `observed` [B, T, C]: what is not observed counts in no statistics, and becomes 0, the window's own level.
        """
        if self.kind == "none":
            return past, None
        level, spread = self._last(past, observed) if self.kind == "last" else self._moments(past, observed)
        statistics = (level, spread)
        if self.kind == "last":
            x = past - level
        elif self.kind == "scale":
            x = past / spread
        else:
            x = (past - level) / spread * self.scale + self.shift
        return (x if observed is None else x * observed), statistics

    def _last(self, past: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
        if observed is None:
            level = past[:, -1:]
        else:  # of the last observed step; a window without one is 0 everywhere
            steps = torch.arange(past.shape[1], device=past.device)[:, None]
            level = past.gather(1, (observed * steps).argmax(dim=1, keepdim=True))
        return level, torch.ones_like(level)

    def _moments(self, past: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.kind == "scale":
            size = _mean(past.abs(), observed)
            return torch.zeros_like(size), torch.where(size > 0, size, 1.0)
        if observed is None:
            level = past.mean(dim=1, keepdim=True)
            return level, (past.var(dim=1, keepdim=True, unbiased=False) + self.eps).sqrt()
        level = _mean(past, observed)
        return level, (_mean((past - level).square(), observed) + self.eps).sqrt()

    def apply_to(self, values: Tensor, statistics: Statistics, index: Tensor) -> Tensor:
        """Normalise later values [B, P, K] of the channels `index` [K] with the statistics of the window."""
        if statistics is None:
            return values
        level, spread = (s[..., index] for s in statistics)
        x = (values - level) / spread
        return x * self.scale[index] + self.shift[index] if self.kind == "revin" else x

    def undo(self, forecast: Tensor, statistics: Statistics, index: Tensor) -> Tensor:
        """Bring forecast [B, P, K] back; `index` [K] says which channel each forecast column is."""
        if statistics is None:
            return forecast
        level, spread = (s[..., index] for s in statistics)
        if self.kind == "revin":
            forecast = (forecast - self.shift[index]) / self._scale(index)
        return forecast * spread + level

    def stretch(self, statistics: Statistics, index: Tensor) -> Tensor | None:
        """How many times wider `undo` makes a distribution: [B, 1, K], positive; None: as wide as it was."""
        if statistics is None:
            return None
        spread = statistics[1][..., index]
        return spread / self._scale(index).abs() if self.kind == "revin" else spread

    def _scale(self, index: Tensor) -> Tensor:
        # the learned scale may pass through zero: eps**2 keeps the division finite, as in the authors' code
        return self.scale[index] + self.eps**2


def _mean(x: Tensor, observed: Tensor | None) -> Tensor:
    """The mean over the observed steps [B, 1, C]; 0 where there are none."""
    if observed is None:
        return x.mean(dim=1, keepdim=True)
    return (x * observed).sum(dim=1, keepdim=True) / observed.sum(dim=1, keepdim=True).clamp(min=1)
