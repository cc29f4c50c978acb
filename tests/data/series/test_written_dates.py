"""Dates without signs, quarters and weeks are read as what they say, from CSV and Parquet alike; others are refused."""

import numpy as np
import pandas as pd
import pytest

from gatelab.data.messages import DataError
from gatelab.data.series.table import read_table

STEPS = {"%Y%m": "MS", "%Y%m%d": "D", "%Y%m%d%H": "h", "%Y%m%d%H%M": "30min", "%Y%m%d%H%M%S": "s"}


def read(tmp_path, stamps, ending="csv"):
    frame = pd.DataFrame({"t": stamps, "load": np.arange(len(stamps)) ** 0.5})
    path = tmp_path / f"t.{ending}"
    frame.to_parquet(path) if ending == "parquet" else frame.to_csv(path, index=False)
    return read_table(path, time="t")


@pytest.mark.parametrize(("form", "step"), STEPS.items())
@pytest.mark.parametrize("first", ["1850-03-01", "1969-12-31", "2024-02-28", "2038-01-01"])
@pytest.mark.parametrize("kind", ["int64", "float64", "Int64", str])
@pytest.mark.quick(12, rest="ci")
def test_dates_of_digits_are_those_dates_and_told(tmp_path, form, step, first, kind):
    times = pd.date_range(first, periods=30, freq=step)
    stamps = pd.Series(times.strftime(form)).astype("int64").astype(kind)
    for ending in ("csv", "parquet"):
        series = read(tmp_path, stamps, ending)
        assert (series.times == times.to_numpy()).all()
        assert (series.frequency, series.zone) == (step, "")
        assert f"'t' was read as dates: {stamps.iloc[0]} is {times[0]}" in series.notes


@pytest.mark.parametrize(
    "numbers",
    [
        [20240131 + i for i in range(5)],
        [202411 + i for i in range(5)],
        [2024, 2025, 2026],
        [20240101.5, 20240102.5, 20240103.5],
        [17990101, 17990102, 17990103],
        [20240101, 202402, 20240103],
        [200101, 200201, 200301],
    ],
    ids=[
        "no such day",
        "no such month",
        "years alone",
        "parts of days",
        "long ago",
        "two forms",
        "months or days",
    ],
)
def test_digits_that_are_not_all_dates_are_refused(tmp_path, numbers):
    with pytest.raises(DataError, match="'t' holds numbers, not dates"):
        read(tmp_path, numbers)


def test_seconds_since_1970_are_no_dates_of_digits(tmp_path):
    series = read(tmp_path, [2024010100 + 3600 * i for i in range(48)])
    assert str(series.times[0]).startswith("2034-02-20T01:01:40")


@pytest.mark.parametrize(
    "form", ["{y}Q{q}", "{y}-Q{q}", "{y} q{q}", "Q{q} {y}", "Q{q}/{y}", "q{q}-{y}", "Q{q}{y}"]
)
def test_quarters_are_their_first_day(tmp_path, form):
    times = pd.date_range("1990-04-01", periods=20, freq="QS")
    for ending in ("csv", "parquet"):
        series = read(tmp_path, [form.format(y=t.year, q=t.quarter) for t in times], ending)
        assert (series.times == times.to_numpy()).all()
        assert series.frequency == "QS-JAN"


@pytest.mark.parametrize("form", ["%Y%m%dT%H%M%S", "%Y%m%dT%H%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H"])
@pytest.mark.parametrize(("offset", "hours"), [("", 0), ("Z", 0), ("+0200", 2), ("-03:00", -3), ("+01", 1)])
def test_the_basic_form_of_iso_8601_may_end_with_an_offset(tmp_path, form, offset, hours):
    times = pd.date_range("2024-02-28", periods=30, freq="h")
    series = read(tmp_path, times.strftime(form) + offset)
    assert (series.times == (times - pd.Timedelta(hours=hours)).to_numpy()).all()
    assert bool(series.zone) == bool(offset)


@pytest.mark.parametrize("form", ["%s", "%Y%m%d%H", "%Y-%m-%d %H:00", "%d.%m.%Y %H:00"])
def test_a_note_below_stamps_is_the_row_that_is_named(tmp_path, form):
    stamps = pd.date_range("2024-02-28", periods=30, freq="h").strftime(form)
    with pytest.raises(
        DataError, match=r"row 31: 'Total' is not a date; .*, or remove the row if it is none"
    ):
        read(tmp_path, [*stamps, "Total"])


@pytest.mark.parametrize("wrong", ["2024Q5", "Q0 2024", "2024Q", "2024Q12"])
def test_what_is_no_quarter_is_refused(tmp_path, wrong):
    with pytest.raises(DataError, match=f"row 2: '{wrong}'"):
        read(tmp_path, ["2024Q1", wrong, "2024Q3"])


@pytest.mark.parametrize("year", [-44, -1, 0, 10000])
def test_years_that_no_calendar_here_has_are_refused_by_their_row(tmp_path, year):
    with pytest.raises(DataError, match=r"row 2: '.*' (is not of the years 1 to 9999|is not a date)"):
        read(tmp_path, ["2024-01-01", f"{year:05d}-01-01", "2024-01-03"])
