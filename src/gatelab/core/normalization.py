"""Normalisation of each window of a series by its own past, undone on the forecast.

RevIN (Kim et al. 2022, "Reversible instance normalization") and its simplest relative, subtraction of the
last value. The statistics come from the look-back only, never from the future. This is not the scaler of
the data set, which is fitted once on the training split.

Dimensions: B batch, T time, C channels.
"""

from typing import Literal

import torch
from torch import Tensor, nn

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
            # the learned scale may pass through zero: eps**2 keeps the division finite, as in the authors'
            # code
            forecast = (forecast - self.shift[index]) / (self.scale[index] + self.eps**2)
        return forecast * spread + level
