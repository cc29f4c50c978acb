"""Conformal intervals cover what they say on exchangeable data, whatever the network; a calibration is plain data."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from gatelab.core.series.outputs import Gaussian
from gatelab.data import SeriesBatch
from gatelab.data.series.scores import SCORED_LEVELS
from gatelab.tasks import ForecastTask
from gatelab.tasks.optimizers import adam
from gatelab.tasks.series.conformal import Conformal, fit_conformal

Make = Callable[..., Any]


class TooNarrow(Gaussian):
    """A distribution with half of the spread that it should have."""

    def point(self, parameters: Tensor) -> Tensor:
        return parameters[..., 0]

    def quantiles(self, parameters: Tensor, levels: list[float]) -> Tensor:
        z = torch.tensor(stats.norm.ppf(levels), dtype=parameters.dtype)
        return parameters[..., :1] + parameters[..., 1:] * z


class Net(nn.Module):
    """Repeats the last value, with a spread of one half."""

    def __init__(self, horizon: int, targets: list[int], output: Any) -> None:
        super().__init__()
        self.horizon, self.targets, self.output = horizon, targets, output
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, past: Tensor) -> Tensor:
        point = past[:, -1:, self.targets].expand(-1, self.horizon, -1)
        return point if self.output is None else torch.stack((point, torch.full_like(point, 0.5)), -1)


def noise(windows: int, seed: int, batch: int) -> Any:
    """A stand-in for a DataModule: windows without a pattern, so that any two splits are exchangeable."""
    future = torch.randn(windows, 3, 2, generator=torch.Generator().manual_seed(seed))
    scored = torch.rand(windows, 3, 2, generator=torch.Generator().manual_seed(seed + 1)) < 0.9
    parts = [slice(start, start + batch) for start in range(0, windows, batch)]
    batches = [SeriesBatch(torch.zeros(len(future[p]), 4, 2), future[p], scored[p]) for p in parts]
    return SimpleNamespace(spec=SimpleNamespace(windows={"valid": windows}), dataloader=lambda split: batches)


@pytest.mark.parametrize("own", [(0.5,), (0.1, 0.5, 0.9), None])
def test_calibrated_intervals_cover_what_they_say_on_alike_windows(own: Any) -> None:
    def forecast(batch: SeriesBatch, levels: Any) -> Tensor:
        z = torch.tensor(stats.norm.ppf(levels), dtype=torch.float32) * (own is None or len(own) > 1)
        return (0.3 + 0.5 * z).expand(*batch.future.shape, len(levels))  # biased, and too narrow

    conformal = fit_conformal(forecast, noise(2000, 1, 300), own)
    (fresh,) = noise(20_000, 7, 20_000).dataloader("test")
    quantiles = conformal.quantiles(lambda levels: forecast(fresh, levels), own)
    truth = fresh.future[..., None]
    for low, high in ((0.25, 0.75), (0.1, 0.9), (0.025, 0.975)):
        low_at, high_at = (SCORED_LEVELS.index(level) for level in (low, high))
        inside = (quantiles[..., low_at] <= truth[..., 0]) & (truth[..., 0] <= quantiles[..., high_at])
        assert float(inside.float().mean()) == pytest.approx(high - low, abs=0.02)
    assert bool((quantiles.diff(dim=-1) >= 0).all())


def test_a_calibration_does_not_depend_on_the_batch_size_and_survives_json() -> None:
    def forecast(batch: SeriesBatch, levels: Any) -> Tensor:
        return torch.zeros(*batch.future.shape, len(levels))

    one, other = (fit_conformal(forecast, noise(3000, 2, size), (0.5,)) for size in (3000, 77))
    assert torch.equal(one.shifts, other.shifts)
    again = Conformal.from_dict(json.loads(json.dumps(one.to_dict())), (3, 2))
    assert torch.equal(again.shifts, one.shifts)
    assert again.windows == one.windows == 2048
    with pytest.raises(ValueError, match="the calibration is"):
        Conformal.from_dict(one.to_dict(), (4, 2))


def test_too_few_windows_for_a_level_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 39 validation windows"):
        fit_conformal(lambda b, levels: torch.zeros(*b.future.shape, len(levels)), noise(38, 1, 38), (0.5,))


@pytest.mark.parametrize("output", [None, TooNarrow()])
def test_a_task_is_scored_with_conformal_intervals(output: Any, series_data: Make) -> None:
    data = series_data()
    net = Net(data.spec.horizon, list(data.spec.target_index), output)
    task = ForecastTask(net, spec=data.spec, optimizer=adam)
    assert (task.quantile_metric is None) == (output is None)
    row = task.score_row("conformal", {}, data, "test", lambda label, total: lambda done: None)
    assert row.metrics["windows"] == data.spec.windows["test"]
    assert row.metrics["coverage_80"] == pytest.approx(0.8, abs=0.12)
    assert {"sql", "wql", "crps", "msis", "mse", "coverage_95"} <= row.metrics.keys()
    assert task.calibration is None  # the task is as before
    with pytest.raises(ValueError, match="the validation split calibrates"):
        task.score_row("conformal", {}, data, "valid", lambda label, total: lambda done: None)


def test_the_scores_of_a_distribution_do_not_depend_on_the_batch_size(
    series_data: Make, make_trainer: Make
) -> None:
    results = []
    for size in (64, 5000):
        data = series_data(eval_batch_size=size)
        task = ForecastTask(
            Net(data.spec.horizon, list(data.spec.target_index), TooNarrow()),
            spec=data.spec,
            optimizer=adam,
            monitor="val/sql",
        )
        make_trainer().test(task, datamodule=data, verbose=False)
        results.append(task.results["test"])
    assert results[0] == pytest.approx(results[1], rel=1e-9)
    assert 0 < results[0]["coverage_80"] < 1
    assert "coverage_95" in results[0]
    batches = list(data.dataloader("test"))
    future = torch.cat([batch.future for batch in batches])
    middle = torch.cat([batch.past[:, -1:, list(data.spec.target_index)] for batch in batches])
    inside = (future - middle).abs() <= 0.5 * stats.norm.ppf(0.9)
    assert results[0]["coverage_80"] == pytest.approx(float(inside.double().mean()), abs=1e-4)


def test_a_score_that_points_do_not_have_cannot_be_watched(series_data: Make) -> None:
    data = series_data()
    with pytest.raises(ValueError, match="monitor=val/sql: the network gives points"):
        ForecastTask(Net(4, [0], None), spec=data.spec, optimizer=adam, monitor="val/sql")


def test_errors_that_are_not_known_calibrate_nothing() -> None:
    data = noise(60, 1, 60)
    (batch,) = data.dataloader("valid")
    wild = batch._replace(future=torch.where(batch.scored, batch.future, 1e6))
    data.dataloader = lambda split: [wild]
    conformal = fit_conformal(lambda b, levels: torch.zeros(*b.future.shape, len(levels)), data, (0.5,))
    assert np.abs(conformal.shifts.numpy()).max() < 10


@pytest.mark.parametrize("known", [0, 3, 38, 39])
@pytest.mark.parametrize("step", [0, 2])
def test_a_step_whose_truths_are_missing_has_no_interval(known, step):
    """Levels .025 and .975 need 39 errors; a step with fewer is named, whatever the number of windows."""
    scored = torch.ones(60, 3, 1, dtype=torch.bool)
    scored[known:, step] = False
    batch = SeriesBatch(torch.zeros(60, 4, 1), torch.arange(180.0).reshape(60, 3, 1), scored=scored)
    data = SimpleNamespace(spec=SimpleNamespace(windows={"valid": 60}), dataloader=lambda split: [batch])

    def fit():
        return fit_conformal(lambda part, at: torch.zeros(*part.future.shape, len(at)), data, [0.5])

    if known < 39:
        with pytest.raises(ValueError, match=rf"step {step + 1} of target 1 has {known} "):
            fit()
        return
    truths = np.sort(batch.future[:known, step, 0].numpy())
    assert fit().shifts[[0, -1], step, 0].tolist() == [truths[0], truths[-1]]  # ranks floor(1) and ceil(39)
