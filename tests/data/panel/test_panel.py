"""Panels: windows as a plain loop cuts them, scalers and codes that see the training rows only, exact resume."""

import sys
from itertools import islice
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gatelab.data.messages import DataError
from gatelab.data.panel.module import PanelDataModule
from gatelab.data.panel.rows import bounds, last_true, quantiles, ranges, sums
from gatelab.data.specs import SeriesSpec


def frame(lengths=(60, 45, 30), freq="h", **columns) -> pd.DataFrame:
    """Series a, b, c that begin five steps apart; a value is 1000 times its series' number plus its step."""
    parts = []
    for number, length in enumerate(lengths):
        times = pd.date_range("2024-01-01", periods=5 * number + length, freq=freq)[5 * number :]
        part = pd.DataFrame(
            {"unique_id": "abcdefgh"[number], "ds": times, "y": 1000.0 * number + np.arange(length)}
        )
        parts.append(part)
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(**{name: make(whole) if callable(make) else make for name, make in columns.items()})


@pytest.fixture
def panel(tmp_path, monkeypatch):
    monkeypatch.setenv("GATELAB_CACHE", str(tmp_path / "cache"))

    def make(table: pd.DataFrame, **options) -> PanelDataModule:
        path = tmp_path / "panel.csv"
        table.to_csv(path, index=False)
        given = {
            "path": str(path),
            "time": "ds",
            "target": ["y"],
            "lookback": 8,
            "horizon": 3,
            "season": 4,
        } | options
        data = PanelDataModule(**given)
        data.setup()
        return data

    return make


def data_frame(data: PanelDataModule):
    """The series of a module as it read them."""
    values = np.split(data.panel.values[:, 0], data.panel.starts[1:-1])
    return [(name, pd.DataFrame({"y": y})) for name, y in zip(data.panel.ids, values, strict=True)]


def batches(data: PanelDataModule, split: str) -> list:
    return list(data.dataloader(split))


def test_windows_are_those_of_a_plain_loop(panel):
    """Every field of every window, of series of random lengths with holes, against slices of each series."""
    rng = np.random.default_rng(1)
    lengths = (9, 10, 25, 40, 7, 13)
    table = frame(lengths, x=lambda t: rng.normal(size=len(t)), price=lambda t: rng.normal(size=len(t)))
    table["kind"] = np.where(rng.random(len(table)) < 0.5, "sale", "usual")
    table["size"] = table.unique_id.map({n: k for k, n in enumerate("abcdef")})
    table.loc[rng.choice(len(table), 12, replace=False), "y"] = np.nan
    data = panel(
        table,
        past=["x"],
        known_future=["price", "kind"],
        static=["size"],
        missing="mask",
        scaling="none",
        calendar=["hour"],
        valid_windows=2,
        test_windows=1,
        step=2,
    )
    assert data.spec.known == ("price",)
    assert list(data.spec.known_codes) == ["kind", "hour"]
    codes = {word: place for place, word in enumerate(data.spec.words["kind"], 1)}
    mean, std = data.spec.scales["price"]
    for split in data.splits:
        dataset, _ = data._dataset(split, 0, 1)
        expected = []
        for number, (_, rows) in enumerate(table.groupby("unique_id")):
            n = len(rows)
            train_end = n - 3 - 5
            last = train_end - 3
            origins = {
                "train": range(max(1, min(8, last)), last + 1),
                "valid": [n - 8, n - 6],
                "test": [n - 3],
            }[split]
            usable = train_end > 0 and rows.y.iloc[:train_end].notna().any()
            expected += [
                (number, rows, o) for o in origins if usable and rows.y.iloc[o : o + 3].notna().any()
            ]
        assert len(dataset) == len(expected) > 0
        batch = dataset[np.arange(len(dataset))]
        for i, (number, rows, origin) in enumerate(expected):
            assert int(batch.series[i]) == number
            for step in range(-8, 3):
                row = rows.iloc[origin + step] if origin + step >= 0 else None
                if step < 0:
                    seen = [False, False] if row is None else [not np.isnan(row.y), True]
                    values = [0 if row is None or np.isnan(row.y) else row.y, 0 if row is None else row.x]
                    assert batch.observed[i, step + 8].tolist() == seen
                    assert batch.past[i, step + 8].tolist() == pytest.approx(values)
                else:
                    assert bool(batch.scored[i, step, 0]) == (not np.isnan(row.y))
                    assert float(batch.future[i, step, 0]) == pytest.approx(np.nan_to_num(row.y))
                price = 0 if row is None else (row.price - mean) / std
                assert float(batch.known[i, step + 8, 0]) == pytest.approx(price, abs=1e-5)
                known = [0, 0] if row is None else [codes[row.kind], pd.Timestamp(row.ds).hour + 1]
                assert batch.known_codes[i, step + 8].tolist() == known
            sizes = {int(row["size"]) for _, row in rows.iterrows()}
            back = float(batch.static[i, 0]) * data.spec.scales["size"][1] + data.spec.scales["size"][0]
            assert back == pytest.approx(sizes.pop(), abs=1e-5)


