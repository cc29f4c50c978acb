"""Numbers that mark missing values are missing where their owner says so; elsewhere they are told and stay numbers."""

import numpy as np
import pandas as pd
import pytest

from gatelab.data import SeriesDataModule
from gatelab.data.messages import DataError
from gatelab.data.series.table import read_table

ORDINARY = np.sin(np.arange(60.0)) * 20 + 15


def table(tmp_path, values, name="t.csv"):
    path = tmp_path / name
    dates = pd.date_range("2024-01-01", periods=len(values), freq="h")
    pd.DataFrame({"date": dates, "load": values, "wind": ORDINARY[::-1]}).to_csv(path, index=False)
    return path


def with_mark(mark):
    values = ORDINARY.copy()
    values[[7, 9]] = mark
    return values


@pytest.mark.parametrize("mark", [-99, -999, -9999, 999, 9999, 99999, -99.9, -999.25, 1e20, 1e36, -32768])
def test_a_mark_is_told_with_column_count_and_setting_and_changes_no_number(tmp_path, mark):
    values = with_mark(mark)
    read = read_table(table(tmp_path, values), time="date")
    assert read.values[:, 0].tolist() == values.tolist()
    (note,) = read.notes
    assert note.startswith(f"column 'load': {mark:.10g} (2 times, first in row 8), far from all other values")
    assert note.endswith(f"data.missing_marks=[{mark:.10g}]")


@pytest.mark.parametrize("mark", [-999, 1e20])
def test_a_named_mark_is_missing(tmp_path, mark):
    path = table(tmp_path, with_mark(mark))
    with pytest.raises(DataError, match=r"missing values: 'load' 2 \(first at 2024-01-01 07"):
        read_table(path, time="date", missing_marks=[mark])
    read = read_table(path, time="date", missing_marks=[mark, 5e9], missing="fill")
    assert read.values[7, 0] == ORDINARY[6]
    assert np.argwhere(read.filled).tolist() == [[7, 0], [9, 0]]
    assert (
        read.notes[0]
        == f"column 'load': {mark:.10g} (2 times, first in row 8) is missing (data.missing_marks)"
    )


@pytest.mark.parametrize(
    "values",
    [
        np.arange(940.0, 1000),
        np.arange(9.0) * 1249.875,
        [*ORDINARY[:50], 400.0],
        [0, 1] * 20,
        [999.0, -999.0] * 9,
    ],
    ids=["999 ends a range", "9999 ends a range", "an outlier", "counts", "nothing else"],
)
def test_ordinary_numbers_are_not_told(tmp_path, values):
    path = tmp_path / "t.csv"
    pd.DataFrame({"load": values}).to_csv(path, index=False)
    assert read_table(path).notes == []


def test_the_data_module_hands_the_marks_on_and_refuses_what_is_no_number(tmp_path):
    options = {"lookback": 4, "horizon": 2, "time": "date", "target": ["load"], "missing": "fill"}
    path = str(table(tmp_path, with_mark(-999)))
    data = SeriesDataModule("table", path, missing_marks=[-999.0], **options)
    data.setup()
    assert any("-999 (2 times, first in row 8) is missing" in note for note in data.notes)
    rows, _ = data.read_input(path, data.spec)
    assert rows.filled.sum() == 2
    for wrong in ([float("nan")], [float("inf")], []):
        with pytest.raises(DataError, match=r"data\.missing_marks=.*give finite numbers such as \[-999\]"):
            SeriesDataModule("table", path, missing_marks=wrong)
    with pytest.raises(DataError, match=r"data\.missing_marks is for data=table"):
        SeriesDataModule("etth1", missing_marks=[-999.0])
