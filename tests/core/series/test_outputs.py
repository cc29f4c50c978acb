"""Outputs: losses in closed form, quantiles and draws that belong to the same distribution, and what they survive."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, distributions

from gatelab.core.series.outputs import Gaussian, NegativeBinomial, Output, Quantiles, StudentT, make_output

NAMES = ("quantiles", "gaussian", "student_t", "negative_binomial")
LEVELS = (0.01, 0.1, 0.25, 0.5, 0.8, 0.975)


def _parameters(name: str, *shape: int) -> tuple[Output, Tensor]:
    output = make_output(name, None)  # type: ignore[arg-type]
    return output, output.parameters(3 * torch.randn(*shape, output.size, dtype=torch.float64))


def _frozen(name: str, parameters: Tensor) -> Any:
    """scipy's distribution of the same parameters."""
    values = parameters.numpy()
    if name == "gaussian":
        return scipy.stats.norm(values[..., 0], values[..., 1])
    if name == "student_t":
        return scipy.stats.t(values[..., 2], values[..., 0], values[..., 1])
    mean, r = values[..., 0], 1 / values[..., 1]
    return scipy.stats.nbinom(r, r / (r + mean))


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_loss_is_the_negative_log_likelihood(name: str) -> None:
    output, parameters = _parameters(name, 50)
    future = torch.randn(50, dtype=torch.float64) * 5
    if name == "negative_binomial":
        future = future.abs().round()
        want = -_frozen(name, parameters).logpmf(future.numpy())
    else:
        want = -_frozen(name, parameters).logpdf(future.numpy())
    torch.testing.assert_close(output.loss(parameters, future), torch.from_numpy(want), rtol=1e-9, atol=1e-9)


def test_the_quantile_loss_is_twice_the_pinball_loss_and_the_absolute_error_at_the_median() -> None:
    output = Quantiles([0.1, 0.5, 0.9])
    parameters = torch.tensor([-1.0, 0.0, 2.0])
    # y = 3: .1 * 4, .5 * 3, .9 * 1; twice their mean
    assert float(output.loss(parameters, torch.tensor(3.0))) == pytest.approx(2 * (0.4 + 1.5 + 0.9) / 3)
    # y = -2: .9 * 1, .5 * 2, .1 * 4
    assert float(output.loss(parameters, torch.tensor(-2.0))) == pytest.approx(2 * (0.9 + 1.0 + 0.4) / 3)


@pytest.mark.parametrize("name", NAMES[1:])
def test_quantiles_are_those_of_the_distribution(name: str) -> None:
    output, parameters = _parameters(name, 40)
    got = output.quantiles(parameters, LEVELS)
    want = torch.from_numpy(np.stack([_frozen(name, parameters).ppf(p) for p in LEVELS], -1))
    assert got.shape == (40, len(LEVELS))
    if name != "negative_binomial":
        got, want = ((q - parameters[:, :1]) / parameters[:, 1:2] for q in (got, want))
    torch.testing.assert_close(got, want, rtol=2e-5, atol=1e-5)


def test_quantiles_of_large_counts_are_within_a_thousandth() -> None:
    parameters = torch.tensor([[5e3, 0.2], [1e5, 1.0], [3e4, 1e-4]], dtype=torch.float64)
    got = NegativeBinomial().quantiles(parameters, LEVELS)
    exact = _frozen("negative_binomial", parameters)
    want = torch.from_numpy(np.stack([exact.ppf(p) for p in LEVELS], -1))
    torch.testing.assert_close(got, want, rtol=2e-3, atol=1.0)


@pytest.mark.parametrize("name", NAMES)
def test_draws_lie_below_a_quantile_as_often_as_it_says(name: str) -> None:
    output, parameters = _parameters(name, 2)
    n = 10_000
    drawn = output.sample(parameters, n, torch.Generator().manual_seed(1))
    assert drawn.shape == (n, 2)
    for level, bound in zip(LEVELS, output.quantiles(parameters, LEVELS).unbind(-1), strict=True):
        below, up_to = (drawn < bound).double().mean(0), (drawn <= bound).double().mean(0)
        slack = 4 * math.sqrt(level * (1 - level) / n)
        assert (below <= level + slack).all()
        assert (up_to >= level - slack).all()