def test_scalers_see_the_training_rows_of_their_series_only(panel):
    table = frame()
    late = table.groupby("unique_id").cumcount(ascending=False) < 6  # of the validation and the test window
    rows = [part.y.to_numpy()[:-6] for _, part in table.groupby("unique_id")]
    expected = {
        "standard": [(r.mean(), r.std()) for r in rows],
        "mean_absolute": [(0, np.abs(r).mean()) for r in rows],
        "robust": [(np.median(r), np.subtract(*np.quantile(r, [0.75, 0.25]))) for r in rows],
        "none": [(0, 1)] * 3,
    }
    for scaling, pairs in expected.items():
        for later in (0, 1e6):
            data = panel(table.assign(y=table.y.mask(late, table.y + later)), scaling=scaling)
            found = np.stack([data.arrays.level[:, 0], data.arrays.spread[:, 0]], axis=1)
            np.testing.assert_allclose(found, pairs)
    batch = batches(panel(table), "test")[0]
    original = batch.future * batch.spread[:, None] + batch.level[:, None]
    np.testing.assert_allclose(original[:, -1, 0], [59, 1044, 2029], rtol=1e-5)


def test_codes_follow_the_frequency_in_training_and_0_is_unseen(panel):
    table = frame((40,), kind=["rare"] * 5 + ["often"] * 29 + ["new"] * 6)
    data = panel(table, known_future=["kind"])
    assert data.spec.words == {"kind": ["often", "rare"]}
    assert data.spec.known_codes == {"kind": 3}
    assert set(batches(data, "test")[0].known_codes[0, -3:, 0].tolist()) == {0}


def test_calendar_and_fourier_follow_the_stamps(panel):
    data = panel(frame(freq="h"), calendar=["hour", "weekday", "day", "month"], fourier={24: 2})
    assert data.spec.known_codes == {"hour": 25, "weekday": 8, "day": 32, "month": 13}
    assert data.spec.known == ("sin_24_1", "cos_24_1", "sin_24_2", "cos_24_2")
    for split in data.splits:
        dataset, _ = data._dataset(split, 0, 1)
        batch = dataset[np.arange(len(dataset))]
        for i in range(len(dataset)):
            times = pd.DatetimeIndex(data.times(split, i))
            wanted = np.stack([times.hour, times.day_of_week, times.day - 1, times.month - 1], axis=1) + 1
            assert batch.known_codes[i].tolist() == wanted.tolist()
            np.testing.assert_allclose(
                batch.known[i, :, 2], np.sin(2 * np.pi * 2 * times.hour / 24), atol=1e-5
            )


