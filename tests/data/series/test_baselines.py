"""Trivial forecasts: the published numbers of ETTh1, and the definitions on series where the answer is known."""

import numpy as np
import pytest
from scipy import stats

from gatelab.data.series.baselines import (
    LinearForecast,
    drift,
    repeat_last,
    scores,
    seasonal_naive,
    series_baselines,
    series_truth,
    training_errors,
)
from gatelab.data.series.module import SeriesDataModule
from gatelab.data.series.scores import error_quantile, error_quantiles
from gatelab.data.specs import SeriesSpec


def spec(**changes) -> SeriesSpec:
    values = {
        "channels": ("a",),
        "targets": ("a",),
        "target_index": (0,),
        "lookback": 4,
        "horizon": 2,
        "season": 3,
        "frequency": "",
        "mean": (10.0,),
        "std": (2.0,),
        "mase_scale": (0.5,),
        "windows": {},
    }
    return SeriesSpec(**values | changes)


def scored(forecast, values, origins, spec, train=None):
    """The figures of a forecast at `origins`, its quantiles from its errors at `train`."""
    truth = series_truth(values, spec)
    return scores(
        forecast, [origins], truth, training_errors(forecast, origins if train is None else train, truth)
    )


@pytest.mark.parametrize("lookback", [96, pytest.param(192, marks=pytest.mark.slow)])
@pytest.mark.ci
def test_etth1_horizon_96(mirror, lookback):
    data = SeriesDataModule("etth1", lookback=lookback, horizon=96, mirror=str(mirror))
    data.setup()
    found = data.baselines("test")
    rounded = {name: (round(m["mse"], 4), round(m["mae"], 4), m["windows"]) for name, m in found.items()}
    assert rounded["repeat_last"] == (1.2944, 0.7132, 2785)
    assert rounded["seasonal_naive"] == (0.5122, 0.4333, 2785)
    assert rounded["linear"][2] == 2785
    assert found["linear"]["mse"] < 0.39


def test_repeat_last_and_seasonal_naive_by_hand():
    values = np.arange(10.0)[:, None]
    origins = np.array([6, 7])
    assert repeat_last(values, 3)(origins)[:, :, 0].tolist() == [[5, 5, 5], [6, 6, 6]]
    assert seasonal_naive(values, 4, 3)(origins)[:, :, 0].tolist() == [[3, 4, 5, 3], [4, 5, 6, 4]]


def test_forecasts_never_see_the_future():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 2))
    changed = values.copy()
    changed[50:] = 1e6
    train, origin = np.arange(8, 45), np.array([50])
    for before, after in (
        (repeat_last(values, 4), repeat_last(changed, 4)),
        (seasonal_naive(values, 4, 7), seasonal_naive(changed, 4, 7)),
        (LinearForecast(values, 8, 4), LinearForecast(changed, 8, 4)),
    ):
        for forecast in (before, after):
            if isinstance(forecast, LinearForecast):
                forecast.fit(train, train)
        assert (before(origin) == after(origin)).all()


def test_linear_forecast_finds_a_linear_law():
    t = np.arange(300)
    values = np.stack([np.sin(0.3 * t) + 0.01 * t, np.cos(0.1 * t)], axis=1)
    linear = LinearForecast(values, 8, 5)
    linear.fit(np.arange(8, 180), np.arange(180, 200), [1e-12])
    origins = np.arange(200, 290)
    assert np.abs(linear(origins) - values[origins[:, None] + np.arange(5)]).max() < 1e-4


def test_linear_forecast_equals_least_squares_with_a_penalty():
    rng = np.random.default_rng(1)
    values, train, ridge = rng.normal(size=(80, 1)), np.arange(5, 77), 0.3
    linear = LinearForecast(values, 5, 3)
    linear.fit(train, train, [ridge])
    past = values[train[:, None] + np.arange(-5, 0), 0]
    x = np.concatenate([past[:, :-1] - past[:, -1:], np.ones((len(train), 1))], axis=1)
    y = values[train[:, None] + np.arange(3), 0] - past[:, -1:]
    stacked = np.concatenate([x, np.sqrt(ridge * len(train)) * np.eye(5)])
    expected = np.linalg.lstsq(stacked, np.concatenate([y, np.zeros((5, 3))]), rcond=None)[0]
    assert np.allclose(linear.weights[0], expected, rtol=1e-9, atol=1e-12)


