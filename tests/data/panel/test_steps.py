"""Panels of several steps, zones or futures: one step and one clock for all series, or a refusal that names both."""

from functools import partial
from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from gatelab.data.messages import DataError
from gatelab.data.panel.build import read_panel
from gatelab.data.panel.module import PanelDataModule
from gatelab.data.panel.panel import Columns, Panel

STEPS = ["h", "30min", "D", "W-MON", "W-WED", "MS", "ME", "QS-JAN", "QS-FEB", "YS-JAN"]
PARIS = "Europe/Paris"


def panel(tmp_path, series, **options) -> Panel:
    parts = [pd.DataFrame({"unique_id": name, "ds": stamps, "y": 1.0}) for name, stamps in series.items()]
    path = tmp_path / "p.csv"
    pd.concat(parts, ignore_index=True).to_csv(path, index=False)
    return read_panel(str(path), Columns("unique_id", "ds", ("y",)), **options)


def written(stamps: pd.DatetimeIndex) -> list[str]:
    return [time.isoformat() for time in stamps]


@pytest.mark.parametrize(("one", "other"), [*permutations(STEPS, 2)])
@pytest.mark.quick(8, rest="ci")
def test_two_steps_in_a_panel_are_refused_by_both_names(tmp_path, one, other):
    stamps = {step: pd.date_range("2024-01-01", periods=30, freq=step) for step in (one, other)}
    with pytest.raises(DataError, match=r"the panel has the step|missing in the") as refusal:
        panel(tmp_path, stamps)
    assert f"step is {one}" in str(refusal.value) or f"step is {other}" in str(refusal.value)


@pytest.mark.parametrize("step", [*STEPS, "B", "2B", "SMS-15", "WOM-3FRI", "BME", "4W-FRI", "2MS"])
@pytest.mark.parametrize("earlier", [20, 300])
@pytest.mark.quick(14, rest="ci")
def test_a_series_may_begin_long_before_the_one_that_shows_the_step(tmp_path, step, earlier):
    every = pd.date_range("1950-01-01", periods=earlier + 40, freq=step)
    found = panel(tmp_path, {"old": every[:10], "new": every[-40:]})
    assert np.diff(found.place) == [earlier]
    assert (found.times[found.place[1] :] == every[-40:].to_numpy()).all()


def test_few_rows_of_a_series_take_the_step_that_all_series_have(tmp_path):
    """A series from Monday to Friday beside one over the weekend: days, not working days."""
    week = {f"s{first}": pd.date_range(f"2024-01-0{first}", periods=5, freq="D") for first in range(1, 6)}
    found = panel(tmp_path, week)
    assert found.frequency == "D"
    assert not found.notes
    months = {f"s{m}": pd.date_range(f"2024-{m:02}-01", periods=3, freq="MS") for m in range(1, 8)}
    assert panel(tmp_path, months).frequency == "MS"


def test_a_panel_that_fits_two_steps_tells_the_other_and_takes_the_stated_one(tmp_path):
    mondays = pd.date_range("2024-01-01", periods=6, freq="W-MON")
    weeks = {f"s{i}": pd.date_range(day, periods=5, freq="D") for i, day in enumerate(mondays)}
    (note,) = panel(tmp_path, weeks).notes
    assert note.startswith("the times fit the step B, which was taken, and D: give data.frequency=B or")
    for step in ("B", "D"):
        stated = panel(tmp_path, weeks, frequency=step)
        assert (stated.frequency, stated.notes) == (step, [])
    with pytest.raises(
        DataError, match=r"the step is to be W-MON, which does not lead .* have the step B or D"
    ):
        panel(tmp_path, weeks, frequency="W-MON")


def test_a_stated_step_is_enough_for_series_of_one_row(tmp_path):
    rows = {"a": ["2024-01-01"], "b": ["2024-01-03"]}
    assert panel(tmp_path, rows, frequency="D").lengths.tolist() == [1, 1]
    with pytest.raises(DataError, match=r"series 'a' \(row 1\): too few rows .*data\.frequency=D"):
        panel(tmp_path, rows)


@pytest.mark.parametrize("step", ["h", "D", "W-MON", "MS"])
@pytest.mark.parametrize("other", ["America/New_York", "Asia/Kolkata", "UTC", "Europe/London"])
def test_series_in_two_zones_are_refused_with_both_offsets(tmp_path, step, other):
    every = {zone: pd.date_range("2024-02-01", periods=30, freq=step, tz=zone) for zone in (PARIS, other)}
    stamps = {f"s{i}": written(times) for i, times in enumerate(every.values())}
    with pytest.raises(
        DataError, match=r"times are written by two clocks, series .* with [+-]\d\d:\d\d and series"
    ):
        panel(tmp_path, stamps)