def test_short_series_are_padded_or_left_out_and_told(panel):
    data = panel(frame((60, 12, 6, 7)))
    assert data.spec.windows == {"train": 44 + 1, "valid": 3, "test": 3}
    assert any("1 of 4 series left out" in note and "'c' (6 rows)" in note for note in data.notes)
    assert any("1 series too short for a training window" in note for note in data.notes)
    batch = batches(data, "valid")[0]
    assert batch.observed[:, :, 0].sum(dim=1).tolist() == [8, 6, 1]
    assert not batch.past[2, :7].any()
    assert panel(frame((60, 12, 6, 7)), min_past=1).spec.windows["train"] == 51 + 3


def test_weighting_by_series_meets_each_equally_often(panel):
    data = panel(frame((200, 40, 30)), weighting="series")
    seen = np.concatenate([batch.series.numpy() for batch in data.train_dataloader()])
    counts = np.bincount(seen)
    assert len(seen) == data.spec.windows["train"]
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("weighting", ["window", "series"])
def test_an_epoch_goes_on_where_it_stopped(panel, weighting):
    whole = panel(frame(), weighting=weighting, batch_size=4, seed=3)
    whole.first_epoch = 2
    rest = panel(frame(), weighting=weighting, batch_size=4, seed=3)
    rest.first_epoch, rest.skip_batches = 2, 5
    after = list(islice(whole.train_dataloader(), 5, None))
    for a, b in zip(after, rest.train_dataloader(), strict=True):
        assert torch.equal(a.past, b.past)
        assert torch.equal(a.series, b.series)
    shares = [whole._dataset("train", rank, 2)[1] for rank in range(2)]
    joined = [np.concatenate(pair) for pair in zip(*shares, strict=True)]
    assert np.array_equal(np.concatenate(joined), whole._dataset("train", 0, 1)[1].permutation())


def test_folds_validate_one_after_the_other_before_the_test_split(panel):
    found = [panel(frame(), folds=3, fold=fold) for fold in range(3)]
    assert [int(d.windows["valid"].origin[0]) for d in found] == [48, 51, 54]
    assert {tuple(d.windows["test"].origin) for d in found} == {(57, 102, 132)}
    assert all(d.windows["train"].origin[0] + 3 <= d.windows["valid"].origin[0] for d in found)


def test_baselines_are_those_of_a_plain_loop(panel):
    table = frame((60, 45), y=lambda t: np.random.default_rng(2).normal(size=len(t)).cumsum())
    table.loc[[3, 56, 57, 59], "y"] = np.nan  # of series a: at its end too
    data = panel(table, missing="mask")
    sums = {name: [0.0, 0.0] for name in ("repeat_last", "seasonal_naive", "drift")}
    for _, part in table.groupby("unique_id"):
        y, n = part.y.to_numpy(), len(part)
        past = y[: n - 3]
        filled = pd.Series(past).ffill().to_numpy()
        there = np.flatnonzero(~np.isnan(past))
        scale = np.nanmean(np.abs(past[4:] - past[:-4]))
        rise = (past[there[-1]] - past[there[0]]) / (there[-1] - there[0])
        for h in range(3):
            guesses = (filled[-1], filled[n - 3 - 4 + h], filled[-1] + (h + 1) * rise)
            for name, guess in zip(sums, guesses, strict=True):
                if not np.isnan(y[n - 3 + h]):
                    sums[name][0] += abs(guess - y[n - 3 + h]) / scale
                    sums[name][1] += abs(guess - y[n - 3 + h])
    found = data.baselines("test")
    for name, (mase, mae) in sums.items():
        assert found[name]["mase"] == pytest.approx(mase / 4, rel=1e-4)
        assert found[name]["mae_original"] == pytest.approx(mae / 4, rel=1e-4)
        assert found[name]["filled"] == pytest.approx(100 / 3)
        assert found[name]["windows"] == 2


