"""Rolling origin: where windows lie, seasonal errors that see the past only, and the figures that fev publishes."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gatelab.data.messages import DataError
from gatelab.data.series.baselines import seasonal_naive
from gatelab.data.series.module import SeriesDataModule
from gatelab.data.series.rolling import BaselineForecast, rolling_origins, seasonal_errors
from gatelab.data.series.statistical import require_statistical, statistical_forecast


def module(**options: Any) -> SeriesDataModule:
    data = SeriesDataModule(**{"lookback": 8, "horizon": 4, **options})
    data.setup()
    return data


def test_windows_end_with_the_last_row_and_begin_where_nothing_was_seen() -> None:
    assert rolling_origins(100, 6, 3, 4, 80, "x").tolist() == [86, 90, 94]
    assert rolling_origins(100, 6, None, None, 80, "x").tolist() == [82, 88, 94]
    with pytest.raises(DataError, match="room for 4 windows of 6 steps; give --windows 4"):
        rolling_origins(100, 6, 5, 4, 80, "x")
    with pytest.raises(DataError, match=r"shorten data\.horizon"):
        rolling_origins(100, 21, None, None, 80, "x")


def test_seasonal_errors_are_those_of_the_rows_before() -> None:
    generator = np.random.default_rng(0)
    values, measured = generator.normal(size=(50, 2)), generator.random((50, 2)) < 0.8
    origins = np.array([3, 20, 50])
    found = seasonal_errors(values, origins, 5, measured)
    assert found[0].tolist() == [0, 0]  # no season has passed
    for place, row in enumerate(origins[1:], 1):
        for k in range(2):
            known = [t for t in range(5, row) if measured[t, k] and measured[t - 5, k]]
            assert found[place, k] == pytest.approx(
                np.mean([abs(values[t, k] - values[t - 5, k]) for t in known])
            )


def test_a_rolling_window_is_the_window_of_the_split_with_scales_of_its_own() -> None:
    data = module()
    windows = data.rolling(3, 7)
    last = data.origins["test"][-1]
    assert [window.row for window in windows] == [last - 14, last - 7, last]
    batch = windows[-1].batch
    (whole,) = list(data.dataloader("test"))[-1:]
    assert batch.past[0].tolist() == whole.past[-1].tolist()
    assert batch.future[0].tolist() == whole.future[-1].tolist()
    assert batch.spread[0].tolist() == pytest.approx(list(data.spec.std))
    differences = np.abs(data.data.values[24:last] - data.data.values[: last - 24])
    assert batch.mase_scale[0].tolist() == pytest.approx(differences.mean(axis=0).tolist(), rel=1e-5)


def test_baselines_forecast_the_windows_that_are_asked_for() -> None:
    data = module()
    rows = [window.row for window in data.rolling(5)]
    found = data.rolling_baselines(rows)
    expected = seasonal_naive(data.scaled, 4, 24)(np.array(rows))
    for place in range(5):
        np.testing.assert_array_equal(found["seasonal_naive"].answer(place)[0], expected[place : place + 1])
    for forecast in found.values():
        _, quantiles = forecast.answer(4)
        assert quantiles.shape == (1, 4, 4, len(forecast.levels))
        assert (np.diff(quantiles, axis=-1) >= 0).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"borders": [100, 90]}, "two or three rising numbers"),
        ({"borders": [100]}, "two or three rising numbers"),
        ({"borders": [100, 200, 10**6]}, "there are"),
        ({"borders": [100, 200], "split": [0.5, 0.5]}, "without data.split"),
        ({"borders": [100, 200], "folds": 3, "fold": 0}, "without data.split and data.folds"),
    ],
)
def test_borders_are_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        module(**options)


def test_borders_say_where_the_splits_end() -> None:
    data = module(borders=[500, 600, 700])
    assert data.spec.windows == {"train": 500 - 8 - 3, "valid": 97, "test": 97}
    assert data.spec.mean[0] == pytest.approx(data.data.values[:500, 0].mean())


def test_the_seasonal_naive_forecast_has_the_errors_that_fev_publishes(mirror: Any, monkeypatch: Any) -> None:
    """ETT_1H: both tables to their last row, 20 windows of a week; MASE 1.3227, WAPE .2864 (Seasonal Naive)."""
    from gatelab.tasks.series.backtest import backtest
    from gatelab.tasks.series.leaderboards import fev_means

    monkeypatch.setenv("GATELAB_DATA_MIRROR", str(mirror))
    mase, of_both = [], []
    for name in ("etth1", "etth2"):
        data = module(series=name, lookback=168, horizon=168, borders=[10_000, 13_000, 17_420])
        windows = data.rolling(20, 168)
        point = seasonal_naive(data.scaled, 168, 24)(np.array([window.row for window in windows]))
        scales = {
            "mean": data.spec.mean,
            "std": data.spec.std,
            "mase_scale": data.spec.mase_scale,
            "horizon": 168,
        }
        places = {window.row: place for place, window in enumerate(windows)}

        def answer(window: Any, places: Any = places, point: Any = point) -> Any:
            import torch

            said = torch.from_numpy(point[places[window.row]][None])
            return window.batch, SimpleNamespace(point=said, quantiles=None, crps=None)

        report = backtest(windows, answer, scales, None, {})
        mase.append(report["metrics"]["mase"])
        of_both.append([window["per_target"] for window in report["windows"]])
    assert np.mean(mase) == pytest.approx(1.3227159, rel=1e-5)
    pooled = []
    for one, other in zip(*of_both, strict=True):  # there both tables are series of one data set
        error = (np.array(one["mae_original"]) + other["mae_original"]) / 2
        size = (np.divide(one["mae_original"], one["nd"]) + np.divide(other["mae_original"], other["nd"])) / 2
        pooled.append({"per_target": {"mae_original": error.tolist(), "nd": (error / size).tolist()}})
    assert fev_means(pooled)["fev_wape"] == pytest.approx(0.286422462, rel=1e-5)


def test_models_of_statsforecast_are_named_and_their_absence_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="--baselines auto_etz: there are auto_ets, auto_arima"):
        require_statistical(["auto_etz"])
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    with pytest.raises(DataError, match=r"needs statsforecast.*gatelab\[forecast\]"):
        require_statistical(["auto_ets"])


def test_intervals_of_statsforecast_become_quantiles(monkeypatch: pytest.MonkeyPatch) -> None:
    class AutoETS:
        """Answers as the library's models do: central intervals in percent."""

        def __init__(self, season_length: int) -> None:
            self.season = season_length

        def forecast(self, y: np.ndarray, h: int, level: list[int]) -> dict[str, np.ndarray]:
            mean = np.full(h, y[-self.season])
            sides = {f"{side}-{p}": mean + sign * p for p in level for side, sign in (("lo", -1), ("hi", 1))}
            return {"mean": mean, **sides}

    monkeypatch.setitem(sys.modules, "statsforecast", ModuleType("statsforecast"))
    monkeypatch.setitem(sys.modules, "statsforecast.models", SimpleNamespace(AutoETS=AutoETS))  # type: ignore[arg-type]
    point, quantiles = statistical_forecast("auto_ets", np.arange(10.0), 2, 3, (0.025, 0.25, 0.5, 0.9))
    assert point.tolist() == [7, 7]
    assert quantiles[0].tolist() == [7 - 95, 7 - 50, 7, 7 + 80]
    data = module()
    found = data.rolling_baselines([window.row for window in data.rolling(2)], ["auto_ets"])["auto_ets"]
    assert isinstance(found, BaselineForecast)
    point, quantiles = found.answer(1)
    assert point.shape == (1, 4, 4)
    assert quantiles.shape == (1, 4, 4, len(found.levels))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["auto_ets", "auto_arima"])
def test_models_of_the_real_statsforecast_have_intervals_around_their_points(name: str) -> None:
    pytest.importorskip("statsforecast", reason="statsforecast is not installed: gatelab[forecast]")
    steps, noise = np.arange(120), np.random.default_rng(0).normal(size=120)
    past = 20 + 5 * np.sin(steps * 2 * np.pi / 12) + noise
    levels = (0.025, 0.1, 0.5, 0.9, 0.975)
    point, quantiles = statistical_forecast(name, past, 12, 12, levels)
    assert (np.diff(quantiles, axis=1) > 0).all()
    assert quantiles[:, 2].tolist() == point.tolist()
    truth = 20 + 5 * np.sin(np.arange(120, 132) * 2 * np.pi / 12)
    assert np.abs(point - truth).mean() < 1.5  # a season of 5 is found