@pytest.mark.parametrize("zone", [PARIS, "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("step", ["h", "D", "W-MON", "MS"])
def test_one_zone_with_both_its_offsets_is_one_clock(tmp_path, zone, step):
    every = pd.date_range("2004-03-20", periods=400, freq=step, tz=zone)
    found = panel(tmp_path, {"a": written(every[:300]), "b": written(every[90:])})
    assert found.frequency == step
    assert (np.diff(found.place), found.lengths.tolist()) == ([90], [300, 310])


@pytest.mark.parametrize("zone", [PARIS, "America/New_York", "Australia/Lord_Howe"])
def test_calendar_features_are_of_the_hour_on_the_wall_in_either_season(tmp_path, zone):
    every = pd.date_range("2024-03-20", periods=6000, freq="h", tz=zone)
    found = panel(tmp_path, {"a": written(every)})
    assert len(set(every.map(lambda time: time.utcoffset()))) == 2
    assert (found.wall == every.tz_localize(None).to_numpy()).all()
    assert (found.times == every.tz_convert(None).to_numpy()).all()


SKIPPED = {
    "Pacific/Apia": "2011-12-30",
    "Pacific/Fakaofo": "2011-12-30",
    "Pacific/Kiritimati": "1994-12-31",
    "Pacific/Kwajalein": "1993-08-21",
}


@pytest.mark.parametrize(("zone", "day"), SKIPPED.items())
def test_a_day_that_a_zone_left_out_is_missing_and_no_second_clock(tmp_path, zone, day):
    """They moved to the other side of the date line."""
    days = pd.date_range(pd.Timestamp(day) - pd.Timedelta("30D"), periods=60)
    rows = pd.DataFrame({"unique_id": "a", "ds": days[days != day].tz_localize(zone), "y": 1.0})
    pd.concat([rows, rows.assign(unique_id="b")]).to_parquet(tmp_path / "p.parquet", index=False)
    read = partial(read_panel, str(tmp_path / "p.parquet"), Columns("unique_id", "ds", ("y",)))
    with pytest.raises(DataError, match=rf"2 times of 2 series missing in the D grid, .* {day}"):
        read()
    found = read(gaps="mask")
    assert np.isnan(found.values[:, 0]).sum() == 2
    assert (found.frequency, found.zone, found.lengths.tolist()) == ("D", zone, [60, 60])


# what is known of the future


def rows(stamps, ids="ab") -> pd.DataFrame:
    steps = np.arange(len(stamps))
    parts = [
        pd.DataFrame({"unique_id": one, "ds": stamps, "y": steps % 7, "price": steps % 5}) for one in ids
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def ask(tmp_path):
    def asked(step, history, future, **options):
        every = pd.date_range("2020-01-01", periods=70, freq=step)
        files = {name: str(tmp_path / f"{name}.csv") for name in ("train", "history", "future")}
        rows(every[:60]).to_csv(files["train"], index=False)
        data = PanelDataModule(
            path=files["train"],
            time="ds",
            target=["y"],
            known_future=["price"],
            lookback=6,
            horizon=4,
            cache=str(tmp_path / "cache"),
            **options,
        )
        data.setup()
        rows(history(every)).to_csv(files["history"], index=False)
        rows(future(every)).drop(columns="y").to_csv(files["future"], index=False)
        return every, data.panel_input(files["history"], data.spec, files["future"])

    return asked


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("more", [0, 3])
@pytest.mark.quick(2, rest="ci")
def test_a_future_in_any_order_and_longer_than_the_horizon_is_read(ask, step, more):
    every, found = ask(step, lambda t: t[:40], lambda t: t[40 : 44 + more][::-1])
    assert found.stamps["ds"].tolist() == [*every[40:44]] * 2


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("first", "last", "known"), [(40, 43, 3), (41, 46, 0), (45, 60, 0)])
@pytest.mark.quick(3, rest="ci")
def test_a_future_that_is_short_or_begins_late_is_told_by_its_steps(ask, step, first, last, known):
    with pytest.raises(DataError, match=rf"'price' of series 'a' is known for {known} of the 4 steps after"):
        ask(step, lambda t: t[:40], lambda t: t[first:last])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.quick(3, rest="ci")
def test_a_future_off_the_step_of_the_history_is_refused_with_its_first_time(ask, step):
    off = lambda t: t[40:50] + pd.Timedelta(minutes=7)  # noqa: E731
    with pytest.raises(DataError, match=rf"future\.csv:\d+\): the step is to be {step}, which does not lead"):
        ask(step, lambda t: t[:40], off)


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        (lambda t: [f"{time}+01:00" for time in t[40:44]], r"row history\.csv:1: .*has no offset from UTC"),
        (
            lambda t: [f"{time:%d.%m.%Y %H:%M}" for time in t[40:44]],
            r"row future\.csv:1: .*day first or month",
        ),
        (lambda t: [*map(str, t[40:43]), "soon"], r"row future\.csv:4: 'soon' is not a date"),
        (lambda t: [f"{time:%d %b %H:%M}" for time in t[40:44]], r"row future\.csv:1: .*lacks a year"),
    ],
)
def test_a_stamp_of_the_future_that_cannot_be_read_is_named_with_its_file(ask, stamps, message):
    with pytest.raises(DataError, match=message):
        ask("h", lambda t: t[:40], stamps)