def test_the_linear_baseline_finds_one_rule_for_all_series(panel):
    """Every series is y[t] = 2 y[t-4] - y[t-8] on a level of its own: the shared weights forecast it exactly."""
    rng = np.random.default_rng(3)
    parts = []
    for number in range(3):
        y = [*(100.0 * number + rng.normal(size=8))]
        for t in range(8, 60):
            y.append(2 * y[t - 4] - y[t - 8])
        parts.append(np.array(y))
    table = frame((60, 60, 60), y=np.concatenate(parts))
    found = panel(table, lookback=9).baselines("test")
    assert found["linear"]["mase"] < 0.02 * found["seasonal_naive"]["mase"]
    assert found["linear"]["parameters"] == 9 * 3


def test_quantiles_of_baselines_are_those_of_their_training_errors(panel):
    table = frame((300, 300), y=lambda t: np.random.default_rng(4).normal(size=len(t)))
    found = panel(table, lookback=4, test_windows=30).baselines("test")
    assert {"sql", "wql", "crps", "msis", "nd"} <= found["repeat_last"].keys()
    for name in ("repeat_last", "seasonal_naive", "linear"):
        assert found[name]["coverage_80"] == pytest.approx(0.8, abs=0.08), name
    assert found["linear"]["sql"] < found["repeat_last"]["sql"]  # the noise of one value, not of two


def test_a_rolling_origin_of_a_panel_is_its_test_split_with_scales_of_its_own(panel):
    data = panel(
        frame((60, 45, 20), y=lambda t: np.random.default_rng(5).normal(size=len(t))), test_windows=3
    )
    windows = data.rolling()
    assert [window.row for window in windows] == [51, 54, 57]
    (whole,) = batches(data, "test")
    for place, window in enumerate(windows):
        assert window.batch.past.tolist() == whole.past[place::3].tolist()
        assert window.batch.future.tolist() == whole.future[place::3].tolist()
        for one, part in enumerate(part.y.to_numpy() for _, part in data_frame(data)):
            before = part[: len(part) - 9 + 3 * place]
            expected = np.abs(before[4:] - before[:-4]).mean()
            assert float(window.batch.mase_scale[one, 0]) == pytest.approx(expected, rel=1e-5)
    found = data.rolling_baselines([window.row for window in windows])
    point, quantiles = found["repeat_last"].answer(1)
    assert point.shape == (3, 3, 1)
    assert quantiles.shape == (3, 3, 1, len(found["repeat_last"].levels))
    assert point[:, 0, 0].tolist() == pytest.approx(windows[1].batch.past[:, -1, 0].tolist())
    with pytest.raises(DataError, match=r"data.test_windows=3.*room for 3 windows"):
        data.rolling(4)


def test_windows_before_the_test_split_are_those_of_series_that_end_there(panel):
    table = frame((60, 45, 20), y=lambda t: np.random.default_rng(5).normal(size=len(t)))
    data = panel(table, valid_windows=2)
    earlier = data.rolling(4, 3, seen=True)
    assert [window.row for window in earlier] == [48, 51, 54, 57]
    for window in earlier:
        settings = data.settings_before(window.row)
        assert settings == {"leave_out": 57 - window.row, "test_windows": 1}
        ended = panel(table, valid_windows=2, **settings)
        assert ended.panel.lengths.tolist() == [n - settings["leave_out"] for n in (60, 45, 20)]
        (again,) = ended.rolling()
        assert again.time == window.time
        torch.testing.assert_close(again.batch.mase_scale, window.batch.mase_scale)
        # scaled by what each has trained on, both are the same numbers
        for part in ("past", "future"):
            numbers = []
            for batch in (again.batch, window.batch):
                unscaled = getattr(batch, part) * batch.spread[:, None] + batch.level[:, None]
                padding = part == "past" and batch.observed is not None
                numbers.append(unscaled[batch.observed] if padding else unscaled)
            torch.testing.assert_close(*numbers)
    with pytest.raises(
        DataError, match=r"shortest series, 'c' with 20 rows, begins at row 47 of 60.*room for 4"
    ):
        data.rolling(5, 3, seen=True)


