"""Reads any CSV or Parquet file as a `Series`, and refuses rather than guesses wherever the answer would
change numbers.

Sorted by time; rows that repeat another one exactly are dropped; both are noted. Two rows with one time stamp
but other values, gaps in the time grid, missing values, text among numbers and ambiguous dates are errors
that name file, column and row (counted from 1 after the header) and the fix. The only filling there is
carries the last known row forward: it uses the past alone. The step of the time grid is either a fixed one (15min, h,
D) or a calendar one (business days, weeks, months, quarters, years); nothing is resampled.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset, BusinessDay, Day, MonthBegin, MonthEnd

from gatelab.data.messages import DataError, did_you_mean
from gatelab.data.series.protocol import Series

_CSV: Final = (".csv", ".csv.gz", ".txt")
_PARQUET: Final = (".parquet", ".pq")
_MONTHS: Final = {1: "M", 3: "Q", 12: "Y"}
_SPARSEST: Final = 100
"""Times of a grid for each row that is there; with more, it is not called a grid with gaps."""


def read_table(
    path: str | Path,
    *,
    time: str | None = None,
    channels: Sequence[str] | None = None,
    gaps: Literal["error", "fill", "ignore"] = "error",
    missing: Literal["error", "fill"] = "error",
) -> Series:
    """Return the table at `path` as a `Series` in order of time.

    time: name of the time column; None: the rows are already in order and equally spaced. channels: columns
    to use (None: all but `time`). gaps: "error", "fill" (repeat the row before the gap) or "ignore" (take the
    rows as consecutive).
    missing: "error" or "fill" (the last value before). Raises `DataError`.
    """
    path = Path(path).expanduser()
    frame = _read(path)
    notes: list[str] = []
    columns = _columns(path, frame, time, channels)
    duplicated = frame.duplicated(subset=[time, *columns]) if time else pd.Series(False, index=frame.index)
    if duplicated.any():
        notes.append(
            f"{int(duplicated.sum())} rows that repeat another one exactly were dropped (first: {_row(duplicated)})"
        )
        frame = frame[~duplicated]
    numbers = _numbers(path, frame, columns)
    frequency, times = "", None
    if time is not None:
        stamps = pd.Series(_parse_times(path, frame[time], notes).to_numpy(), index=frame.index)
        numbers = _in_order(path, time, stamps, numbers, notes)
        numbers, frequency = _regular_grid(path, numbers, gaps, notes)
        times = numbers.index.to_numpy()
    numbers = _complete(path, numbers, missing, notes)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Series(
        numbers.to_numpy(np.float64), tuple(columns), frequency, times, None, {path.name: digest}, notes
    )


def _row(where: pd.Series) -> str:
    """Name the first row at which `where` is true, as the reader counts it."""
    return f"row {int(where.index[where.to_numpy()][0]) + 1}"


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"data.path={path}: there is no such file (looked in {path.resolve().parent})")
    name = path.name.lower()
    if not name.endswith(_CSV + _PARQUET):
        raise DataError(f"{path}: expected a file named {', '.join(_CSV + _PARQUET)}")
    try:
        frame = pd.read_parquet(path) if name.endswith(_PARQUET) else pd.read_csv(path, encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty; it needs a header and rows") from None
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parser errors are among these
        raise DataError(f"{path}: could not be read as a table: {' '.join(str(error).split())}") from None
    if frame.empty:
        raise DataError(f"{path}: the table has no rows")
    if len(frame.columns) == 1 and any(mark in str(frame.columns[0]) for mark in ";\t|"):
        raise DataError(
            f"{path}: the header {frame.columns[0]!r} is one column; write the file with commas between columns "
            "and points in the numbers"
        )
    if not isinstance(frame.index, pd.RangeIndex):
        if not name.endswith(_PARQUET):  # pandas would take the first field for an index and shift the rest
            raise DataError(f"{path}: the rows have more fields than the header; name every column")
        frame = frame.reset_index()  # Parquet may keep the time as an index
    frame.columns = [str(column).strip() for column in frame.columns]
    if repeated := sorted(frame.columns[frame.columns.duplicated()]):
        raise DataError(f"{path}: column {repeated[0]!r} occurs twice; give every column its own name")
    return frame


def _columns(path: Path, frame: pd.DataFrame, time: str | None, channels: Sequence[str] | None) -> list[str]:
    """Return the names of the channels; `DataError` with the nearest name where one does not exist."""
    asked = ([("data.time", time)] if time is not None else []) + [
        ("data.channels", name) for name in channels or ()
    ]
    for key, name in asked:
        if name not in frame.columns:
            hint = did_you_mean(str(name), frame.columns) or f" There are {', '.join(frame.columns)}."
            raise DataError(f"{path}: {key} names the column {name!r}, which does not exist.{hint}")
    columns = (
        list(channels) if channels is not None else [column for column in frame.columns if column != time]
    )
    if not columns:
        raise DataError(f"{path}: there is no column beside the time column {time!r}")
    return columns


def _numbers(path: Path, frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return the channels as float64; every column that holds anything but finite numbers is named."""
    text: dict[str, str] = {}
    numbers = pd.DataFrame(index=frame.index)
    for column in columns:
        values = frame[column]
        if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
            text[column] = "holds times"
            continue
        converted = pd.to_numeric(values, errors="coerce")
        wrong = converted.isna() & values.notna()
        if wrong.any():
            text[column] = f"{_row(wrong)} holds {values[wrong].iloc[0]!r}"
            continue
        numbers[column] = converted.astype(np.float64)
        if (infinite := np.isinf(numbers[column])).any():
            raise DataError(
                f"{path}: column {column!r}, {_row(infinite)}: infinite value; correct it or leave it empty"
            )
    if text:
        listed = "; ".join(f"{column!r} ({why})" for column, why in text.items())
        raise DataError(
            f"{path}: not numeric: {listed}. If it is the time, give data.time={next(iter(text))}; otherwise choose "
            "the numeric columns with data.channels=[...]"
        )
    return numbers


