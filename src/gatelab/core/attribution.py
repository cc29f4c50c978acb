"""Which inputs a prediction rests on: integrated gradients, with the error of their completeness.

Of a score f, inputs x and a baseline b the attribution of input i is (Sundararajan, Taly and Yan 2017,
arXiv:1703.01365)

    a_i = (x_i - b_i) * integral over s in (0, 1) of  d f / d x_i (b + s (x - b))

The attributions sum up to f(x) - f(b); how far a finite sum of gradients is from that is its completeness error. The
integral is taken by Gauss and Legendre's rule, whose points are few where f is smooth. An input that f does not read
has exactly 0.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


class Attribution(NamedTuple):
    """What each input contributes to a score.

    Attributes:
        values: of each input, in the shape of x; score, baseline: f(x) and f(b).
        error: |sum of values - (f(x) - f(b))| / |f(x) - f(b)|, the relative error of completeness.
    """

    values: Tensor
    score: float
    baseline: float
    error: float


def integrated_gradients(
    f: Callable[[Tensor], Tensor], x: Tensor, baseline: Tensor, steps: int = 64
) -> Attribution:
    """Attribute the score f(x), a scalar, to x, at `steps` points between `baseline`, which has its shape, and x."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if baseline.shape != x.shape:
        raise ValueError(f"the baseline must be {list(x.shape)} as the input, got {list(baseline.shape)}")
    places, weights = np.polynomial.legendre.leggauss(steps)
    x, baseline = x.detach(), baseline.detach()
    total = torch.zeros_like(x, dtype=torch.float64)
    with torch.enable_grad():
        for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
            point = (baseline + float(place) * (x - baseline)).requires_grad_(True)
            (slope,) = torch.autograd.grad(f(point), point)
            total += float(weight) * slope.double()
    values = total * (x - baseline).double()
    with torch.no_grad():
        score, empty = (float(f(end)) for end in (x, baseline))
    difference = score - empty
    error = (
        abs(float(values.sum()) - difference) / abs(difference) if difference else float(values.sum() != 0)
    )
    return Attribution(values, score, empty, error)


@contextlib.contextmanager
def replaced(module: nn.Module, output: Tensor) -> Iterator[None]:
    """Have `module` return `output` inside, e.g. an embedding the vectors that are attributed to."""
    handle = module.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        handle.remove()
