"""Targets that were filled, not measured, are in no loss, score or baseline; without holes nothing changes."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch

from gatelab.core import GRU, Forecaster
from gatelab.data.messages import DataError
from gatelab.data.series.module import SeriesDataModule
from gatelab.data.series.protocol import mase_scale
from gatelab.tasks import ForecastTask
from gatelab.tasks.metrics import ForecastError
from gatelab.tasks.optimizers import adam

HOURS = pd.date_range("2024-01-01", periods=400, freq="h")
LOADS = np.random.default_rng(1).normal(size=(400, 2)).cumsum(axis=0)
HOLES = {
    "cells": [(i, i % 2) for i in range(5, 400, 7)],
    "one channel": [(i, 0) for i in range(330, 400, 2)],
    "the end": [(i, k) for i in range(380, 400) for k in (0, 1)],
    "a long stretch": [(i, k) for i in range(100, 200) for k in (0, 1)],
}


def module(tmp_path, holes=(), *, rows=(), fill: float | None = None, **options) -> SeriesDataModule:
    """Loads with holes: cells without a value and rows that are absent; `fill` overwrites what would be scored."""
    values = LOADS.copy()
    for row, channel in holes:
        values[row, channel] = np.nan
    frame = pd.DataFrame({"date": HOURS, "load": values[:, 0], "wind": values[:, 1]}).drop(index=list(rows))
    frame.to_csv(tmp_path / "t.csv", index=False)
    named = {
        "series": "table",
        "path": str(tmp_path / "t.csv"),
        "time": "date",
        "gaps": "fill",
        "missing": "fill",
    }
    data = SeriesDataModule(**{**named, "lookback": 8, "horizon": 4, "season": 24, **options})
    data.setup()
    return data


def errors(data: SeriesDataModule, split: str) -> tuple[list[float], int]:
    """Squared errors of repeat-last over every measured target of every window, by hand."""
    found = []
    for origin in data.origins[split]:
        for step in range(data.horizon):
            for k in range(2):
                if data.measured is None or data.measured[origin + step, k]:
                    found.append((data.scaled[origin - 1, k] - data.scaled[origin + step, k]) ** 2)
    return found, len(data.origins[split])


@pytest.mark.parametrize("holes", HOLES.values(), ids=HOLES)
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_filled_targets_are_in_no_score_of_model_and_baseline(tmp_path, holes, split):
    data = module(tmp_path, holes)
    squares, windows = errors(data, split)
    found = data.baselines(split)["repeat_last"]
    assert found["mse"] == pytest.approx(np.mean(squares))
    assert found["windows"] == windows == data.spec.windows[split]
    whole = windows * data.horizon * 2
    assert found.get("filled", 0.0) == pytest.approx(100 * (1 - len(squares) / whole))
    spec = data.spec
    metric = ForecastError(spec.mean, spec.std, spec.mase_scale, spec.horizon)
    for batch in data.dataloader(split):
        last = batch.past[:, -1:, :].expand(-1, spec.horizon, -1)
        metric.update(last, batch.future, batch.scored)
    for name, value in metric.compute().items():
        assert float(value) == pytest.approx(found[name], rel=1e-5), name
    assert any("left out of losses and scores" in note for note in data.notes)


def test_rows_that_are_absent_are_not_scored_either(tmp_path):
    rows = range(385, 395)
    by_row, by_cell = module(tmp_path, rows=rows), module(tmp_path, [(i, k) for i in rows for k in (0, 1)])
    for name, scores in by_row.baselines("test").items():
        assert scores == pytest.approx(by_cell.baselines("test")[name]), name
    assert by_row.measured is not None
    assert np.flatnonzero(~by_row.measured[:, 0]).tolist() == list(rows)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_the_gradient_knows_nothing_of_filled_targets(tmp_path, loss):
    data = module(tmp_path, HOLES["cells"])
    torch.manual_seed(0)
    net = ForecastTask.build_net(Forecaster, functools.partial(GRU, hidden_size=4), data.spec)
    task = ForecastTask(net, spec=data.spec, optimizer=functools.partial(adam, lr=0.01), loss=loss)
    batch = next(iter(data.train_dataloader()))
    assert batch.scored is not None
    assert not batch.scored.all()
    gradients = []
    for future in (batch.future, torch.where(batch.scored, batch.future, 1e3)):
        task.zero_grad()
        objective, _, count = task.train_loss(batch._replace(future=future))
        objective.backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
        assert count == batch.scored.sum()
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_the_linear_baseline_and_mase_learn_from_measured_targets_alone(tmp_path):
    data = module(tmp_path, HOLES["a long stretch"])
    train = np.array([o for o in data.origins["train"] if data.measured[o : o + 4].all()])
    whole = module(tmp_path)
    whole.scaled, whole.origins = data.scaled, data.origins | {"train": train}
    assert np.allclose(data._linear.weights[0], whole._linear.weights[0])
    values, measured = np.arange(12.0)[:, None] ** 2, np.ones((12, 1), bool)
    measured[5] = False
    kept = [abs(values[t, 0] - values[t - 2, 0]) for t in range(2, 12) if t not in (5, 7)]
    assert mase_scale(values, 2, measured)[0] == pytest.approx(np.mean(kept))


def test_windows_without_a_measured_target_are_dropped_and_a_split_without_any_is_refused(tmp_path):
    data = module(tmp_path, HOLES["the end"])
    assert data.origins["test"][-1] == 379
    with pytest.raises(DataError, match="the test split has no measured target"):
        module(tmp_path, [(i, k) for i in range(320, 400) for k in (0, 1)])


def test_a_file_without_holes_has_no_mask(tmp_path):
    data = module(tmp_path)
    assert data.measured is None
    assert next(iter(data.train_dataloader())).scored is None
    assert "filled" not in data.baselines("test")["linear"]
