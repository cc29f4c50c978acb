"""Tables: what can be mended without changing numbers is mended and noted, everything else is refused by name."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gatelab.data.messages import DataError
from gatelab.data.series.table import read_table

HOURS = pd.date_range("2024-01-01", periods=48, freq="h")


@pytest.fixture
def frame() -> pd.DataFrame:
    values = np.arange(48.0)
    return pd.DataFrame({"date": HOURS.astype(str), "load": values, "wind": values[::-1] / 2})


@pytest.fixture
def save(tmp_path):
    def write(frame: pd.DataFrame, name: str = "t.csv") -> Path:
        path = tmp_path / name
        frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
        return path

    return write


def test_csv_and_parquet_give_the_same_series(frame, save):
    a = read_table(save(frame), time="date")
    b = read_table(save(frame.assign(date=HOURS), "t.parquet"), time="date")
    c = read_table(save(frame.assign(date=HOURS).set_index("date"), "i.parquet"), time="date")
    for series in (a, b, c):
        assert series.values.tolist() == frame[["load", "wind"]].to_numpy().tolist()
        assert series.channels == ("load", "wind")
        assert series.frequency == "h"
        assert series.times is not None
        assert (series.times == HOURS.to_numpy()).all()
        assert series.notes == []
    assert len(a.fingerprint["t.csv"]) == 64


def test_rows_are_sorted_and_it_is_said(frame, save):
    series = read_table(save(frame.sample(frac=1, random_state=0)), time="date")
    assert series.values[:, 0].tolist() == list(range(48))
    assert series.notes == ["rows were sorted by 'date'"]


def test_rows_that_repeat_exactly_are_dropped_and_it_is_said(frame, save):
    series = read_table(save(pd.concat([frame.iloc[:3], frame.iloc[2:]])), time="date")
    assert len(series.values) == 48
    assert series.notes == ["1 row that repeats another one exactly was dropped (first: row 4)"]


def test_two_values_for_one_time_are_refused_with_their_rows(frame, save):
    frame.loc[5, "date"] = frame.loc[9, "date"]
    with pytest.raises(DataError, match=r"t\.csv: column 'date': 2024-01-01 09:00:00 stands in rows 6, 10"):
        read_table(save(frame), time="date")


def test_gaps_are_refused_filled_or_ignored_as_asked(frame, save):
    path = save(frame.drop(index=[10, 11, 30]))
    with pytest.raises(
        DataError, match=r"3 times are missing in the h grid, .* 2024-01-01 10:00.*data\.gaps=fill"
    ):
        read_table(path, time="date")
    filled = read_table(path, time="date", gaps="fill")
    assert filled.values[9:13, 0].tolist() == [9, 9, 9, 12]
    assert len(filled.values) == 48
    assert filled.frequency == "h"
    assert "3 missing times" in filled.notes[0]
    ignored = read_table(path, time="date", gaps="ignore")
    assert len(ignored.values) == 45
    assert ignored.frequency == ""
    assert "data.gaps=ignore" in ignored.notes[0]


def test_times_on_no_grid_are_refused(frame, save):
    frame.loc[7, "date"] = "2024-01-01 07:13:00"
    with pytest.raises(DataError, match=r"no regular grid.*step from 2024-01-01 00:00:00 on is h.*07:13"):
        read_table(save(frame), time="date")


@pytest.mark.parametrize(
    "frequency",
    ["MS", "ME", "QS-JAN", "QE-DEC", "YS-JAN", "YE-DEC", "B", "W-SUN", "D", "15min", "2MS", "3D", "h"],
)
def test_grids_of_clock_and_calendar_are_regular_and_their_gaps_are_found(save, frequency):
    times = pd.date_range("2020-03-02", periods=30, freq=frequency)
    frame = pd.DataFrame({"t": times.strftime("%Y-%m-%d %H:%M"), "x": np.arange(30.0)})
    assert read_table(save(frame), time="t").frequency == frequency
    with pytest.raises(DataError, match=f"1 time is missing.*{times[12]:%Y-%m-%d}"):
        read_table(save(frame.drop(index=12)), time="t")
    assert read_table(save(frame.drop(index=12)), time="t", gaps="fill").values[12, 0] == 11


def test_missing_values_are_refused_or_carried_forward(frame, save):
    frame.loc[[4, 5], "wind"] = np.nan
    with pytest.raises(
        DataError, match=r"missing values: 'wind' 2 .first at 2024-01-01 04:00:00.*data\.missing=fill"
    ):
        read_table(save(frame), time="date")
    series = read_table(save(frame), time="date", missing="fill")
    assert series.values[4:6, 1].tolist() == [series.values[3, 1]] * 2
    assert "'wind' 2" in series.notes[0]
    assert read_table(save(frame), time="date", channels=["load"]).channels == ("load",)


def test_missing_values_at_the_start_have_nothing_to_carry(frame, save):
    frame.loc[0, "wind"] = np.nan
    with pytest.raises(DataError, match="'wind' begins with missing values"):
        read_table(save(frame), time="date", missing="fill")


def test_filling_never_looks_into_the_future(frame, save):
    changed = frame.copy()
    for table in (frame, changed):
        table.loc[[4, 5, 20], "wind"] = np.nan
    changed.loc[30:, ["load", "wind"]] = -1.0
    first, second = (
        read_table(save(table), time="date", missing="fill").values for table in (frame, changed)
    )
    assert (first[:30] == second[:30]).all()


def test_columns_that_are_not_numeric_are_named_with_a_row(frame, save):
    frame["name"] = "a"
    frame["wind"] = frame["wind"].astype(object)
    frame.loc[3, "wind"] = "n/k"
    with pytest.raises(DataError, match=r"'wind' .row 4 holds 'n/k'.; 'name' .row 1 holds 'a'"):
        read_table(save(frame), time="date")


def test_a_forgotten_time_column_is_recognised(frame, save):
    with pytest.raises(DataError, match=r"give data\.time=date"):
        read_table(save(frame))
    with pytest.raises(DataError, match=r"'date' .holds times"):
        read_table(save(frame.assign(date=HOURS), "t.parquet"))


def test_without_times_the_rows_are_taken_in_order(frame, save):
    frame = frame.drop(columns="date")
    series = read_table(save(pd.concat([frame.iloc[:5], frame.iloc[4:]])))
    assert len(series.values) == 49, "without times a repeated row is an observation, not a duplicate"
    assert (series.frequency, series.times, series.notes) == ("", None, [])


def test_wrong_column_names_come_with_the_nearest_one(frame, save):
    with pytest.raises(DataError, match=r"data\.time names the column 'dat'.*Did you mean 'date'"):
        read_table(save(frame), time="dat")
    with pytest.raises(DataError, match=r"data\.channels names the column 'x'.*There are date, load, wind"):
        read_table(save(frame), time="date", channels=["x"])


@pytest.mark.parametrize(
    ("value", "message"),
    [("yesterday", "row 3: 'yesterday' is not a date"), (None, "row 3: the time is missing")],
)
def test_unreadable_times_are_named(frame, save, value, message):
    frame.loc[2, "date"] = value
    with pytest.raises(DataError, match=message):
        read_table(save(frame), time="date")


@pytest.mark.parametrize("format", ["%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y"])
def test_dates_that_begin_with_day_or_month_are_read_when_the_column_shows_which(save, format):
    days = pd.date_range("2024-03-01", periods=20)
    frame = pd.DataFrame({"date": days.strftime(format), "x": 1.0})
    times = read_table(save(frame), time="date").times
    assert times is not None
    assert (times == days.to_numpy()).all()
    with pytest.raises(DataError, match=r"row 1: '.*' can be read day first or month first"):
        read_table(save(frame.iloc[:5]), time="date")
    frame.loc[4, "date"] = "13/13/2024"
    with pytest.raises(DataError, match="changes between day first and month first"):
        read_table(save(frame), time="date")


def test_numbers_are_no_dates(frame, save):
    frame["date"] = range(48)
    with pytest.raises(DataError, match="'date' holds numbers, not dates"):
        read_table(save(frame), time="date")


def test_zones_are_converted_to_utc(frame, save):
    frame["date"] = HOURS.tz_localize("Europe/Paris").astype(str)
    series = read_table(save(frame), time="date")
    assert series.times is not None
    assert series.times[0] == np.datetime64("2023-12-31T23:00")
    assert series.zone == "+01:00"
    assert series.notes == ["times of 'date' were converted to UTC; forecasts are stamped with +01:00"]


def test_infinite_values_are_refused(frame, save):
    frame.loc[8, "load"] = np.inf
    with pytest.raises(DataError, match="column 'load', row 9: infinite value"):
        read_table(save(frame), time="date")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.csv", "t,x\n", "has no rows"),
        ("a.csv", "x, x\n1,2\n3,4\n", "column 'x' occurs twice"),
        ("a.csv", "\u00e4,a\u0308\n1,2\n3,4\n", "column 'ä' occurs twice"),
        ("a.csv", "t,x\n1,2\n3,4,5\n", "line 3 has 3 fields"),
        (
            "a.csv",
            '"t","x"\n"Mazda","2024-01-01",1\n"Fiat","2024-01-02",2\n',
            r"row 1 has more .*as R writes them.*row.names=FALSE",
        ),
        ("a.xls", "x\n1\n", "expected a file named"),
        ("a.parquet", "no parquet", "is not in Parquet"),
        ("a.parquet", "PAR1 no parquet", "could not be read"),
        ("a.csv", "t\n2024-01-01\n2024-01-02\n2024-01-03\n", "no column beside the time"),
        ("a.csv", "t,x\n2024-01-01,1\n2024-01-02,2\n", "2 rows: too few"),
    ],
)
def test_files_that_are_no_tables_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        read_table(tmp_path / name, time="t")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"data\.path=.*nothing\.csv: there is no such file"):
        read_table(tmp_path / "nothing.csv")


def test_real_tables(mirror):
    air = read_table(mirror / "small" / "AirPassengers.csv", time="Month")
    assert (air.frequency, len(air.values), air.channels) == ("MS", 144, ("#Passengers",))
    spots = read_table(mirror / "small" / "monthly-sunspots.csv", time="Month")
    assert (spots.frequency, len(spots.values)) == ("MS", 2820)
    ett = read_table(mirror / "ett" / "ETTm2.csv", time="date")
    assert (ett.frequency, ett.values.shape, ett.notes) == ("15min", (69680, 7), [])


@pytest.mark.parametrize(("yes", "no"), [("TRUE", "FALSE"), ("True", "False"), ("true", "false")])
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_column_of_true_and_false_is_read_as_1_and_0_and_it_is_said(tmp_path, yes, no, quote):
    rows = [f"2024-01-{day:02d},{day}.5,{quote}{yes if day % 3 else no}{quote}" for day in range(1, 20)]
    (tmp_path / "a.csv").write_text("\n".join(["t,x,open", *rows]) + "\n")
    series = read_table(tmp_path / "a.csv", time="t")
    assert series.values[:, 1].tolist() == [float(day % 3 > 0) for day in range(1, 20)]
    assert [note for note in series.notes if "'open' says true or false" in note]
    assert not [note for note in series.notes if "'x'" in note]
