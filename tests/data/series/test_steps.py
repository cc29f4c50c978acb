"""Few rows that fit several steps: one is taken and the others are told; `data.frequency` says which is right."""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gatelab.data.messages import DataError
from gatelab.data.series.calendar import following
from gatelab.data.series.module import SeriesDataModule
from gatelab.data.series.protocol import Series
from gatelab.data.series.table import read_table
from gatelab.tasks.series.samples import predicted_samples

PAIRS = [
    *combinations(("D", "B"), 2),
    *combinations(("MS", "BMS", "31D", "30D"), 2),
    *combinations(("ME", "BME", "LWOM-FRI"), 2),
    *combinations(("YS-JAN", "BYS-JAN", "365D"), 2),
    *combinations(("YE-DEC", "BYE-DEC", "365D"), 2),
    *combinations(("QS-JAN", "91D", "BQS-JAN"), 2),
    ("2D", "2B"),
    ("15D", "11B"),
    ("WOM-1SUN", "35D"),
    ("3WOM-1SUN", "91D"),
    ("SMS-15", "14D"),
    ("LWOM-FRI", "WOM-4FRI"),
    ("3MS-15", "92D"),
]


def table(tmp_path, stamps, **options) -> Series:
    path = tmp_path / "t.csv"
    pd.DataFrame({"t": stamps, "x": np.random.default_rng(0).normal(size=len(stamps))}).to_csv(
        path, index=False
    )
    return read_table(path, time="t", **options)


def stamps_of(step, rows) -> list[pd.DatetimeIndex]:
    """The first `rows` times of a step from many days on."""
    if step == "3MS-15":
        firsts = pd.date_range("2019-01-15", periods=24, freq=pd.DateOffset(months=1))
        return [pd.date_range(first, periods=rows, freq=pd.DateOffset(months=3, day=15)) for first in firsts]
    firsts = pd.date_range(
        "2019-01-01", "2020-12-31", freq=step if "-" in step or step[-1] in "SE" else "17D"
    )
    return [pd.date_range(first, periods=rows, freq=step) for first in firsts[:24]]


@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.quick(1, rest="ci")
def test_times_that_fit_two_steps_are_told_with_both(tmp_path, one, other):
    """Whichever of the two made the rows: the one that made them is taken, or named among the others."""
    for step in (one, other):
        for rows in (3, 5):
            for every in stamps_of(step, rows)[::8]:
                series = table(tmp_path, every)
                ahead = following(every[-1], step, 12)
                told = [note for note in series.notes if "which was taken" in note]
                if not following(every[-1], series.frequency, 12).equals(ahead):
                    others = told[0].split("and ", 1)[1].split(":")[0].split(" and ")
                    ways = [following(every[-1], name, 12) for name in others]
                    assert any(way.equals(ahead) for way in ways), (step, series.frequency, told)
                stated = table(tmp_path, every, frequency=step)
                assert stated.frequency == step
                assert not [note for note in stated.notes if "which was taken" in note]


def test_rows_that_tell_their_step_are_not_commented_on(tmp_path):
    for frequency in ("h", "D", "B", "W-MON", "MS", "ME", "QS-FEB", "YS-APR", "90min"):
        series = table(tmp_path, pd.date_range("2001-01-01", periods=60, freq=frequency))
        assert not series.notes, (frequency, series.notes)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_stated_step_needs_no_rows_to_show_it(tmp_path, rows):
    for frequency in ("h", "D", "W-MON", "MS", "MS-15", "QS-JAN"):
        first = {"W-MON": "2024-01-01", "MS-15": "2024-01-15"}.get(frequency, "2024-01-01")
        every = following(pd.Timestamp(first), frequency, rows).insert(0, pd.Timestamp(first))[:rows]
        assert table(tmp_path, every, frequency=frequency).frequency == frequency
        with pytest.raises(DataError, match=r"too few to tell the time step \(data\.frequency=D"):
            table(tmp_path, every)


@pytest.mark.parametrize(
    ("frequency", "message"),
    [
        ("MS", r"data\.frequency=MS: the step does not begin at 2024-01-31.*; the times fit ME"),
        ("W-TUE", r"data\.frequency=W-TUE: the step does not begin at .*; the times fit ME"),
        ("30D", r"data\.frequency=30D: the step does not lead from 2024-01-31 00:00:00 to 2024-02-29"),
        ("M", r"data\.frequency=M: no such step"),
        ("monthly", r"data\.frequency=monthly: no such step .*W-MON.*MS-15"),
        ("-1D", r"data\.frequency=-1D: no such step"),
        ("0h", r"data\.frequency=0h: no such step"),
        ("", r"data\.frequency=: no such step"),
    ],
)
def test_a_stated_step_that_is_wrong_is_refused_with_what_fits(tmp_path, frequency, message):
    with pytest.raises(DataError, match=message):
        table(tmp_path, pd.date_range("2024-01-31", periods=12, freq="ME"), frequency=frequency)


def test_a_stated_step_has_gaps_where_its_rows_are_absent(tmp_path):
    """Working days of two weeks are days without weekends where days are stated."""
    every = pd.date_range("2024-01-01", periods=10, freq="B")
    assert table(tmp_path, every).frequency == "B"
    with pytest.raises(DataError, match=r"2 times are missing in the D grid, the first is 2024-01-06"):
        table(tmp_path, every, frequency="D")
    assert len(table(tmp_path, every, frequency="D", gaps="fill").values) == 12