def _parse_times(path: Path, column: pd.Series, notes: list[str]) -> pd.Series:
    """Return time stamps (UTC, without zone); empty, unreadable and ambiguous ones are errors."""
    name = column.name
    if (empty := column.isna()).any():
        raise DataError(
            f"{path}: column {name!r}, {_row(empty)}: the time is missing; fill it in or remove the row"
        )
    if pd.api.types.is_numeric_dtype(column):
        raise DataError(
            f"{path}: column {name!r} holds numbers, not dates; write ISO dates (2024-01-31 13:00), or leave "
            "data.time out if the rows are in order and equally spaced"
        )
    if pd.api.types.is_datetime64_any_dtype(column):
        parsed = pd.to_datetime(column, utc=True)
        zoned = getattr(column.dt, "tz", None) is not None
    else:
        text = column.astype(str).str.strip()
        parsed = _one_reading(path, text)
        if (wrong := parsed.isna()).any():
            raise DataError(
                f"{path}: column {name!r}, {_row(wrong)}: {text[wrong].iloc[0]!r} is not a date; write ISO dates "
                "(2024-01-31 13:00)"
            )
        zoned = bool(text.str.contains(r"(?:Z|:\d{2}(?:\.\d+)?\s?[+-]\d{2}:?\d{2})$", regex=True).any())
    if zoned:
        notes.append(f"times of {name!r} were converted to UTC")
    return parsed.dt.tz_localize(None)


def _one_reading(path: Path, text: pd.Series) -> pd.Series:
    """Parse dates. Those that begin with day or month must show somewhere in the column which of the two it is."""
    if text.str.match(r"\d{4}-\d{1,2}").all():
        return pd.to_datetime(text, utc=True, errors="coerce", format="ISO8601")
    numbers = text.str.extract(r"^(\d{1,2})[/.\-](\d{1,2})[/.\-]").astype(float)
    day_first, month_first = numbers[0] > 12, numbers[1] > 12
    if numbers[0].notna().any() and day_first.any() == month_first.any():
        both = day_first | month_first if day_first.any() else numbers[0].notna()
        why = (
            "changes between day first and month first"
            if day_first.any()
            else "can be read day first or month first"
        )
        raise DataError(
            f"{path}: column {text.name!r}, {_row(both)}: {text[both].iloc[0]!r} {why}; write ISO dates "
            "(2024-01-31 13:00)"
        )
    return pd.to_datetime(text, utc=True, errors="coerce", format="mixed", dayfirst=bool(day_first.any()))


def _in_order(
    path: Path, time: str, stamps: pd.Series, numbers: pd.DataFrame, notes: list[str]
) -> pd.DataFrame:
    """Return the rows indexed and sorted by time; two rows of one time are an error."""
    twice = stamps.duplicated(keep=False)
    if twice.any():
        when = stamps[twice].iloc[0]
        rows = ", ".join(str(int(row) + 1) for row in stamps.index[(stamps == when).to_numpy()][:5])
        raise DataError(
            f"{path}: column {time!r}: {when} stands in rows {rows} with different values "
            f"({int(stamps.duplicated().sum())} such rows in all); keep one row per time (several series in one "
            "file: one column each)"
        )
    if not stamps.is_monotonic_increasing:
        notes.append(f"rows were sorted by {time!r}")
    numbers = numbers.set_axis(pd.DatetimeIndex(stamps), axis=0)
    return numbers.sort_index()


