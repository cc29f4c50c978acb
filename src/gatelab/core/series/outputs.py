"""What a forecaster says of each future value: a point, quantiles, or the parameters of a distribution.

An output turns the n raw numbers of a head into parameters on the scale of the data, scores them, and answers with
points, quantiles and draws. All have the interface of `Output`; none holds weights.

    point               a number, whatever objective it is trained with
    quantiles           values at given levels; the median is free, the others stand off it by sums of softplus, so that
                        they cannot cross (as in Park et al. 2022, arXiv:2111.06581)
    gaussian            location, scale
    student_t           location, scale, degrees of freedom above 2 (Salinas et al. 2020, DeepAR, use it likewise)
    negative_binomial   mean, dispersion (ibid.): counts with variance mean + dispersion * mean^2

Dimensions: B windows, P horizon, K target channels, n parameters, Q levels.
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gatelab.core.series.quantile_functions import (
    count_log_prob,
    count_quantiles,
    gamma_variates,
    student_t_quantile,
)

OutputName = Literal["point", "quantiles", "gaussian", "student_t", "negative_binomial"]
DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LEAST_SCALE = 1e-3
"""Of a distribution, on the normalised scale: no density is infinite where a window is constant."""
LEAST_DISPERSION = 1e-4
MOST_FREEDOM = 100.0
"""Degrees of freedom above 2; Student's t is then as good as Gaussian."""


