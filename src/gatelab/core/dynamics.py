"""A recurrent cell as a dynamical system: its Jacobians, fixed points, Lyapunov exponents, and how far back it reads.

A `Map` takes states [N, S] to the next ones, row by row: a cell under a constant input, a cell that is fed its own
output, or any function of yours. `cells` gives the cells of any core, `nn.GRU` included, from the equations of
`cells.py` in float64; derivatives are those of `torch.func`, all points at once.

* Fixed points h = f(h), stable ones and saddles, by minimising |f(h) - h|^2 from many starts (Sussillo and Barak 2013,
  "Opening the black box"), with Levenberg and Marquardt's damped Gauss-Newton steps in place of gradient descent.
* Lyapunov exponents by carrying tangents along and orthogonalising them (Benettin et al. 1980); the dimension of the
  attractor from them (Kaplan and Yorke 1979).

Dimensions: N points or trajectories, S numbers of a state, D input, H hidden, T time, B batch.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import jacfwd, jvp, vmap
from torch.nn import functional as F

from gatelab.core.baselines import LSTM, RNN, MinGRU
from gatelab.core.cells import Weights, gru_step_after, gru_step_before, linear, lstm_step, rnn_step, zone_out
from gatelab.core.gates import weights_of
from gatelab.core.gru import GRU
from gatelab.core.stack import Stack

Map = Callable[[Tensor], Tensor]
Recurrences = GRU | nn.GRU | LSTM | nn.LSTM | RNN | nn.RNN | MinGRU


class Cell(NamedTuple):
    """One layer of a core in one direction.

    Attributes:
        layer: "layer0", "layer0_reverse", "layer1", ..., as in `gates.Gates`.
        step: `step(x [N, D], s [N, S]) -> s' [N, S]`, in float64, as in evaluation (zoneout in expectation).
        input_size: D; hidden_size: H.
        state_size: S: H, of an LSTM 2H, h and c side by side.
    """

    layer: str
    step: Callable[[Tensor, Tensor], Tensor]
    input_size: int
    hidden_size: int
    state_size: int

    def under(self, x: Tensor) -> Map:
        """The map of the state under the constant input x [D]."""
        row = x.to(torch.float64).expand(1, self.input_size)
        return lambda s: self.step(row.expand(len(s), -1), s)


def has_cells(core: Any) -> bool:
    """Whether `cells` knows this core."""
    if isinstance(core, Stack):
        return all(has_cells(layer) for layer in core.layers)
    return isinstance(core, Recurrences)


def cells(core: Any) -> Iterator[Cell]:
    """Yield the cells of `core`: layer by layer, forward before reverse. Raises TypeError if it has no known ones."""
    if not has_cells(core):
        raise TypeError(f"{type(core).__name__} has no cell whose equations are known")
    layers: list[tuple[Any, int]] = [(one, 0) for one in core.layers] if isinstance(core, Stack) else []
    layers = layers or [(core, layer) for layer in range(core.num_layers)]
    for place, (one, layer) in enumerate(layers):
        for direction in range(2 if one.bidirectional else 1):
            found = weights_of(one, layer, direction)
            weights = Weights(*(None if w is None else w.detach().double() for w in found))  # type: ignore[arg-type]
            step, lstm = _step(one, weights), isinstance(one, LSTM | nn.LSTM)
            name = f"layer{place}" + "_reverse" * direction
            hidden = one.hidden_size
            yield Cell(name, step, weights.w_ih.shape[1], hidden, 2 * hidden if lstm else hidden)


def _step(layer: Any, weights: Weights) -> Callable[[Tensor, Tensor], Tensor]:
    w_ih, w_hh, b_ih, b_hh, g_ih, g_hh = weights
    hidden = int(layer.hidden_size)

    def step(x: Tensor, s: Tensor) -> Tensor:
        if isinstance(layer, MinGRU):
            k, c = F.linear(x, w_ih, b_ih).chunk(2, dim=-1)
            return torch.sigmoid(-k) * s + torch.sigmoid(k) * c
        i = linear(x, w_ih, b_ih, g_ih, hidden)
        if isinstance(layer, LSTM | nn.LSTM):
            h, c = s.chunk(2, dim=-1)
            return torch.cat(lstm_step(i, h, c, w_hh, b_hh), dim=-1)
        if isinstance(layer, RNN | nn.RNN):
            return rnn_step(i, s, w_hh, b_hh, layer.nonlinearity)
        one = gru_step_after if getattr(layer, "reset_after", True) else gru_step_before
        return zone_out(one(i, s, w_hh, b_hh, g_hh), s, getattr(layer, "zoneout", 0.0))

    return step


def jacobians(f: Map, points: Tensor) -> Tensor:
    """Return d f_i / d s_j [N, S, S] at each of the points [N, S]."""
    return vmap(jacfwd(lambda s: f(s[None])[0]))(points)


class FixedPoints(NamedTuple):
    """Fixed points of a map: the stable ones first, then by how many directions lead away.

    Attributes:
        points: [N, S], those at which |f(h) - h| is at most the tolerance, each once.
        eigenvalues: [N, S] complex, of the Jacobian there, the largest first.
        starts: how many searches there were; found: how many of them ended at one of the points.
    """

    points: Tensor
    eigenvalues: Tensor
    starts: int
    found: int

    @property
    def unstable(self) -> Tensor:
        """[N]: the directions of each point that lead away from it; 0: the point is stable."""
        return (self.eigenvalues.abs() > 1).sum(-1)

    @property
    def time_constants(self) -> Tensor:
        """[N, S]: steps in which a deviation along an eigenvector shrinks by e, -1 / ln|eigenvalue|; below 0: grows."""
        return -1 / self.eigenvalues.abs().clamp(min=1e-300).log()


def fixed_points(
    f: Map,
    starts: Tensor,
    *,
    steps: int = 200,
    tolerance: float = 1e-9,
    apart: float = 1e-3,
) -> FixedPoints:
    """Search for fixed points of `f` from the states `starts` [N, S], which are best spread where trajectories go.

    Args:
        steps: of each search, at most.
        tolerance: |f(h) - h| of what counts as a fixed point.
        apart: points nearer to each other than this are one.
    """
    points = _minimised(f, starts.double(), steps, tolerance)
    speed = (f(points) - points).norm(dim=-1)
    good = points[speed <= tolerance]
    kept: list[Tensor] = []
    for point in good:
        if all((point - other).norm() > apart for other in kept):
            kept.append(point)
    size = starts.shape[1]
    if not kept:
        nothing = points.new_zeros(0, size)
        return FixedPoints(nothing, nothing.to(torch.complex128), len(starts), 0)
    found = torch.stack(kept)
    values = torch.linalg.eigvals(jacobians(f, found))
    values = values.gather(1, values.abs().argsort(dim=-1, descending=True))
    order = sorted(
        range(len(found)), key=lambda n: (int((values[n].abs() > 1).sum()), float(values[n, 0].abs()))
    )
    return FixedPoints(found[order], values[order], len(starts), len(good))


def _minimised(f: Map, points: Tensor, steps: int, tolerance: float) -> Tensor:
    """The points [N, S] moved downhill in |f(h) - h|^2, each with a damping of its own."""
    points = points.clone()
    eye = torch.eye(points.shape[1], dtype=points.dtype)
    damping = points.new_full((len(points),), 1e-2)
    rest = f(points) - points
    for _ in range(steps):
        active = ((rest.norm(dim=-1) > tolerance) & (damping < 1e8)).nonzero()[:, 0]
        if not len(active):
            break
        now, residual = points[active], rest[active]
        slope = jacobians(f, now) - eye
        normal = slope.mT @ slope + damping[active, None, None] * eye
        move = torch.linalg.solve(normal, -(slope.mT @ residual[..., None]))[..., 0]
        tried = now + move
        new = f(tried) - tried
        better = new.norm(dim=-1) < residual.norm(dim=-1)
        points[active] = torch.where(better[:, None], tried, now)
        rest[active] = torch.where(better[:, None], new, residual)
        damping[active] *= torch.where(better, 0.2, 5.0)
        damping.clamp_(min=1e-14)
    return points


def lyapunov_exponents(
    maps: Iterable[Map], states: Tensor, count: int, *, skipped: int = 0, every: int = 1
) -> Tensor:
    """Return the `count` largest Lyapunov exponents [N, count] of N trajectories, in nats a step, the largest first.

    Args:
        maps: the map of each step: `repeat(f, steps)` of an autonomous system, `driven(cell, x)` of a cell that reads.
        states: [N, S], where the trajectories begin.
        skipped: steps that are walked before the exponents are measured.
        every: steps from one orthogonalisation to the next.
    """
    states = states.double()
    if not 1 <= count <= states.shape[1]:
        raise ValueError(f"count must be 1 ... {states.shape[1]}, the numbers of a state, got {count}")
    draw = torch.Generator().manual_seed(0)
    tangents = torch.randn(*states.shape, count, generator=draw, dtype=torch.float64)
    tangents = torch.linalg.qr(tangents).Q
    sums, measured = states.new_zeros(len(states), count), 0
    for number, f in enumerate(maps):
        states, tangents = _pushed(f, states, tangents)
        if (number + 1) % every == 0:
            tangents, scale = torch.linalg.qr(tangents)
            if number >= skipped:
                sums += scale.diagonal(dim1=-2, dim2=-1).abs().clamp(min=1e-300).log()
                measured += every
    if not measured:
        raise ValueError(
            f"no step is left to measure: give more than skipped={skipped} and every={every} maps"
        )
    return sums / measured


def _pushed(f: Map, states: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """The next states [N, S], and the tangents [N, S, k] carried along."""
    columns: Tensor = vmap(lambda t: jvp(f, (states,), (t,))[1], in_dims=2, out_dims=2)(tangents)
    return f(states), columns


def driven(cell: Cell, x: Tensor) -> Iterator[Map]:
    """Yield the map of each step of a cell that reads x [T, N, D]."""
    for row in x.double():
        yield partial(cell.step, row)


def repeat(f: Map, steps: int) -> Iterator[Map]:
    """Yield the map `steps` times."""
    return itertools.repeat(f, steps)


def kaplan_yorke(exponents: Tensor) -> float:
    """The Kaplan-Yorke dimension from exponents [k], the largest first.

    D = j + (l_1 + ... + l_j) / |l_{j+1}|, j the most exponents whose sum is not negative; 0 for a stable point, NaN
    where all `k` of them sum up to 0 or more, so that further ones would decide.
    """
    sums = exponents.cumsum(0)
    positive = int((sums >= 0).sum()) if float(exponents[0]) >= 0 else 0
    if positive == 0:
        return 0.0
    if positive == len(exponents):
        return math.nan
    return positive + float(sums[positive - 1]) / abs(float(exponents[positive]))


def reach(core: Any, x: Tensor, steps: Iterable[int], probes: int = 8) -> Tensor:
    """How strongly an output depends on the input k steps before: the Frobenius norm of d y_t / d x_{t-k} [K].

    Root mean square over the last steps of the sequences x [T, B, D] and over `probes` random directions v, as the mean
    of |v . d y_t / d x_{t-k}|^2 is the squared norm (Hutchinson 1990). `core` is called as it is, so that any core will
    do that goes forward in time, time first.
    """
    x = x.detach().requires_grad_(True)
    wanted = list(steps)
    if not wanted or max(wanted) >= len(x) or min(wanted) < 0:
        raise ValueError(f"steps must be 0 ... {len(x) - 1}, the steps before the last one, got {wanted}")
    draw = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        last = core(x)[0][-1]
        total = torch.zeros(len(wanted), dtype=torch.float64)
        for _ in range(probes):
            v = torch.randn(last.shape, generator=draw).to(last)
            (slope,) = torch.autograd.grad((v * last).sum(), x, retain_graph=True)
            total += slope.double().square().sum(-1).mean(-1).flip(0)[wanted].cpu()
    return (total / probes).sqrt()