def test_the_data_module_passes_a_stated_step_on_to_new_rows(tmp_path):
    path = tmp_path / "mine.csv"
    days = pd.date_range("2024-01-01", periods=60, freq="D")
    frame = pd.DataFrame({"t": days, "x": np.random.default_rng(0).normal(size=60)})
    frame.to_csv(path, index=False)
    data = SeriesDataModule(
        "table",
        str(path),
        time="t",
        frequency="D",
        lookback=4,
        horizon=2,
        cache=str(tmp_path / "cache"),
    )
    data.setup()
    assert data.spec.frequency == "D"
    frame[:5].to_csv(tmp_path / "new.csv", index=False)  # Monday to Friday
    rows, _ = data.read_input(tmp_path / "new.csv", data.spec)
    assert rows.frequency == "D"
    with pytest.raises(DataError, match=r"data\.frequency=D is the step of times: give .* data\.time=COLUMN"):
        SeriesDataModule("table", str(path), frequency="D")
    with pytest.raises(DataError, match=r"data\.frequency is for data=table; etth1 has its own"):
        SeriesDataModule("etth1", frequency="h")


# changes of the clock


SKIPPED = {
    "America/Sao_Paulo": "2018-11-04",
    "Asia/Beirut": "2022-03-27",
    "America/Santiago": "2022-09-11",
    "America/Havana": "2024-03-10",
    "Africa/Cairo": "2024-04-26",
    "Asia/Tehran": "2022-03-22",
}


@pytest.mark.parametrize("zone", SKIPPED)
@pytest.mark.parametrize("frequency", ["D", "W", "2D"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_days_whose_midnight_the_clock_skips_are_days(tmp_path, zone, frequency, ending):
    day = pd.Timestamp(SKIPPED[zone])
    name = f"W-{day:%a}".upper() if frequency == "W" else frequency
    half = pd.date_range(end=day, periods=8, freq=name)
    wall = half.append(pd.date_range(day, periods=9, freq=name)[1:])
    every = wall.tz_localize(zone, nonexistent="shift_forward")
    assert (every.tz_localize(None) != wall).sum() == 1
    path = tmp_path / f"t.{ending}"
    frame = pd.DataFrame({"t": every, "x": np.arange(16.0)})
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    series = read_table(path, time="t")
    assert series.frequency == name
    assert (series.times == every.tz_convert(None).to_numpy()).all()
    ahead = following(pd.Timestamp(series.times[-1]), series.frequency, 3, series.zone)
    assert (ahead.tz_localize(None) == pd.date_range(wall[-1], periods=4, freq=name)[1:]).all()


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Australia/Sydney"])
@pytest.mark.parametrize("written", ["offsets", "UTC"])
def test_days_that_only_a_change_of_the_clock_moves_come_with_the_fix(tmp_path, zone, written):
    every = pd.date_range("2024-01-15", "2024-11-20", freq="D", tz=zone)
    stamps = every.tz_convert("UTC") if written == "UTC" else every
    if written == "offsets":
        assert table(tmp_path, stamps).frequency == "D"
        return
    with pytest.raises(DataError, match=r"no regular grid.*\(UTC\).*days of a zone whose clocks change\?"):
        table(tmp_path, stamps)


@pytest.mark.parametrize("hours", [2, 3, 6, 12])
def test_a_step_of_hours_by_the_wall_clock_is_refused_with_the_reason(tmp_path, hours):
    wall = pd.date_range("2024-10-20", periods=240 // hours, freq=f"{hours}h")
    stamps = wall[wall.hour % hours == 0].tz_localize("Europe/Paris", ambiguous=True)
    with pytest.raises(
        DataError, match="by its own clock they do: a step shorter than a day is counted in hours"
    ):
        table(tmp_path, stamps)


def test_the_note_says_the_zone_that_forecasts_are_stamped_with(tmp_path):
    days = pd.date_range("2024-10-01", periods=60, freq="24h", tz="Europe/Paris")  # the same hour in UTC
    series = table(tmp_path, days)
    assert series.zone == "UTC"
    assert [note for note in series.notes if note.endswith("forecasts are stamped in UTC")]


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("frequency", ["h", "D", "30min"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.quick(8, rest="ci")
def test_windows_are_dated_by_the_clock_of_the_table(tmp_path, zone, frequency, ending):
    """In reports, backtests, explanations and pictures, over a change of the clock and a gap, and out of the cache."""
    every = pd.date_range("2024-10-20", periods=400, freq=frequency, tz=zone)
    frame = pd.DataFrame({"t": every, "x": np.random.default_rng(0).normal(size=400)}).drop(index=90)
    path = tmp_path / f"mine.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    given = {
        "time": "t",
        "gaps": "fill",
        "lookback": 5,
        "horizon": 3,
        "season": 2,
        "cache": str(tmp_path / "c"),
    }
    for _ in range(2):
        data = SeriesDataModule("table", str(path), **given)
        data.setup()
        for split in data.splits:
            for window in (0, data.spec.windows[split] - 1):
                origin = int(data.origins[split][window])
                shown = [time.strftime("%Y-%m-%dT%H:%M") for time in every[origin - 5 : origin + 3]]
                assert data.times(split, window) == shown
        window = data.rolling(1)[0]
        assert window.time == every[window.row].strftime("%Y-%m-%dT%H:%M")


def test_a_picture_of_a_forecast_goes_on_where_the_rows_end(tmp_path):
    every = pd.date_range("2024-10-26 12:00", periods=30, freq="h", tz="Europe/Paris").tz_convert("UTC+01:00")
    series = table(tmp_path, every[:24])
    spec = SimpleNamespace(targets=("x",), horizon=6)
    frame = pd.DataFrame({"t": every[24:], "x": np.zeros(6)})
    (sample,) = predicted_samples(series, frame, spec)
    shown = [time.strftime("%Y-%m-%dT%H:%M") for time in every[12:]]
    assert sample.windows[0].times == shown