class Output:
    """Base of the outputs; parameters are `[B, P, K, n]`, on the scale of the future that they are compared with.

    Attributes:
        name: as in `task.net.output`; size: n; levels: the quantiles that it is asked for unless others are.
        has_location: whether it can be moved to another level.
    """

    name: str
    size: int
    levels: tuple[float, ...] = DECILES
    has_location = True

    @property
    def is_distribution(self) -> bool:
        """Whether it tells more than a point."""
        return self.name != "point"

    def parameters(self, raw: Tensor) -> Tensor:
        """Parameters on the normalised scale from the head's raw numbers [B, P, K, n]."""
        raise NotImplementedError

    def moved(self, parameters: Tensor, move: Callable[[Tensor], Tensor], stretch: Tensor | None) -> Tensor:
        """Undo a window's normalisation: `move` brings values [B, P, K] back, `stretch` widens distances."""
        raise NotImplementedError

    def loss(self, parameters: Tensor, future: Tensor) -> Tensor:
        """The loss of each future value [B, P, K]: nats, or of quantiles twice the pinball loss, a mean over levels."""
        raise NotImplementedError

    def point(self, parameters: Tensor) -> Tensor:
        """The median [B, P, K]; of counts the mean."""
        raise NotImplementedError

    def quantiles(self, parameters: Tensor, levels: Sequence[float]) -> Tensor:
        """The quantiles [B, P, K, Q] at increasing levels between 0 and 1."""
        raise NotImplementedError

    def sample(self, parameters: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws of each value [n, B, P, K], each value for itself."""
        raise NotImplementedError

    def crps(self, parameters: Tensor, future: Tensor) -> Tensor | None:
        """The continuous ranked probability score of each value [B, P, K]; None where it has no closed form here."""
        return None


class Point(Output):
    """A number for each value; its parameters are itself, [B, P, K]."""

    name, size, levels = "point", 1, ()

    def parameters(self, raw: Tensor) -> Tensor:
        """The raw number itself."""
        return raw[..., 0]

    def moved(self, parameters: Tensor, move: Callable[[Tensor], Tensor], stretch: Tensor | None) -> Tensor:
        """The point, moved."""
        return move(parameters)

    def loss(self, parameters: Tensor, future: Tensor) -> Tensor:
        """The squared error; the task has others."""
        return (parameters - future).square()

    def point(self, parameters: Tensor) -> Tensor:
        """Itself."""
        return parameters

    def quantiles(self, parameters: Tensor, levels: Sequence[float]) -> Tensor:
        """Raise ValueError: there are none."""
        raise ValueError("a point forecast has no quantiles: train with task.net.output=quantiles, say")

    def sample(self, parameters: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """The same point n times."""
        return parameters.expand(n, *parameters.shape)


class Quantiles(Output):
    """Values at the given levels; between them, and beyond them, they are joined as the normal distribution's are.

    A quantile at another level is linear in z, the standard normal quantile of the level, between its neighbours and
    beyond the outermost two: exact for any normal distribution.

    Args:
        levels: at least three, increasing, between 0 and 1, 0.5 among them, which is the point forecast.
    """

    name = "quantiles"

    def __init__(self, levels: Sequence[float] = DECILES) -> None:
        self.levels = tuple(float(level) for level in levels)
        check_levels(self.levels)
        if len(self.levels) < 3 or 0.5 not in self.levels[1:-1]:
            raise ValueError(
                f"levels must be at least three with 0.5, the point forecast, between others; got {list(levels)}"
            )
        self.size, self.middle = len(self.levels), self.levels.index(0.5)

    def parameters(self, raw: Tensor) -> Tensor:
        """The median is its raw number; the others stand off their neighbour by softplus."""
        median, steps = raw[..., self.middle, None], F.softplus(raw)
        above = median + _running_sum(steps[..., self.middle + 1 :])
        below = median - _running_sum(steps[..., : self.middle].flip(-1)).flip(-1)
        return torch.cat((below, median, above), dim=-1)

    def moved(self, parameters: Tensor, move: Callable[[Tensor], Tensor], stretch: Tensor | None) -> Tensor:
        """The median moved, distances from it stretched: their order stays."""
        if stretch is None:
            return parameters
        median = self.point(parameters)[..., None]
        return move(median[..., 0])[..., None] + (parameters - median) * stretch[..., None]

    def loss(self, parameters: Tensor, future: Tensor) -> Tensor:
        """2 max(l (y - q), (l - 1)(y - q)), the mean over the levels l: at the median alone, the absolute error."""
        error = future[..., None] - parameters
        # made where they are needed: a list that is copied there would have every step wait for a GPU
        levels = torch.stack([parameters.new_full((), level) for level in self.levels])
        return 2 * torch.maximum(levels * error, (levels - 1) * error).mean(-1)

    def point(self, parameters: Tensor) -> Tensor:
        """The median."""
        return parameters[..., self.middle]

    def quantiles(self, parameters: Tensor, levels: Sequence[float]) -> Tensor:
        """Those learned, and others joined to them as the class says."""
        z = torch.special.ndtri(_levels(levels, parameters).double())
        return self._at(parameters, z.expand(*parameters.shape[:-1], len(z))).cummax(-1).values

    def sample(self, parameters: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """The quantiles at uniform levels."""
        z = torch.special.ndtri(_uniform((*parameters.shape[:-1], n), parameters, generator))
        return self._at(parameters, z).movedim(-1, 0)

    def _at(self, parameters: Tensor, z: Tensor) -> Tensor:
        """The values [..., m] at standard normal quantiles z [..., m]."""
        knots = torch.special.ndtri(torch.tensor(self.levels, dtype=torch.float64, device=parameters.device))
        below = (torch.searchsorted(knots, z.contiguous(), right=True) - 1).clamp(0, self.size - 2)
        weight = (z - knots[below]) / (knots[below + 1] - knots[below])
        low, high = parameters.gather(-1, below), parameters.gather(-1, below + 1)
        return torch.lerp(low, high, weight.to(low.dtype))


def _running_sum(steps: Tensor) -> Tensor:
    """The sums over the few levels [..., Q] so far; `cumsum` of a GPU is what `trainer.deterministic` refuses."""
    return torch.stack(list(accumulate(steps.unbind(-1))), dim=-1)


class Gaussian(Output):
    """The normal distribution: location, scale."""

    name, size = "gaussian", 2

    def parameters(self, raw: Tensor) -> Tensor:
        """The scale by softplus, at least `LEAST_SCALE`."""
        return torch.cat((raw[..., :1], F.softplus(raw[..., 1:2]) + LEAST_SCALE), dim=-1)

    def moved(self, parameters: Tensor, move: Callable[[Tensor], Tensor], stretch: Tensor | None) -> Tensor:
        """Location moved, scale stretched."""
        if stretch is None:
            return parameters
        location, scale, *rest = parameters.unbind(-1)
        return torch.stack((move(location), scale * stretch, *rest), dim=-1)

    def loss(self, parameters: Tensor, future: Tensor) -> Tensor:
        """log s + z^2 / 2 + log(2 pi) / 2 with z = (y - m) / s."""
        location, scale = parameters.unbind(-1)
        return scale.log() + ((future - location) / scale).square() / 2 + math.log(2 * math.pi) / 2

    def point(self, parameters: Tensor) -> Tensor:
        """The median, which is the location."""
        return parameters[..., 0]

    def quantiles(self, parameters: Tensor, levels: Sequence[float]) -> Tensor:
        """Location + scale * the standard normal quantile."""
        return parameters[..., :1] + parameters[..., 1:2] * torch.special.ndtri(_levels(levels, parameters))

    def sample(self, parameters: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Normal draws."""
        location, scale = parameters.unbind(-1)
        noise = torch.randn(
            (n, *location.shape), generator=generator, dtype=location.dtype, device=location.device
        )
        return location + scale * noise

    def crps(self, parameters: Tensor, future: Tensor) -> Tensor | None:
        """s (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)) with z = (y - m) / s: Gneiting and Raftery 2007."""
        location, scale = parameters.unbind(-1)
        z = (future - location) / scale
        density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
        return scale * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


class StudentT(Gaussian):
    """Student's t: location, scale, degrees of freedom."""

    name, size = "student_t", 3

    def parameters(self, raw: Tensor) -> Tensor:
        """Location and scale as of a Gaussian; degrees of freedom by softplus."""
        freedom = 2 + F.softplus(raw[..., 2:]).clamp(max=MOST_FREEDOM)
        return torch.cat((super().parameters(raw), freedom), dim=-1)

    def loss(self, parameters: Tensor, future: Tensor) -> Tensor:
        """log s + log B(v/2, 1/2) + log(v) / 2 + (v + 1)/2 log(1 + z^2 / v) with z = (y - m) / s."""
        location, scale, v = parameters.unbind(-1)
        z = (future - location) / scale
        normaliser = torch.lgamma(v / 2) - torch.lgamma((v + 1) / 2) + (v * math.pi).log() / 2
        return scale.log() + normaliser + (v + 1) / 2 * torch.log1p(z.square() / v)

    def quantiles(self, parameters: Tensor, levels: Sequence[float]) -> Tensor:
        """Location + scale * the quantile of the standard distribution."""
        location, scale, v = parameters.detach().unbind(-1)
        _levels(levels, parameters)
        return torch.stack([location + scale * student_t_quantile(v, p).to(v.dtype) for p in levels], dim=-1)

    def sample(self, parameters: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """t = sqrt(v (u^(-2/v) - 1)) cos(2 pi w) with u, w uniform: Bailey 1994."""
        location, scale, v = parameters.unbind(-1)
        u, w = (_uniform((n, *location.shape), location, generator) for _ in range(2))
        t = (v * torch.expm1(-2 / v * u.log())).sqrt() * torch.cos(2 * math.pi * w)
        return location + scale * t.to(scale.dtype)

    def crps(self, parameters: Tensor, future: Tensor) -> Tensor | None:
        """None: it is taken from quantiles."""
        return None


class NegativeBinomial(Output):
    """Counts: mean, dispersion. The data must not be standardised, and the window's level not subtracted."""

    name, size = "negative_binomial", 2
    has_location = False

    def parameters(self, raw: Tensor) -> Tensor:
        """Both by softplus."""
        positive = F.softplus(raw)
        return torch.cat((positive[..., :1] + 1e-6, positive[..., 1:] + LEAST_DISPERSION), dim=-1)

    def moved(self, parameters: Tensor, move: Callable[[Tensor], Tensor], stretch: Tensor | None) -> Tensor:
        """The mean stretched."""
        if stretch is None:
            return parameters
        mean, dispersion = parameters.unbind(-1)
        return torch.stack((mean * stretch, dispersion), dim=-1)

    def loss(self, parameters: Tensor, future: Tensor) -> Tensor:
        """The negative log probability of the nearest count, in float64: lgamma of large numbers is subtracted."""
        mean, dispersion = parameters.double().unbind(-1)
        return -count_log_prob(future.double().round(), mean, dispersion).to(parameters.dtype)

    def point(self, parameters: Tensor) -> Tensor:
        """The mean."""
        return parameters[..., 0]

    def quantiles(self, parameters: Tensor, levels: Sequence[float]) -> Tensor:
        """The least count with so much probability up to it; exact up to 1024, within .1 % above."""
        mean, dispersion = parameters.detach().split(1, dim=-1)
        return count_quantiles(mean, dispersion, _levels(levels, parameters)).to(parameters.dtype)

    def sample(self, parameters: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Poisson draws whose rates are gamma draws."""
        mean, dispersion = parameters.detach().double().unbind(-1)
        shape = (1 / dispersion).expand(n, *dispersion.shape)
        rate = gamma_variates(shape, generator) * dispersion * mean
        return torch.poisson(rate, generator=generator).to(parameters.dtype)


def make_output(name: OutputName, levels: Sequence[float] | None) -> Output:
    """The output called `name`.

    Raises ValueError for a name that is none, and for levels that do not fit or are given to a point forecast.
    """
    kinds = {kind.name: kind for kind in (Point, Gaussian, StudentT, NegativeBinomial)}
    if name == "quantiles":
        return Quantiles(DECILES if levels is None else levels)
    if name not in kinds:
        raise ValueError(f"output must be one of {', '.join(['quantiles', *kinds])}, got {name!r}")
    output: Output = kinds[name]()
    if levels is not None:
        if name == "point":
            raise ValueError(f"levels={list(levels)}: a point forecast has none; give output=quantiles, say")
        output.levels = tuple(float(level) for level in levels)
        check_levels(output.levels)
    return output


def check_levels(levels: Sequence[float]) -> None:
    """Raise ValueError unless the levels lie between 0 and 1 and increase."""
    if not levels or not 0 < min(levels) <= max(levels) < 1 or list(levels) != sorted(set(levels)):
        raise ValueError(f"levels must increase and lie between 0 and 1, got {list(levels)}")


def _levels(levels: Sequence[float], like: Tensor) -> Tensor:
    check_levels(levels)
    return torch.tensor(list(levels), dtype=like.dtype, device=like.device)


def _uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform draws strictly between 0 and 1, float64."""
    drawn = torch.rand(shape, generator=generator, dtype=torch.float64, device=like.device)
    return drawn.clamp(1e-12, 1 - 1e-12)
