"""Numbers of times: the same in every file, one after the other, by the clock of the table."""

import numpy as np
import pandas as pd
import pytest

from gatelab.data.series.calendar import is_elapsed, offset_of
from gatelab.data.series.steps import counts_steps, step_numbers
from gatelab.data.series.table import read_table

STEPS = [
    "B",
    "2B",
    "C",
    "D",
    "3D",
    "W-MON",
    "W-SUN",
    "2W-WED",
    "MS",
    "ME",
    "2MS",
    "BMS",
    "CBMS",
    "CBME",
    "SMS",
    "SME-20",
    "MS-15",
    "QS-FEB",
    "QE-DEC",
    "YS-APR",
    "BYE-JUN",
    "WOM-2TUE",
    "LWOM-FRI",
    "REQ-N-DEC-MON-1",
    "RE-L-DEC-MON",
    "h",
    "6h",
    "90min",
    "15min",
    "ms",
    "us",
]


def table(tmp_path, stamps):
    path = tmp_path / "t.csv"
    pd.DataFrame({"t": stamps, "x": np.random.default_rng(0).normal(size=len(stamps))}).to_csv(
        path, index=False
    )
    return read_table(path, time="t")


@pytest.mark.parametrize("unit", ["s", "ns"])
@pytest.mark.parametrize("step", STEPS)
def test_times_of_one_grid_have_numbers_that_follow_each_other(step, unit):
    times = pd.date_range("1969-11-30 07:00", periods=9, freq=offset_of(step))[1:].to_numpy()
    times = times.astype(f"datetime64[{'ns' if is_elapsed(step) else unit}]")
    numbers = step_numbers(times, step)
    assert np.diff(numbers).tolist() == [1] * 7, times
    for begin in range(1, 8):
        assert step_numbers(times[begin:], step).tolist() == numbers[begin:].tolist()


def test_steps_have_the_same_number_in_every_file():
    for time, step, number in [
        ("1970-01-05T00:00", "h", 0),
        ("1970-01-06T03:00", "h", 27),
        ("1970-01-04T23:45", "15min", -1),
        ("1970-01-06", "D", 1),
        ("1970-01-06T18:30", "D", 1),
        ("1900-03-01", "MS", 2),
        ("1899-11-01", "MS", -2),
        ("1970-01-12", "W-MON", 1),
        ("1970-01-18", "W-SUN", 1),
        ("1970-01-19", "2W-MON", 1),
        ("1900-01-02T12:00", "B", 1),
    ]:
        assert step_numbers(np.array([time], "datetime64[us]"), step).tolist() == [number], (time, step)
    assert counts_steps("h")
    assert not counts_steps("bh")
    assert not counts_steps("")


@pytest.mark.parametrize(
    ("step", "zone", "hour"),
    [("h", "Europe/Paris", 0), ("D", "America/New_York", 20), ("W-MON", "Europe/London", 0)],
)
def test_steps_go_by_the_clock_of_the_table(tmp_path, step, zone, hour):
    """An hour of the day, a day and a week keep their places in summer, and in a file that begins in summer."""
    local = pd.date_range(f"2024-01-01 {hour:02}:00", "2024-09-30 00:00", freq=step, tz=zone)
    written = [time.isoformat() for time in local]
    series = table(tmp_path, written)
    size, place = {"h": (24, local.hour), "D": (7, local.day_of_week), "W-MON": (1, 0 * local.hour)}[step]
    assert (series.steps % size).tolist() == place.tolist()
    later = table(tmp_path, written[-12:])
    assert later.steps.tolist() == series.steps[-12:].tolist()
