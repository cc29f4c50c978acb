"""Convolutions over time in front of a recurrent core, each band by itself.

De Andrade et al. 2018 (arXiv:1808.08929) read the bands of a sound so before their recurrent layers, and the best model
of google-research/kws_streaming with a GRU does (Rybakov et al. 2020, arXiv:2005.06720): filters 10 and 1, five frames.

Dimensions: T time, B batch, C channels (bands), R filters of a layer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.unroll import padding


class MaskedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics leave out what lies behind a sequence's end."""

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """Normalise x `[B, R, T, C]`; real: `[B, 1, T, 1]`, 0 behind a sequence's end, else 1, None: all is."""
        if real is None or not self.training:
            return super().forward(x)
        count = real.sum() * x.shape[3]
        mean = (x * real).sum((0, 2, 3)) / count
        centred = x - mean[:, None, None]
        variance = (centred.square() * real).sum((0, 2, 3)) / count
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            share = self.momentum or 0.1
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), share)
            self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]


class FrameConvolutions(nn.Module):
    """Layers of convolution, ReLU and batch normalisation: `module(x [T, B, C], lengths) -> [T, B, R C]`.

    Every band is convolved over time by the same filters, and zeros stand before its begin and behind its end.

    Args:
        filters: R of each layer; the last one's are read side by side.
        width: steps that a filter reads, odd.

    Raises ValueError where these do not fit.
    """

    def __init__(self, filters: Sequence[int], width: int = 5) -> None:
        super().__init__()
        if not filters or min(filters) < 1:
            raise ValueError(f"convolutions={list(filters)}: give the filters of each layer, such as [10, 1]")
        if width < 1 or width % 2 == 0:
            raise ValueError(f"convolution_width={width}: give an odd number of steps")
        sizes = [1, *filters]
        self.layers = nn.ModuleList(
            nn.Conv2d(read, made, (width, 1), padding=(width // 2, 0))
            for read, made in zip(sizes, filters, strict=False)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(made) for made in filters)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return what the last layer says, zero behind a sequence's end."""
        real = None
        y = x.transpose(0, 1).unsqueeze(1)  # [B, 1, T, C]
        if lengths is not None:
            real = (~padding(lengths, len(x))).T[:, None, :, None].to(x.dtype)
            y = y * real
        for layer, norm in zip(self.layers, self.norms, strict=True):
            y = norm(F.relu(layer(y)), real)
            y = y if real is None else y * real
        return y.permute(2, 0, 1, 3).flatten(2)
