"""Quantiles of Student's t and of the negative binomial, and gamma variates from a generator: PyTorch has none of them.

All of it is in float64 and without gradient.
"""

import functools
import math

import torch
from torch import Tensor

EXACT_COUNTS = 1024
"""Up to here quantiles of counts are exact; above, within one part in as many."""
_LARGEST = 1e12
_TABLE = 257


def student_t_quantile(df: Tensor, level: float) -> Tensor:
    """The quantile of Student's t with df >= 2 degrees of freedom, within 2e-5 of its size between .001 and .999."""
    table = _student_t_table(level).to(df.device)
    place = (2.0 / df.double()).clamp(0, 1) * (_TABLE - 1)
    below = place.floor().clamp(max=_TABLE - 2).long()
    return torch.lerp(table[below], table[below + 1], place - below)


@functools.lru_cache(maxsize=64)
def _student_t_table(level: float) -> Tensor:
    """The quantile over 1/df = 0 (the normal distribution) ... 1/2, equally spaced.

    Newton's method on F(x) = 1/2 + c sqrt(df) * integral of cos(a)^(df - 1) over a = 0 ... atan(x / sqrt(df)), by
    Simpson's rule. F is concave above 0 and x starts below the root, at the normal quantile, so it never overshoots.
    """
    if level == 0.5:
        return torch.zeros(_TABLE, dtype=torch.float64)
    above = max(level, 1 - level)
    normal = torch.special.ndtri(torch.tensor(above, dtype=torch.float64))
    df = 1 / torch.linspace(0, 0.5, _TABLE, dtype=torch.float64)[1:]
    c = torch.exp(torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2)) / (df * math.pi).sqrt()
    nodes = torch.linspace(0, 1, 129, dtype=torch.float64)
    weights = torch.ones(129, dtype=torch.float64)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    x = normal.expand_as(df)
    for _ in range(40):
        end = (x / df.sqrt()).atan()
        heights = ((df[:, None] - 1) * (end[:, None] * nodes).cos().log()).exp()
        cdf = 0.5 + c * df.sqrt() * end / 384 * (heights @ weights)
        step = (above - cdf) / (c * (1 + x.square() / df) ** (-(df + 1) / 2))
        x = x + step
        if float(step.abs().max()) < 1e-10:
            break
    table = torch.cat((normal[None], x))
    return table if level > 0.5 else -table


def count_log_prob(count: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
    """Log probability of the negative binomial with variance mean + dispersion * mean^2, in the dtype of its arguments.

    With r = 1/dispersion: lgamma(y + r) - lgamma(r) - lgamma(y + 1) - (y + r) log(1 + mean/r) + y log(mean/r).
    """
    r, ratio = 1 / dispersion, mean * dispersion
    combinations = torch.lgamma(count + r) - torch.lgamma(r) - torch.lgamma(count + 1)
    return combinations - (count + r) * torch.log1p(ratio) + torch.xlogy(count, ratio)


def count_quantiles(mean: Tensor, dispersion: Tensor, levels: Tensor) -> Tensor:
    """The least counts with a cumulative probability of at least `levels`; all three broadcast.

    The probabilities are summed up from 0; above `EXACT_COUNTS` in blocks, each by the one in its middle.
    """
    mean, dispersion, levels = torch.broadcast_tensors(mean.double(), dispersion.double(), levels.double())
    total, found = torch.zeros_like(mean), torch.zeros_like(mean)
    first = 0
    while first < _LARGEST:
        width = max(1, first // EXACT_COUNTS)
        middle = first + (width - 1) / 2
        total = total + width * count_log_prob(torch.full_like(mean, middle), mean, dispersion).exp()
        first += width
        short = total < levels
        if not bool(short.any()):
            break
        found = torch.where(short, float(first), found)
    return found


def gamma_variates(shape: Tensor, generator: torch.Generator | None) -> Tensor:
    """One draw from the gamma distribution (scale 1) for each shape > 0: Marsaglia and Tsang 2000.

    For a shape below 1 that of shape + 1 is drawn, times u^(1/shape).
    """
    shape = shape.double()
    d = torch.where(shape < 1, shape + 1, shape) - 1 / 3
    drawn, open_ = torch.zeros_like(d), torch.ones_like(d, dtype=torch.bool)
    while bool(open_.any()):
        x = torch.randn(d.shape, generator=generator, dtype=d.dtype, device=d.device)
        u = torch.rand(d.shape, generator=generator, dtype=d.dtype, device=d.device)
        v = (1 + x / (9 * d).sqrt()) ** 3
        accepted = (v > 0) & (u.log() < 0.5 * x.square() + d - d * v + d * v.clamp(min=1e-300).log())
        drawn = torch.where(open_ & accepted, d * v, drawn)
        open_ = open_ & ~accepted
    u = torch.rand(d.shape, generator=generator, dtype=d.dtype, device=d.device)
    return torch.where(shape < 1, drawn * u ** (1 / shape), drawn)