def _complete(path: Path, numbers: pd.DataFrame, missing: str, notes: list[str]) -> pd.DataFrame:
    """Return the rows without missing values, or refuse."""
    holes = numbers.isna()
    if not holes.to_numpy().any():
        return numbers
    counts = holes.sum()
    listed = ", ".join(f"{column!r} {int(count)}" for column, count in counts.items() if count)
    first = numbers.index[holes.any(axis=1)][0]
    where = (
        f"first at {first}"
        if isinstance(numbers.index, pd.DatetimeIndex)
        else f"first in row {int(first) + 1}"
    )
    if missing == "error":
        raise DataError(
            f"{path}: missing values: {listed} ({where}); fill them in, leave the columns out with "
            "data.channels=[...], or carry the last value forward with data.missing=fill"
        )
    filled = numbers.ffill()
    if (still := filled.isna().any()).any():
        column = still.index[still.to_numpy()][0]
        raise DataError(
            f"{path}: column {column!r} begins with missing values: there is nothing to carry forward; cut them off"
        )
    notes.append(f"missing values carried forward from the row before: {listed} ({where})")
    return filled


def _regular_grid(path: Path, rows: pd.DataFrame, gaps: str, notes: list[str]) -> tuple[pd.DataFrame, str]:
    """Return the rows on a grid without gaps and its frequency ("" if there is none).

    rows are sorted by their DatetimeIndex. gaps: "error" refuses, "fill" repeats the row before a gap,
    "ignore" takes the rows as consecutive. Raises `DataError` naming the first gap.
    """
    index = pd.DatetimeIndex(rows.index)
    if len(index) < 3:
        raise DataError(f"{path}: {len(index)} rows are too few to tell the time step")
    step = _step(index)
    # irregular stamps of a tiny step over years would make a grid of billions: it may be _SPARSEST times too long
    grid = pd.date_range(index[0], min(index[-1], index[0] + _SPARSEST * len(index) * step), freq=step)
    if index.equals(grid.as_unit(index.unit)):
        return rows, _name(step)
    if gaps == "ignore":
        notes.append("the time grid is not regular; rows were taken as consecutive (data.gaps=ignore)")
        return rows, ""
    if not index.isin(grid).all():
        odd = int((~index.isin(grid)).argmax())
        raise DataError(
            f"{path}: the times lie on no regular grid (or hardly any of it is there): the usual step from {index[0]} "
            f"on is {_name(step)}, which does not lead to {index[odd]}; resample the file to one step, or take the "
            "rows as consecutive with data.gaps=ignore"
        )
    absent = grid.difference(index)
    if gaps == "error":
        raise DataError(
            f"{path}: {len(absent)} times are missing in the {_name(step)} grid, the first is {absent[0]}; add the "
            "rows, repeat the row before each gap with data.gaps=fill, or take the rows as consecutive with "
            "data.gaps=ignore"
        )
    notes.append(
        f"{len(absent)} missing times (first {absent[0]}) were given the values of the row before them"
    )
    # only whole rows that are absent: a missing value inside a row is data.missing's question
    source = index.searchsorted(grid, side="right") - 1
    return rows.iloc[source].set_axis(grid, axis=0), _name(step)


def _step(index: pd.DatetimeIndex) -> BaseOffset:
    """Return the usual step: whole months if all stamps begin (or end) one, business days, else the most common one."""
    usual = pd.Timedelta(index.to_series().diff().mode().iloc[0])
    if usual >= pd.Timedelta(days=27) and (index.is_month_start.all() or index.is_month_end.all()):
        months = pd.Series(12 * index.year + index.month).diff().mode().iloc[0]
        offset = MonthBegin if index.is_month_start.all() else MonthEnd
        return offset(int(months))
    if usual == pd.Timedelta(days=1) and (index.day_of_week < 5).all():
        return BusinessDay()
    # pandas 3 calls whole days "24h" when they are measured
    return Day(usual.days) if usual == pd.Timedelta(days=usual.days) else to_offset(usual)


def _name(step: BaseOffset) -> str:
    """Return pandas' short name of the step: "h", "15min", "D", "B", "W", "MS", "QE", ..."""
    if isinstance(step, MonthBegin | MonthEnd) and step.n in _MONTHS:
        return _MONTHS[step.n] + ("S" if isinstance(step, MonthBegin) else "E")
    return "W" if step.freqstr == "7D" else str(step.freqstr)