def test_known_covariates_and_stamps_end_with_their_series(panel):
    table = frame((30, 25), promotion=lambda t: np.arange(len(t)) % 3, kind="a")
    whole = panel(table, known_future=["promotion"], static=["kind"], calendar=["hour"])
    ended = panel(table, known_future=["promotion"], static=["kind"], calendar=["hour"], leave_out=5)
    direct = panel(
        table.groupby("unique_id").head(25).drop(table[table.unique_id == "b"].index[20:]),
        known_future=["promotion"], static=["kind"], calendar=["hour"],
    )  # fmt: skip
    assert whole.panel.lengths.tolist() == [30, 25]
    assert ended.panel.lengths.tolist() == direct.panel.lengths.tolist() == [25, 20]
    for ours, theirs in zip(batches(ended, "test"), batches(direct, "test"), strict=True):
        for name, value in ours._asdict().items():
            if value is not None:
                torch.testing.assert_close(value, getattr(theirs, name), msg=name)
    with pytest.raises(DataError, match=r"data.leave_out=-1: give 0 rows or more"):
        panel(table, leave_out=-1)
    with pytest.raises(DataError, match="every series is shorter"):
        panel(table, leave_out=30)


def test_models_of_statsforecast_see_each_series_up_to_the_origin(panel, monkeypatch):
    seen = []

    class AutoETS:
        """Repeats the last value, without intervals."""

        def __init__(self, season_length):
            assert season_length == 4

        def forecast(self, y, h, level):
            seen.append(len(y))
            return {"mean": np.full(h, y[-1])} | {
                f"{s}-{p}": np.full(h, y[-1]) for p in level for s in ("lo", "hi")
            }

    monkeypatch.setitem(sys.modules, "statsforecast", ModuleType("statsforecast"))
    monkeypatch.setitem(sys.modules, "statsforecast.models", SimpleNamespace(AutoETS=AutoETS))
    data = panel(frame((60, 45)), test_windows=2)
    windows = data.rolling()
    found = data.rolling_baselines([window.row for window in windows], ["auto_ets"])
    point, quantiles = found["auto_ets"].answer(0)
    assert seen == [54, 39]
    np.testing.assert_allclose(point, found["repeat_last"].answer(0)[0], rtol=1e-6)
    assert quantiles.shape == (2, 3, 1, len(found["auto_ets"].levels))


def test_files_of_a_folder_and_of_a_pattern_are_one_panel(panel, tmp_path):
    table = frame(region="north")
    for number, (_, part) in enumerate(table.groupby("unique_id")):
        folder = tmp_path / "parts" / f"region={'north' if number else 'south%20east'}"
        folder.mkdir(parents=True, exist_ok=True)
        part.drop(columns="region").to_parquet(folder / f"{number}.parquet")
    data = panel(table, path=str(tmp_path / "parts"), static=["region"])
    assert data.spec.words == {"region": ["north", "south east"]}
    assert len(data.fingerprint) == 3
    assert data.spec.series == 3
    pattern = panel(table, path=str(tmp_path / "parts" / "*" / "*.parquet"))
    assert np.array_equal(np.sort(pattern.panel.values, axis=0), np.sort(data.panel.values, axis=0))


def test_rows_are_sorted_and_doubles_dropped(panel):
    table = frame()
    mixed = pd.concat([table, table.iloc[[7]]]).sample(frac=1, random_state=0)
    data = panel(mixed)
    assert any("1 row that repeat" in note for note in data.notes)
    assert dict(zip(data.panel.ids, data.panel.lengths, strict=True)) == {"a": 60, "b": 45, "c": 30}


def test_absent_rows_are_missing_where_masked(panel):
    table = frame().drop(index=[70, 71])
    data = panel(table, gaps="mask")
    assert any("2 times of 1 series" in note for note in data.notes)
    assert np.isnan(data.panel.values[:, 0]).nonzero()[0].tolist() == [70, 71]


