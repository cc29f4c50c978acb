import math

import numpy as np
import pytest
import torch

from gatelab.tasks import ForecastError, TokenLoss
from gatelab.tasks.series.quantile_metrics import QuantileError


def test_token_loss_is_one_sum_and_one_division() -> None:
    nll = torch.rand(1000, dtype=torch.float64) * 7
    metric = TokenLoss()
    for part in nll.split([1, 7, 35, 957]):
        metric.update(part.sum(), len(part))
    figures = metric.compute()
    assert float(figures["loss"]) == pytest.approx(float(nll.sum() / 1000), rel=1e-14)
    assert float(figures["ppl"]) == pytest.approx(math.exp(float(nll.mean())), rel=1e-13)
    assert float(figures["bpc"]) == pytest.approx(float(nll.mean()) / math.log(2), rel=1e-14)
    assert float(figures["tokens"]) == 1000


def test_token_loss_loses_nothing_beyond_float32() -> None:
    metric = TokenLoss()
    metric.update(torch.tensor(2.0**30), 2**30)
    for _ in range(100):
        metric.update(torch.tensor(0.25), 1)
    assert float(metric.nll) == 2.0**30 + 25
    assert int(metric.tokens) == 2**30 + 100


def test_bits_per_character_divide_by_characters_per_token() -> None:
    metric = TokenLoss(characters_per_token=4.0)
    metric.update(torch.tensor(6 * math.log(2)), 3)
    assert float(metric.compute()["bpc"]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="characters_per_token"):
        TokenLoss(characters_per_token=0.0)


@pytest.fixture
def forecasts() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(50, 6, 3, generator=generator)
    return prediction, prediction + 0.3 * torch.randn(50, 6, 3, generator=generator)


def test_forecast_errors_equal_their_definitions(forecasts: tuple[torch.Tensor, torch.Tensor]) -> None:
    mean, std, scale = [1.0, -2.0, 30.0], [0.5, 2.0, 7.0], [0.4, 1.5, 3.0]
    metric = ForecastError(mean, std, scale, horizon=6)
    for p, y in zip(forecasts[0].split(7), forecasts[1].split(7), strict=True):
        metric.update(p, y)
    p, y = (x.double().numpy() for x in forecasts)
    po, yo = (x * std + mean for x in (p, y))
    expected = {
        "mse": np.mean((p - y) ** 2),
        "mae": np.mean(np.abs(p - y)),
        "mse_original": np.mean((po - yo) ** 2),
        "mae_original": np.mean(np.abs(po - yo)),
        "mase": np.mean(np.mean(np.abs(po - yo), axis=(0, 1)) / scale),
        "smape": np.mean(200 * np.abs(po - yo) / (np.abs(po) + np.abs(yo))),
        "nd": np.abs(po - yo).sum() / np.abs(yo).sum(),
        "windows": 50,
    }
    figures = metric.compute()
    assert figures.keys() == expected.keys()
    for name, value in expected.items():
        assert float(figures[name]) == pytest.approx(value, rel=1e-12), name
    np.testing.assert_allclose(metric.per_step()["mse"], ((p - y) ** 2).mean((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(metric.per_target()["mae"], np.abs(p - y).mean((0, 1)), rtol=1e-12)


def test_zero_against_zero_is_no_relative_error() -> None:
    metric = ForecastError([0.0], [1.0], [1.0], horizon=1)
    metric.update(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1))
    assert float(metric.compute()["smape"]) == 0.0


@pytest.mark.parametrize(("mean", "std"), [(1.7, 0.3), (-2e5, 1e5), (3e-7, 1e-6), (40.0, 1e-2)])
def test_a_truth_of_zero_stays_zero_when_its_scale_is_taken_away(mean: float, std: float) -> None:
    """Scaled values have 32 bits: what comes back is no zero, and nothing may be divided by it."""
    zero = torch.full((3, 1, 1), -mean / std, dtype=torch.float64).float()
    metric = ForecastError([mean], [std], [1.0], horizon=1)
    metric.update(zero + 1, zero)
    figures = metric.compute()
    assert "nd" not in figures
    assert not metric.nonzero.any()
    assert float(figures["smape"]) == pytest.approx(200, rel=1e-5)
    quantiles = QuantileError([0.5], [mean], [std], [1.0], horizon=1)
    quantiles.update((zero + 1).unsqueeze(-1), zero)
    assert "wql" not in quantiles.compute()


def test_a_constant_channel_has_no_mase() -> None:
    metric = ForecastError([0.0, 0.0], [1.0, 1.0], [0.0, 2.0], horizon=1)
    metric.update(torch.ones(1, 1, 2), torch.zeros(1, 1, 2))
    assert float(metric.compute()["mase"]) == 0.5


def test_forecasts_of_the_wrong_shape_are_refused() -> None:
    metric = ForecastError([0.0], [1.0], [1.0], horizon=4)
    with pytest.raises(ValueError, match=r"must both be \[B, 4, 1\]"):
        metric.update(torch.zeros(2, 3, 1), torch.zeros(2, 3, 1))
    with pytest.raises(ValueError, match="one entry per target"):
        ForecastError([0.0], [1.0, 2.0], [1.0], horizon=4)
