"""Covariates and windows with gaps: what the network reads, and what it never sees."""

from functools import partial
from typing import Any

import pytest
import torch

from gatelab.core.gru import GRU
from gatelab.core.series.covariates import CovariateFeatures, Covariates
from gatelab.core.series.forecaster import Forecaster
from gatelab.core.series.normalization import WindowNorm

CORE = partial(GRU, hidden_size=6)


def test_categories_become_vectors_and_an_unknown_one_becomes_zero() -> None:
    features = CovariateFeatures(known=1, known_codes=[3, 60], static_codes=[2], embedding_size=None)
    assert (features.step_size, features.series_size) == (1 + 2 + 16, 1)
    codes = torch.zeros(1, 4, 2, dtype=torch.long)
    codes[0, 1:] = torch.tensor([[1, 60], [3, 5], [1, 0]])
    given = Covariates(
        known=torch.ones(1, 4, 1), known_codes=codes, static_codes=torch.zeros(1, 1, dtype=torch.long)
    )
    steps, static = features(given, 4)
    assert steps is not None
    assert static is not None
    assert not steps[0, 0, 1:].any()
    assert not static.any()
    assert torch.equal(steps[0, 1, 1:3], steps[0, 3, 1:3])
    assert steps[0, 1, 1:].all()
    steps.sum().backward()
    assert not any(e.weight.grad[0].any() for e in features.of_steps)  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "made for 2 covariates 'known', the data have 0"),
        (Covariates(known=torch.zeros(1, 13, 1)), "made for 2 covariates 'known', the data have 1"),
        (Covariates(known=torch.zeros(1, 12, 2)), r"T \+ P = 13 steps, got 12"),
    ],
)
def test_covariates_that_are_missing_are_named(given: Any, message: str) -> None:
    net = Forecaster(3, 5, CORE, known=2)
    with pytest.raises(ValueError, match=message):
        net(torch.zeros(1, 8, 3), given)


@pytest.mark.parametrize("kind", ["revin", "last", "scale"])
def test_statistics_are_of_observed_values_alone(kind: Any) -> None:
    norm = WindowNorm(2, kind).double()
    past = torch.randn(3, 8, 2, dtype=torch.float64)
    observed = torch.ones(3, 8, 2, dtype=torch.bool)
    observed[0, [0, 3, 7]] = False
    observed[2] = False
    past = past * observed
    x, statistics = norm(past.requires_grad_(), observed)
    assert x.isfinite().all()
    whole, of_whole = norm(past[:1, [1, 2, 4, 5, 6]])
    torch.testing.assert_close(x[:1, [1, 2, 4, 5, 6]], whole)
    torch.testing.assert_close([s[:1] for s in statistics], list(of_whole))
    assert not x[~observed].any()
    (gradient,) = torch.autograd.grad(x.square().sum() + statistics[0].sum(), past)
    assert not gradient[:2][~observed[:2]].any()
    with_all = norm(past, torch.ones_like(observed))[0]
    torch.testing.assert_close(with_all, norm(past)[0])


def test_a_window_without_a_single_value_is_forecast() -> None:
    for kind in ("revin", "last", "scale", "none"):
        net = Forecaster(1, 5, CORE, normalization=kind, output="gaussian", mask_input=True)  # type: ignore[arg-type]
        given = Covariates(observed=torch.zeros(1, 8, 1, dtype=torch.bool))
        parameters = net(torch.zeros(1, 8, 1), given)
        assert parameters.isfinite().all()


def test_the_mask_is_an_input_where_asked() -> None:
    past, observed = torch.randn(1, 8, 3), torch.ones(1, 8, 3, dtype=torch.bool)
    holes = observed.clone()
    holes[0, 2] = False
    past[0, 2] = 0
    for asked in (True, False):
        net = Forecaster(3, 5, CORE, normalization="none", mask_input=asked)
        one, other = net(past, Covariates(observed)), net(past, Covariates(holes))
        assert torch.equal(one, other) is not asked
        assert torch.equal(one, net(past))


@pytest.mark.parametrize("kind", ["revin", "last", "scale"])
@pytest.mark.parametrize("output", ["quantiles", "gaussian", "student_t"])
def test_a_normalised_distribution_moves_and_widens_with_its_window(kind: Any, output: Any) -> None:
    torch.manual_seed(1)
    net = Forecaster(2, 5, CORE, normalization=kind, output=output, targets=[1, 0]).double()
    past = torch.randn(2, 8, 2, dtype=torch.float64)
    levels = (0.1, 0.5, 0.9)
    before = net.output.quantiles(net(past), levels)
    if kind != "scale":
        shift = torch.tensor([10.0, -3.0]).double()
        moved = net.output.quantiles(net(past + shift), levels)
        torch.testing.assert_close(moved, before + shift[[1, 0]][:, None])
    if kind != "last":
        wide = net.output.quantiles(net(past * 100), levels)
        torch.testing.assert_close(wide, before * 100, rtol=1e-3, atol=1e-3)


def test_quantiles_stay_in_order_where_a_learned_scale_is_negative() -> None:
    net = Forecaster(2, 5, CORE, output="quantiles")
    with torch.no_grad():
        net.normalization.scale.mul_(-0.5)
    assert (net(torch.randn(50, 8, 2)).diff(dim=-1) >= 0).all()


SLOW = [pytest.param(decoder, marks=pytest.mark.slow) for decoder in ("segments", "mlp")]


@pytest.mark.parametrize("decoder", ["direct", "recursive", *SLOW])
def test_a_known_holiday_and_a_category_halve_the_error(decoder: Any) -> None:
    """Each holiday adds two, and shops of the second kind lie three above the others, in the future alone."""
    torch.manual_seed(0)
    past, noise = torch.randn(100, 8, 1), 0.1 * torch.randn(100, 4, 1)
    holiday = (torch.rand(100, 12, 1) < 0.3).float()
    shop = torch.randint(1, 3, (100, 1))
    future = noise + 2 * holiday[:, 8:] + 3 * (shop == 2)[:, None]
    errors = []
    for told in ({}, {"known": 1}, {"known": 1, "static_codes": [2]}):
        net = Forecaster(1, 4, CORE, normalization="none", decoder=decoder, patch=1, **told)  # type: ignore[arg-type]
        given = Covariates(known=holiday, static_codes=shop)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
        for _ in range(60):
            optimizer.zero_grad()
            error = (net(past, given) - future).abs().mean()
            error.backward()
            optimizer.step()
        errors.append(float(error.detach()))
    assert errors[2] < errors[0] / 2, errors
    assert errors[2] < errors[1] < errors[0], errors