def test_what_a_panel_publishes_is_plain_and_comes_back(panel):
    data = panel(frame(kind="k"), known_future=["kind"], fourier={24: 1}, calendar=["month"])
    assert SeriesSpec.from_dict(data.spec.to_dict()) == data.spec
    assert data.spec.series == 3
    assert data.spec.frequency == "h"


@pytest.mark.parametrize("freq", ["W-MON", "MS", "QS-FEB", "B", "90min", "ME", "2MS", "MS-15"])
def test_steps_of_the_calendar_are_found_for_series_of_any_beginning(panel, freq):
    table = frame(freq="MS" if freq == "MS-15" else freq)
    if freq == "MS-15":
        table["ds"] += pd.Timedelta(days=14)
    assert panel(table, season=4).spec.frequency == freq


def test_series_of_one_step_may_have_phases_and_zones(panel):
    table = frame()
    table.loc[table.unique_id == "b", "ds"] += pd.Timedelta(minutes=30)
    data = panel(table, calendar=["hour"])
    second = int((data.windows["test"].series == 1).argmax())
    assert data.times("test", second)[-1].endswith(":30")
    table["ds"] = table.ds.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo").astype(str)
    zoned = panel(table, calendar=["hour"])
    assert zoned.panel.zone == "+09:00"
    hours = pd.DatetimeIndex(zoned.times("test", 0)).hour + 1
    assert batches(zoned, "test")[0].known_codes[0, :, 0].tolist() == hours.tolist()


def test_m4_is_scored_as_its_organisers_score_it(mirror):
    """Seasonal naive on Hourly: sMAPE 13.912, MASE 1.193 in the organisers' table."""
    if not (mirror / "m4" / "Hourly-train.csv").is_file():
        pytest.skip("the mirror has no M4 files")
    data = PanelDataModule("m4_hourly", lookback=168, horizon=48, mirror=str(mirror))
    data.setup()
    found = data.baselines("test")["seasonal_naive"]
    owa = (found["smape"] / data.spec.reference["smape"] + found["mase"] / data.spec.reference["mase"]) / 2
    assert owa == pytest.approx(0.627, abs=1e-3)
    assert data.spec.series == data.spec.windows["test"] == 414
    assert (found["smape"], found["mase"]) == (
        pytest.approx(13.912, abs=1e-3),
        pytest.approx(1.193, abs=1e-3),
    )


def test_arithmetic_of_ragged_rows():
    starts = bounds(np.array([3, 0, 2]))
    values = np.array([3.0, np.nan, 1.0, 5.0, 4.0])
    assert sums(np.arange(5), starts).tolist() == [3, 0, 7]
    assert ranges(np.array([4, 0]), np.array([3, 2]), 2).tolist() == [4, 6, 8, 0, 2]
    assert last_true(np.array([False, True, False, False, True]), starts).tolist() == [-1, 1, 1, -1, 4]
    np.testing.assert_allclose(quantiles(values, starts, (0.25, 1.0)), [[1.5, 3], [np.nan] * 2, [4.25, 5]])


def cell(column, row, value):
    """A change of the table: one cell."""
    return lambda t: t.assign(**{column: t[column].astype(object).where(t.index != row, value)})


def other_step(minutes):
    """A change of the table: series b has another step."""
    times = pd.date_range("2024-01-01", periods=200, freq=f"{minutes}min")
    return lambda t: t.assign(ds=t.ds.where(t.unique_id != "b", times[t.index]))


def wall_clock(day):
    """Hours from the beginning of 2024 on as hours from `day` on, by a clock on a wall in Berlin."""
    begins = pd.Timestamp(day, tz="Europe/Berlin")
    return lambda time: (begins + (time - pd.Timestamp("2024-01-01"))).tz_localize(None)


def same(t):
    return t