def test_learned_quantiles_cover_what_they_say() -> None:
    """A free choice of nine numbers, fitted to a skewed distribution: coverage within one point over 1e5 draws."""
    output, known = Quantiles(), distributions.LogNormal(0.0, 0.7)
    raw = torch.zeros(9, requires_grad=True)
    seen = known.icdf((torch.arange(1000) + 0.5) / 1000)
    optimizer = torch.optim.Adam([raw], lr=0.2)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 400)
        optimizer.zero_grad()
        output.loss(output.parameters(raw).expand(1000, 9), seen).mean().backward()
        optimizer.step()
    quantiles = output.parameters(raw.detach())
    covered = (known.sample((100_000, 1)) < quantiles).double().mean(0)
    assert (covered - torch.tensor(output.levels)).abs().max() < 0.01


@pytest.mark.parametrize("stretch", [None, 1e-3, 37.0])
def test_quantiles_never_cross(stretch: float | None) -> None:
    output = Quantiles()
    scale = 10 ** (4 * torch.rand(111_112, 1) - 2)
    parameters = output.parameters(torch.randn(111_112, 9) * scale)
    if stretch is not None:
        parameters = output.moved(parameters, lambda v: -5 * v + 1e4, torch.full((111_112,), stretch))
    levels = (0.001, *output.levels, 0.95, 0.999)
    assert parameters.numel() >= 1_000_000
    assert (parameters.diff(dim=-1) < 0).sum() == 0
    assert (output.quantiles(parameters, levels).diff(dim=-1) < 0).sum() == 0


def test_quantiles_at_the_learned_levels_are_the_learned_ones_and_others_are_exact_for_a_normal() -> None:
    output = Quantiles()
    z = torch.special.ndtri(torch.tensor(output.levels, dtype=torch.float64))
    parameters = (3 + 2 * z).expand(5, 9)
    assert torch.equal(output.quantiles(parameters, output.levels), parameters)
    normal = Gaussian().quantiles(torch.tensor([[3.0, 2.0]], dtype=torch.float64), LEVELS)
    torch.testing.assert_close(output.quantiles(parameters, LEVELS), normal.expand(5, -1))


@pytest.mark.parametrize("name", NAMES)
def test_a_stretched_distribution_has_stretched_quantiles(name: str) -> None:
    output, parameters = _parameters(name, 7)
    stretch, level = torch.full((7,), 2.0, dtype=torch.float64), 10.0 if output.has_location else 0.0
    moved = output.moved(parameters, lambda v: 2 * v + level, stretch)
    torch.testing.assert_close(output.point(moved), 2 * output.point(parameters) + level)
    if output.has_location:
        want = 2 * output.quantiles(parameters, LEVELS) + level
        torch.testing.assert_close(output.quantiles(moved, LEVELS), want)


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_stay_finite_at_extremes(name: str) -> None:
    output = make_output(name, None)  # type: ignore[arg-type]
    values = torch.tensor([-1e3, -50.0, 0.0, 50.0, 1e3])
    raw = torch.cartesian_prod(*[values] * min(output.size, 3))
    raw = raw.repeat(1, 3)[:, : output.size].requires_grad_()
    futures = (0.0, 1.0, 1e5) if name == "negative_binomial" else (-1e5, 0.0, 1e5)
    for future in futures:
        loss = output.loss(output.parameters(raw), torch.full((len(raw),), future))
        assert loss.isfinite().all()
        (gradient,) = torch.autograd.grad(loss.sum(), raw)
        assert gradient.isfinite().all()


def test_student_t_with_many_degrees_of_freedom_is_nearly_gaussian() -> None:
    wide = StudentT().parameters(torch.tensor([0.0, 1.0, 1e4], dtype=torch.float64))
    close = Gaussian().quantiles(wide[:2], LEVELS)
    torch.testing.assert_close(StudentT().quantiles(wide, LEVELS), close, rtol=0.03, atol=0)


@pytest.mark.parametrize(
    ("name", "levels", "message"),
    [
        ("quantiles", [0.1, 0.9], "0.5, the point forecast"),
        ("quantiles", [0.5], "at least three"),
        ("quantiles", [0.1, 0.5, 0.4], "increase"),
        ("gaussian", [0.0, 0.5], "between 0 and 1"),
        ("point", [0.1, 0.5, 0.9], "a point forecast has none"),
        ("poisson", None, "output must be one of quantiles, point, gaussian"),
    ],
)
def test_outputs_that_make_no_sense_are_refused(name: Any, levels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_output(name, levels)