def test_ridge_strength_is_the_best_one_on_the_validation_windows():
    values = np.random.default_rng(3).normal(size=(120, 2)).cumsum(axis=0)
    train, valid, ridges = np.arange(6, 60), np.arange(60, 115), (1e-6, 1e-2, 1.0)
    errors = {}
    for ridge in ridges:
        linear = LinearForecast(values, 6, 3)
        linear.fit(train, valid, [ridge])
        errors[ridge] = np.square(linear(valid) - values[valid[:, None] + np.arange(3)]).sum()
    linear = LinearForecast(values, 6, 3)
    linear.fit(train, valid, ridges)
    assert linear.ridge == min(errors, key=errors.__getitem__)


def test_metrics_by_hand():
    values = np.array([[0.0], [1.0], [3.0]])  # in original units 10, 12, 16
    found = scored(repeat_last(values, 2), values, np.array([1]), spec())
    assert found["mse"] == pytest.approx((1 + 9) / 2)
    assert found["mae"] == pytest.approx((1 + 3) / 2)
    assert found["mse_original"] == pytest.approx((4 + 36) / 2)
    assert found["mae_original"] == pytest.approx((2 + 6) / 2)
    assert found["mase"] == pytest.approx(4 / 0.5)
    assert found["smape"] == pytest.approx((200 * 2 / 22 + 200 * 6 / 26) / 2)
    assert found["windows"] == 1


def test_targets_without_a_mase_scale_are_left_out_of_mase():
    values = np.array([[0.0, 0.0], [1.0, 5.0], [1.0, 5.0]])
    two = spec(target_index=(0, 1), mean=(0.0, 0.0), std=(1.0, 1.0), mase_scale=(0.5, 0.0))
    assert scored(repeat_last(values, 2), values, np.array([1]), two)["mase"] == 2.0
    none = spec(mase_scale=(0.0,))
    assert "mase" not in scored(repeat_last(values[:, :1], 2), values[:, :1], np.array([1]), none)


def test_ridge_strength_is_chosen_on_the_validation_split_only():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(200, 1)).cumsum(axis=0)
    origins = {"train": np.arange(4, 120), "valid": np.arange(122, 158), "test": np.arange(160, 198)}
    changed = values.copy()
    changed[160:] *= -3
    first = series_baselines(values, origins, "test", spec())["linear"]
    second = series_baselines(changed, origins, "test", spec())["linear"]
    assert first["ridge"] == second["ridge"]
    assert first["mse"] != second["mse"]


def test_drift_goes_on_along_the_line_from_the_first_row():
    values = np.array([[2.0], [9.0], [4.0], [8.0], [0.0]])
    assert drift(values, 2)(np.array([4]))[0, :, 0].tolist() == [10.0, 12.0]


def test_quantiles_of_baselines_come_from_their_errors_in_training_and_cover_alike_data():
    noise = np.random.default_rng(3).normal(size=(20_000, 1))
    spec = SeriesSpec(
        channels=("a",), targets=("a",), target_index=(0,), lookback=4, horizon=2, season=1, frequency="",
        mean=(5.0,), std=(2.0,), mase_scale=(1.5,), windows={},
    )  # fmt: skip
    train, test = np.arange(4, 10_000), np.arange(10_000, 19_000)
    found = scored(lambda origins: np.zeros((len(origins), 2, 1)), noise, test, spec, train)
    for percent in (50, 80, 95):
        assert found[f"coverage_{percent}"] == pytest.approx(percent / 100, abs=0.02)
    # E of the quantile losses of a standard normal: 2 phi(z_a), times the spread
    levels = np.arange(1, 10) / 10
    assert found["crps"] == pytest.approx(2 * 2 * stats.norm.pdf(stats.norm.ppf(levels)).mean(), rel=0.02)
    assert found["sql"] == pytest.approx(found["crps"] / 1.5)


def test_ranks_are_those_of_a_finite_sample():
    errors = np.arange(1.0, 10.0).reshape(9, 1, 1)
    levels = (0.05, 0.1, 0.5, 0.7, 0.9, 0.95)
    assert error_quantiles(errors, levels)[:, 0, 0].tolist() == [1, 1, 5, 7, 9, 9]
    holed = np.where(errors > 4, np.nan, errors)
    assert error_quantile(holed, 0.5).tolist() == [[3.0]]
    assert error_quantile(np.full((3, 1, 1), np.nan), 0.5).tolist() == [[0.0]]
