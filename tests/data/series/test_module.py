"""The series DataModule: published borders and counts, a scaler that never sees later splits, refusals by name."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gatelab.data.messages import DataError
from gatelab.data.series.module import SeriesDataModule
from gatelab.tasks.metrics import ForecastError


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "date": pd.date_range("2024-01-01", periods=400, freq="h").astype(str),
            "load": rng.normal(size=400),
            "wind": rng.normal(size=400),
        }
    )
    path = tmp_path / "t.csv"

    def write(**changes) -> str:
        frame.assign(**changes).to_csv(path, index=False)
        return str(path)

    return write


def module(**options) -> SeriesDataModule:
    data = SeriesDataModule(**options)
    data.setup()
    return data


@pytest.mark.parametrize(
    ("series", "horizon", "windows"),
    [
        ("etth1", 96, {"valid": 2785, "test": 2785}),
        ("etth2", 720, {"valid": 2161, "test": 2161}),
        ("ettm1", 96, {"valid": 11425, "test": 11425}),
        ("ettm2", 96, {"valid": 11425, "test": 11425}),
        ("exchange", 96, {"valid": 665, "test": 1422}),
    ],
)
@pytest.mark.parametrize("lookback", [24, 336])
@pytest.mark.quick(1, rest="ci")
def test_no_window_is_dropped_at_any_lookback(mirror, series, horizon, windows, lookback):
    data = module(series=series, lookback=lookback, horizon=horizon, mirror=str(mirror))
    assert {split: data.spec.windows[split] for split in windows} == windows
    found = sum(len(batch.future) for batch in data.test_dataloader())
    assert found == windows["test"]


def test_ett_borders(mirror):
    data = module(series="etth1", mirror=str(mirror))
    assert [int(data.origins[split][0]) for split in data.splits] == [96, 8640, 11520]
    assert [int(data.origins[split][-1]) + 96 for split in data.splits] == [8640, 11520, 14400]
    assert data.spec.frequency == "h"
    assert data.spec.season == 24


def test_training_split_is_standard_and_targets_are_chosen_by_name(mirror):
    data = module(series="etth1", target=["OT", "HUFL"], mirror=str(mirror))
    assert data.spec.target_index == (6, 0)
    train = data.scaled[:8640]
    assert np.abs(train.mean(axis=0)).max() < 1e-12
    assert np.abs(train.std(axis=0) - 1).max() < 1e-12
    batch = next(iter(data.test_dataloader()))
    assert batch.past.shape == (256, 96, 7)
    assert batch.future.shape == (256, 96, 2)
    original = batch.future[0, 0].numpy() * np.array(data.spec.std)[[6, 0]] + np.array(data.spec.mean)[[6, 0]]
    assert np.allclose(original, data.data.values[11520, [6, 0]], atol=1e-5)


def test_the_scaler_sees_the_training_rows_only(table):
    options = {"series": "table", "time": "date", "lookback": 10, "horizon": 5}
    first = module(path=table(), **options)
    load = pd.read_csv(table())["load"].to_numpy().copy()
    load[280:] = 1e9
    second = module(path=table(load=load), **options)
    assert (first.spec.mean, first.spec.std) == (second.spec.mean, second.spec.std)
    assert first.spec.mase_scale == second.spec.mase_scale


def test_every_window_reaches_one_rank(table):
    path, seen = table(), []
    for rank in range(3):
        data = module(
            series="table", path=path, time="date", lookback=10, horizon=5, batch_size=9, eval_batch_size=9
        )
        data.trainer = SimpleNamespace(global_rank=rank, world_size=3)
        seen += [tuple(row) for batch in data.dataloader("train") for row in batch.past[:, 0].tolist()]
    assert len(seen) == len(set(seen)) == data.spec.windows["train"]


def test_seed_decides_the_order_and_nothing_else():
    one, other = (module(series="embedded_series", seed=seed) for seed in (1, 2))
    assert one.fingerprint == other.fingerprint
    assert not torch.equal(next(iter(one.train_dataloader())).past, next(iter(other.train_dataloader())).past)
    assert torch.equal(next(iter(one.val_dataloader())).past, next(iter(other.val_dataloader())).past)
    assert module(series="embedded_series", data_seed=1).fingerprint != one.fingerprint


def test_constant_inputs_are_noted_and_constant_targets_refused(table):
    wind = np.full(400, 0.1)
    wind[390:] = 5.0
    options = {"series": "table", "path": table(wind=wind), "time": "date", "lookback": 10, "horizon": 5}
    with pytest.raises(DataError, match=r"t\.csv: column 'wind' is constant .0\.1. in the 280 training rows"):
        module(**options)
    data = module(target=["load"], **options)
    assert data.notes == ["constant in the training rows, hence centred but not scaled: 'wind'"]
    assert np.isfinite(data.scaled).all()


def test_two_fractions_leave_out_the_test_split(table):
    data = module(series="table", path=table(), time="date", lookback=10, horizon=5, split=[0.8, 0.2])
    assert data.splits == ("train", "valid")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"series": "embedded_series", "path": "x.csv"},
            r"data\.path is for data=table",
        ),
        ({"series": "table"}, r"data=table needs data\.path"),
        ({"horizon": 0}, r"data\.horizon=0"),
        ({"season": 0}, r"data\.season=0"),
        ({"season": 9000}, r"data\.season=9000"),
        ({"horizon": 900}, r"valid split has 874 rows: too few for data\.lookback=96, data\.horizon=900"),
        ({"lookback": 6200}, r"data\.lookback=6200"),
        ({"target": ["demnad"]}, "no channel 'demnad'. Did you mean 'demand'"),
        ({"split": [0.5, 0.4, 0.2]}, r"data\.split=\[0\.5, 0\.4, 0\.2\]"),
        ({"folds": 3}, r"data\.folds=3 without data\.fold"),
        ({"fold": 0}, r"data\.fold=0 without data\.folds"),
        ({"folds": 3, "fold": 3}, r"data\.fold=3: .*data\.fold=0 to 2"),
        ({"folds": 80, "fold": 0}, r"data\.folds=80: the 6989 rows .* data\.folds=45 fits"),
        ({"series": "etth3"}, r"data\.series='etth3': expected one of etth1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(DataError, match=message):
        module(**options)


def test_prescribed_borders_are_not_overridden(mirror):
    with pytest.raises(DataError, match=r"data\.split: etth1 has prescribed borders"):
        module(series="etth1", split=[0.7, 0.1, 0.2], mirror=str(mirror))


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_etth1_folds_train_on_the_past_of_the_block_they_validate_on(mirror, fold):
    plain = module(series="etth1", mirror=str(mirror))
    data = module(series="etth1", folds=3, fold=fold, mirror=str(mirror))
    start, end = [(2880, 5760), (5760, 8640), (8640, 11520)][fold]
    assert data.spec.windows == {"train": start - 191, "valid": 2785, "test": 2785}
    assert (int(data.origins["train"][0]), int(data.origins["train"][-1]) + 96) == (96, start)
    # every row of the block is forecast, and the look-back may reach into the training rows
    assert (int(data.origins["valid"][0]), int(data.origins["valid"][-1]) + 96) == (start, end)
    assert np.array_equal(data.origins["test"], plain.origins["test"])
    assert data.fingerprint == plain.fingerprint
    original = [d.scaled[11424:] * np.array(d.spec.std) + np.array(d.spec.mean) for d in (plain, data)]
    assert np.allclose(*original)


def test_scaler_mase_and_baselines_of_a_fold_see_its_training_rows_only(table):
    options = {"series": "table", "time": "date", "lookback": 10, "horizon": 5, "folds": 3, "season": 24}
    first = module(path=table(), fold=1, **options)
    cut = int(first.origins["valid"][0])
    assert cut == 160
    load = pd.read_csv(table())["load"].to_numpy().copy()
    assert np.allclose(first.spec.mean[0], load[:cut].mean())
    assert np.allclose(first.spec.mase_scale[0], np.abs(load[24:cut] - load[: cut - 24]).mean())
    counts = {metrics["windows"] for metrics in first.baselines("valid").values()}
    assert counts == {first.spec.windows["valid"]} == {80 - 4}
    load[240:] = 1e9  # what comes after the block
    later = module(path=table(load=load), fold=1, **options)
    assert later.spec == first.spec
    assert later.baselines("valid") == first.baselines("valid")
    load[cut:] = 1e9  # the block itself
    block = module(path=table(load=load), fold=1, **options)
    assert block.spec == first.spec


def test_every_row_behind_the_first_training_part_is_validated_on_once(table):
    path, seen = table(), []
    for fold in range(4):
        data = module(series="table", path=path, time="date", lookback=10, horizon=1, folds=4, fold=fold)
        assert data.origins["train"][-1] < data.origins["valid"][0]
        seen += data.origins["valid"].tolist()
    assert seen == list(range(64, 320))


def test_two_fractions_give_all_rows_to_the_folds(table):
    options = {"series": "table", "path": table(), "time": "date", "lookback": 10, "horizon": 5}
    data = module(split=[0.8, 0.2], folds=3, fold=2, **options)
    assert data.splits == ("train", "valid")
    assert int(data.origins["valid"][-1]) + 5 == 400


def test_folds_null_is_the_ordinary_split(table):
    options = {"series": "table", "path": table(), "time": "date", "lookback": 10, "horizon": 5}
    one, other = module(**options), module(folds=None, fold=None, **options)
    assert one.spec == other.spec
    assert one.notes == other.notes
    assert [int(o[0]) for o in one.origins.values()] == [10, 280, 320]
    (note,) = module(folds=3, fold=0, **options).notes
    assert "data.fold=0 of data.folds=3" in note


def test_a_target_that_is_constant_in_the_training_rows_of_a_fold_is_refused(table):
    wind = np.arange(400.0)
    wind[:120] = 0.5
    options = {"series": "table", "path": table(wind=wind), "time": "date", "lookback": 10, "horizon": 5}
    with pytest.raises(DataError, match=r"'wind' is constant .0\.5. in the 80 training rows"):
        module(folds=3, fold=0, **options)
    module(folds=3, fold=1, **options)


def spiked(value: float, row: int) -> np.ndarray:
    values = np.random.default_rng(1).normal(size=400)
    values[row] = value
    return values


WILD = {
    "huge": np.where(np.arange(400) % 2, 1e308, -1e308),
    "large": np.random.default_rng(1).normal(size=400) * 1e200,
    "squares overflow": np.random.default_rng(1).normal(size=400) * 1e155,
    "squares underflow": np.random.default_rng(1).normal(size=400) * 1e-200,
    "tiny": (np.arange(400) % 2) * 1e-300,
    **{f"{value:g} in row {row}": spiked(value, row) for value in (1e17, 1e60, -1e300) for row in (300, 399)},
}
MILD = {
    "large": np.random.default_rng(1).normal(size=400) * 1e90,
    "small": np.random.default_rng(1).normal(size=400) * 1e-90,
    "far from zero": 1e12 + np.random.default_rng(1).normal(size=400),
    "a jump": spiked(1e9, 399),
    "zeros at the end": np.r_[np.random.default_rng(1).normal(size=320), np.zeros(80)],
    "the same at every season": np.tile([1.0, 2.0, 4.0, 3.0], 100),
    "almost constant": spiked(0.0, 0) * 0 + (np.arange(400) == 5),
}


@pytest.mark.parametrize("values", WILD.values(), ids=WILD)
@pytest.mark.parametrize("channel", ["load", "wind"])
def test_numbers_that_cannot_be_scored_are_refused_by_their_column(table, values, channel):
    with pytest.raises(DataError, match=f"column '{channel}'.* (cannot be squared|standard deviations)"):
        module(
            series="table",
            path=table(**{channel: values}),
            time="date",
            target=["load"],
            lookback=8,
            horizon=4,
        )


@pytest.mark.parametrize("values", MILD.values(), ids=MILD)
def test_scores_are_finite_numbers_or_absent_with_a_note(table, values):
    data = module(
        series="table", path=table(load=values), time="date", target=["load"], lookback=8, horizon=4, season=4
    )
    errors = ForecastError([data.spec.mean[0]], [data.spec.std[0]], data.spec.mase_scale, 4)
    for batch in data.dataloader("test"):
        assert all(bool(part.isfinite().all()) for part in (batch.past, batch.future))
        errors.update(torch.zeros_like(batch.future), batch.future)
    scores = [*data.baselines("test").values(), {k: float(v) for k, v in errors.compute().items()}]
    undefined = any("no MASE of 'load'" in note for note in data.notes)
    assert undefined == ("season" in next(name for name, value in MILD.items() if value is values))
    for score in scores:
        assert np.isfinite(list(score.values())).all()
        assert ("mase" in score) != undefined


@pytest.mark.parametrize("options", [{"target": []}, {"target": ["load", "load"]}, {"target": "load"}])
def test_targets_are_a_list_of_different_columns(table, options):
    with pytest.raises(DataError, match=r"data\.target=.*different columns"):
        module(series="table", path=table(), time="date", lookback=8, horizon=4, **options)


@pytest.mark.parametrize("split", [[float("nan"), 0.5, 0.5], [0.5, 0.5, float("nan")], [float("inf"), 0.5]])
def test_fractions_are_numbers(table, split):
    with pytest.raises(DataError, match="sum to 1"):
        module(series="table", path=table(), time="date", lookback=8, horizon=4, split=split)