BAD = {
    "double": (
        lambda t: pd.concat([t, t.iloc[[4]].assign(y=9)]),
        {},
        r"series 'a': 2024-01-01 04:00:00 stands in rows 5, 136",
    ),
    "step": (other_step(30), {}, r"series 'b' \(rows 61 to 105\): its step is 30min"),
    "slower": (other_step(120), {}, r"series 'b' .*its step is 2h.*step h"),
    "static": (
        lambda t: t.assign(s=np.where(t.index == 70, "x", "y")),
        {"static": ["s"]},
        r"'s' changes within series 'b': 'y' in row 61, 'x' in row 71",
    ),
    "clocks back": (
        lambda t: t.assign(ds=t.ds.map(wall_clock("2024-10-27"))),
        {},
        r"2024-10-27 02:00:00 stands in rows .* \(where clocks change\? write every time with its offset",
    ),
    "clocks forward": (
        lambda t: t.assign(ds=t.ds.map(wall_clock("2024-03-31"))),
        {},
        r"missing in the h grid, .*2024-03-31 02:00.*data.gaps=mask \(where clocks change\? write every time",
    ),
    "gap": (
        lambda t: t.drop(index=3),
        {},
        r"1 time of 1 series missing in the h grid, the first is series 'a', 2024-01-01 03:00",
    ),
    "missing": (
        cell("y", 65, None),
        {},
        r"data.target: column 'y' has 1 missing value \(series 'b', row 66\)",
    ),
    "known": (
        lambda t: t.assign(p=np.where(t.index == 9, np.nan, 1)),
        {"known_future": ["p"]},
        "data.known_future: column 'p' has 1 missing value",
    ),
    "text": (cell("y", 2, "n/k"), {"missing": "mask"}, "column 'y' holds 'n/k' in row 3"),
    "past text": (lambda t: t.assign(p="k"), {"past": ["p"]}, "past covariates are numbers"),
    "id": (cell("unique_id", 1, None), {}, "'unique_id': row 2 without an id"),
    "time": (cell("ds", 1, None), {}, "'ds': row 2 without a time"),
    "name": (same, {"target": ["Y"]}, "names the column 'Y', which does not exist. Did you mean 'y'"),
    "part": (same, {"past": ["y"]}, "data.past and data.target both name"),
    "categorical": (same, {"categorical": ["y"]}, "neither in data.known_future nor in data.static"),
    "short": (same, {"horizon": 40}, "every series is shorter than 81 rows"),
    "one": (lambda t: t[:2], {}, "too few rows to tell the time step"),
    "far": (cell("y", 131, 1e30), {}, r"series 'c', .*column 'y': 1e\+30 is too far"),
    "large": (lambda t: t.assign(y=1e300), {}, r"series 'a', .*column 'y': 1e\+300 .*or cannot be squared"),
    "stray": (
        cell("ds", 104, "2924-01-01"),
        {"gaps": "mask"},
        "series 'b' .* hardly any of its times is there",
    ),
    "calendar": (same, {"calendar": ["hours"]}, "expected some of hour.*Did you mean 'hour'"),
    "fourier": (same, {"fourier": {24: 13}}, "data.fourier: 24: 13: give 1 to 12 pairs"),
    "untimed": (same, {"calendar": ["hour"], "time": None}, "need the stamps"),
    "list": (same, {"past": "x"}, "data.past=x: give a list"),
    "target": (same, {"target": None}, r"data=panel needs data.target=\[COLUMN\]"),
    "no file": (same, {"path": "nothing/*.csv"}, "there is no such file"),
    "window": (same, {"test_windows": 0}, "data.test_windows=0: give at least 1"),
    "m4": (same, {"series": "m4_hourly"}, "data.path is for data=panel"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.quick(12, rest="ci")
def test_bad_input_is_one_message(panel, case):
    change, options, message = BAD[case]
    with pytest.raises(DataError, match=message):
        panel(change(frame()), **options)
