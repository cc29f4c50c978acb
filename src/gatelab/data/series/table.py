"""Reads any CSV or Parquet file as a `Series`, and refuses rather than guesses wherever the answer would
change numbers.

Sorted by time; rows that repeat another one exactly are dropped; columns that count the rows are left out; all are
noted. Two rows with one time stamp but other values, gaps in the time grid, missing values, text among numbers and
ambiguous dates are errors that name file, column and row (counted from 1 after the header) and the fix, all in one
message. The only filling there is carries the last known row forward: it uses the past alone, and what was filled is
marked. How files are read is csv_file.py's business, how times are calendar.py's; nothing is resampled.
"""

import csv
import hashlib
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple
from unicodedata import normalize

import numpy as np
import pandas as pd

from gatelab.data.file_kinds import refuse_other_kinds
from gatelab.data.messages import DataError, Problems, counted, no_column, shown, to_type, told_dropped
from gatelab.data.series.calendar import (
    Stamps,
    check_frequency,
    clock_change,
    find_grid,
    holds_times_of_day,
    off_step,
    read_times,
    row,
    told_step,
    usual_step,
    zone_note,
)
from gatelab.data.series.csv_file import NO_VALUE, is_unnamed, own_columns, read_csv
from gatelab.data.series.csv_numbers import as_float, tell_times, tell_truths
from gatelab.data.series.missing_marks import without_marks
from gatelab.data.series.protocol import Series
from gatelab.data.totals import tell_sums

CSV: Final = tuple(f"{name}{packed}" for packed in ("", ".gz", ".zst") for name in (".csv", ".tsv", ".txt"))
PARQUET: Final = (".parquet", ".pq")
_MOST: Final = 6
"""Problems, or columns of one, that a message lists."""
SEPARATOR: Final = "; if a sign parts several, give it as data.separator, or write commas"


class _Rows(NamedTuple):
    """Channels `[N, C]` in order of time, where they were filled `[N, C]`, and their times; wall: see `Series`."""

    numbers: pd.DataFrame
    filled: np.ndarray
    frequency: str = ""
    times: np.ndarray | None = None
    zone: str = ""
    wall: np.ndarray | None = None


def read_table(
    path: str | Path,
    *,
    time: str | None = None,
    channels: Sequence[str] | None = None,
    frequency: str | None = None,
    gaps: Literal["error", "fill", "ignore"] = "error",
    missing: Literal["error", "fill"] = "error",
    missing_marks: Sequence[float] | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    step: str = "",
    settings: bool = True,
) -> Series:
    """Return the table at `path` as a `Series` in order of time.

    time: name of the time column; None: the rows are already in order and equally spaced. channels: columns
    to use (None: all but `time`). frequency: the step (None: found from the times). gaps: "error", "fill" (repeat the
    row before the gap) or "ignore" (take the rows as consecutive). missing: "error" or "fill" (the last value before).
    missing_marks: numbers that stand for a missing value.
    separator, decimal, encoding: of a CSV file (see csv_file.py; None: found out). step: the step that is taken if no
    other fits better. settings: whether the fixes may name settings of the data. Raises `DataError`.
    """
    path = Path(path).expanduser()
    notes: list[str] = []
    problems = Problems()
    stated = check_frequency(frequency)
    frame = read_frame(path, notes, separator, decimal, encoding)
    if time is not None and (empty := frame.isna().all(axis=1)).any():
        notes.append(f"{counted(int(empty.sum()), 'empty row')} left out (first: {row(empty[empty])})")
        frame = frame[~empty]
    columns = _columns(path, frame, time, channels, notes)
    if time is not None:
        try:
            refuse_two_columns(frame, time, columns)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
    numbers = _numbers(frame, columns, time, problems, settings)
    numbers = without_marks(numbers, missing_marks, notes, "give data.missing_marks=[{}]" * settings)
    stamps = None
    if time is None:
        tell_sums(numbers.to_numpy(), notes)
    else:
        try:
            stamps = read_times(frame[time], notes)
        except DataError as error:
            problems.append(str(error))
            # a note below the rows has no other cells: one problem, not two
            numbers = numbers.dropna(how="all")
    rows = _Rows(numbers, np.zeros(numbers.shape, bool))
    if stamps is not None:
        numbers, stamps = _in_order(str(time), numbers, stamps, problems, notes)
        rows = _on_grid(numbers, stamps, step, stated, gaps, problems, notes, settings)
        if stamps.zone:
            notes.append(zone_note(str(time), rows.zone))
    rows = _complete(rows, missing, problems, notes, settings)
    try:
        problems.refuse()
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Series(
        rows.numbers.to_numpy(np.float64),
        tuple(columns),
        rows.frequency,
        rows.times,
        None,
        {path.name: digest},
        notes,
        rows.zone,
        rows.filled if rows.filled.any() else None,
        rows.wall,
    )


def _listed(items: Sequence[str]) -> str:
    more = f"; and {len(items) - _MOST:,} more" if len(items) > _MOST else ""
    return "; ".join(items[:_MOST]) + more


def read_frame(
    path: Path,
    notes: list[str],
    separator: str | None,
    decimal: str | None,
    encoding: str | None,
    *,
    text: Collection[str] = (),
    sentences: bool = False,
) -> pd.DataFrame:
    """Return a CSV or Parquet file as it stands, with names of columns that differ; raises `DataError`.

    text, sentences: columns of text, see `read_csv`; in Parquet too they come as `str`, None where they are blank.
    """
    if path.is_dir():
        raise DataError(f"data.path={path}: is a folder; name one file in it")
    if not path.is_file():
        raise DataError(f"data.path={path}: there is no such file (looked in {path.resolve().parent})")
    name = path.name.lower()
    if not name.endswith(CSV + PARQUET):
        raise DataError(f"{path}: expected a file named {', '.join(CSV + PARQUET)}")
    try:
        if name.endswith(PARQUET):
            _refuse_no_parquet(path)
            frame = pd.read_parquet(path)
            if not isinstance(frame.index, pd.RangeIndex):
                frame = frame.reset_index()  # Parquet may keep the time as an index
        else:
            frame = read_csv(
                path,
                notes,
                separator=separator,
                decimal=decimal,
                encoding=encoding,
                text=text,
                sentences=sentences,
            )
        if frame.empty:
            raise DataError("the table has no rows")
    except DataError as error:
        told = str(error).removeprefix(f"{path}: ")
        if encoding is not None and name.endswith(CSV) and "data.encoding" not in told:
            told += f" (it was read in {encoding.upper()}, as data.encoding says)"
        raise DataError(f"{path}: {told}") from None
    except (ValueError, OSError, EOFError, zlib.error, csv.Error) as error:  # also pandas' and pyarrow's own
        raise DataError(
            f"{path}: could not be read as a table: {' '.join(str(error).split())[:300]}"
        ) from None
    frame.columns = [str(column).strip() for column in frame.columns]
    shown = pd.Index([normalize("NFC", name) for name in frame.columns])  # ä in one character or in two
    if repeated := sorted(shown[shown.duplicated()]):
        raise DataError(f"{path}: column {repeated[0]!r} occurs twice; give every column its own name")
    for name in frame.columns.intersection(list(text)):
        try:
            frame[name] = as_text(frame[name])
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        for word, count in frame[name][frame[name].isin(NO_VALUE)].value_counts().items():
            notes.append(f"column {name!r}: {word!r} ({counted(count, 'time')}) is read as a word")
    return frame


def _refuse_no_parquet(path: Path) -> None:
    """Raise `DataError` for a file of another kind that is called Parquet."""
    with path.open("rb") as file:
        head = file.read(100)
    if not head.startswith(b"PAR"):
        refuse_other_kinds(head)
        raise DataError("the file is not in Parquet: let its name end in .csv if it is a table of text")


def as_text(column: pd.Series) -> pd.Series:
    """A column as text, None where a cell is blank: whole numbers without a point, bytes as UTF-8."""
    try:
        codes, values = pd.factorize(column)
    except TypeError:  # cells that cannot be compared: lists
        raise DataError(
            f"column {column.name!r}, row 1 holds {shown(column.iloc[0])}; write one word or text in a cell"
        ) from None
    words: list[str | None] = []
    for code, value in enumerate(values):
        text: str = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        if isinstance(value, bytes):
            try:
                text = value.decode()
            except UnicodeDecodeError:
                raise DataError(
                    f"column {column.name!r}, {row(pd.Series(codes == code))} holds bytes that are not UTF-8; write "
                    "text"
                ) from None
        words.append(text if text.strip() else None)
    return pd.Series(np.array([*words, None], object)[codes], index=column.index, dtype=object)


def _columns(
    path: Path, frame: pd.DataFrame, time: str | None, channels: Sequence[str] | None, notes: list[str]
) -> list[str]:
    """Return the names of the channels; `DataError` with the nearest name where one does not exist."""
    asked = ([("data.time", time)] if time is not None else []) + [
        ("data.channels", name) for name in channels or ()
    ]
    known = set(frame.columns)
    problems = Problems()
    for key, name in asked:
        if name not in known:
            problems.append(no_column(key, str(name), list(frame.columns), SEPARATOR))
    if channels is not None:
        columns = list(channels)
        twice = sorted({name for name in columns if columns.count(name) > 1})
        problems += [f"data.channels names the column {name!r} twice" for name in twice]
        if time in columns:
            problems.append(f"data.channels names {time!r}, the time column; leave it out")
        if not columns:
            problems.append("data.channels is empty; give columns, or null for all")
    else:
        columns = own_columns(frame, [c for c in frame.columns if c != time], notes)
        if unnamed := [c for c in columns if is_unnamed(c)]:
            place = list(frame.columns).index(unnamed[0]) + 1
            is_time = f", or, if it is the time, give {to_type('data.time', unnamed[0])}" * (time is None)
            problems.append(
                f"column {place} has no name; name it, or choose the columns with data.channels=[...]{is_time}"
            )
    try:
        problems.refuse()
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    tell_truths(frame, columns, notes)
    tell_times(frame, columns if time is None else [], notes)
    if not columns:
        raise DataError(f"{path}: there is no column beside the time column {time!r}")
    return columns


def _numbers(
    frame: pd.DataFrame, columns: list[str], time: str | None, problems: list[str], settings: bool
) -> pd.DataFrame:
    """Return the channels as float64; columns that hold anything but finite numbers are named and left out."""
    wrong: dict[str, str] = {}
    infinite: list[str] = []
    numbers: dict[str, np.ndarray] = {}
    some_numbers = False
    for column in columns:
        values = frame[column]
        converted, text = as_float(values)
        if text.any():
            cell = values.iloc[text.argmax()]
            several = {np.ndarray: "a list", list: "a list", dict: "several values"}
            holds = several.get(type(cell)) or shown(cell)
            times = pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values)
            wrong[column] = "holds times" if times else f"{row(pd.Series(text, values.index))} holds {holds}"
            some_numbers = some_numbers or not np.isnan(converted).all()
        elif (endless := np.isinf(converted)).any():
            infinite.append(f"{column!r}, {row(pd.Series(endless, values.index))}")
        else:
            numbers[column] = converted
    if infinite:
        problems.append(f"column {_listed(infinite)}: infinite value; correct it or leave it empty")
    if wrong:
        first = next(iter(wrong))
        listed = _listed([f"{column!r} ({why})" for column, why in wrong.items()])
        fixes = ["write plain numbers (1234.5)" + ", and leave cells without a number empty" * some_numbers]
        fixes += [f"if it is the time, give {to_type('data.time', first)}"] if time is None else []
        fixes += (
            [f"take the other columns alone with {_choice(list(numbers))}"] if settings and numbers else []
        )
        problems.append(f"not numeric: {listed}; {'; or '.join(fixes)}")
    return pd.DataFrame(numbers, index=frame.index)


def _choice(columns: list[str]) -> str:
    """What to type for these channels alone."""
    return to_type("data.channels", columns) if len(columns) <= _MOST else "data.channels=[...]"


def refuse_two_columns(frame: pd.DataFrame, time: str, columns: list[str]) -> None:
    """Raise `DataError` where dates stand in one column, which is the time, and times of day in another."""
    if halves := _two_columns(frame, time, columns):
        raise DataError(
            f"date and time are two columns ({', '.join(halves)}): join them into one (2024-01-01 13:00)"
        )


def _two_columns(frame: pd.DataFrame, time: str, columns: list[str]) -> tuple[str, str] | None:
    """The columns of dates and of times of day, where a time stands in two."""
    others = [c for c in frame.columns if c != time]
    if holds_times_of_day(frame[time]):
        dates = (c for c in others if bool(frame[c].astype(str).str.fullmatch(r"\d+[-/.]\d+[-/.]\d+").all()))
        return next(((repr(date), repr(time)) for date in dates), None)
    halves = [c for c in others if holds_times_of_day(frame[c])]
    if halves and (halves[0] in columns or frame[time].duplicated().any()):
        return repr(time), repr(halves[0])
    return None


def _in_order(
    time: str, numbers: pd.DataFrame, stamps: Stamps, problems: list[str], notes: list[str]
) -> tuple[pd.DataFrame, Stamps]:
    """Return the rows sorted by time, without those that repeat another one exactly."""
    times = stamps.times
    if (twice := times.duplicated(keep=False)).any():
        repeated = numbers[twice].assign(**{" time": times[twice]}).duplicated()
        if repeated.any():
            notes.append(told_dropped(int(repeated.sum()), f"first: {row(repeated)}"))
            kept = ~numbers.index.isin(repeated.index[repeated])
            numbers, times, stamps = numbers[kept], times[kept], stamps._replace(wall=stamps.wall[kept])
    if (twice := times.duplicated(keep=False)).any():
        when = times[twice].iloc[0]
        rows = ", ".join(str(int(place) + 1) for place in times.index[(times == when).to_numpy()][:5])
        change = "" if stamps.zone else clock_change(pd.DatetimeIndex(times[twice]))
        problems.append(
            f"column {time!r}: {when} stands in rows {rows} with different values "
            f"({counted(int(times.duplicated().sum()), 'such row')} in all); keep one row per time "
            f"(several series in one file: one column each, or data=panel data.id=COLUMN){change}"
        )
    if not times.is_monotonic_increasing:
        notes.append(f"rows were sorted by {time!r}")
        order = np.argsort(times.to_numpy(), kind="stable")
        numbers, times = numbers.iloc[order], times.iloc[order]
        stamps = stamps._replace(wall=stamps.wall.iloc[order])
    return numbers, stamps._replace(times=times)


def _on_grid(
    numbers: pd.DataFrame,
    stamps: Stamps,
    step: str,
    frequency: str,
    gaps: str,
    problems: list[str],
    notes: list[str],
    settings: bool,
) -> _Rows:
    """Return the rows on a grid without gaps, with its frequency ("" if there is none).

    step: of a run; frequency: what the user says, "" for nothing. gaps: "error" refuses, "fill" repeats the row before
    a gap, "ignore" takes the rows as consecutive.
    """
    times = pd.DatetimeIndex(stamps.times)
    rows = _Rows(
        numbers.set_axis(times, axis=0),
        np.zeros(numbers.shape, bool),
        "",
        times.to_numpy(),
        stamps.zone,
        stamps.wall.to_numpy() if stamps.zone else None,
    )
    if times.has_duplicates:
        return rows
    if len(times) < 3 and not step and not frequency:
        give = " (data.frequency=D, and the like, says it)" if settings else ""
        problems.append(f"{counted(len(times), 'row')}: too few to tell the time step{give}")
        return rows
    grid = find_grid(stamps, step, frequency)
    if grid is not None and grid.others and settings:
        notes.append(told_step(grid.step, grid.others))
    if grid is not None and len(grid.times) == len(times):
        return rows._replace(frequency=grid.step, zone=grid.zone)
    if grid is None and frequency:
        found = find_grid(stamps)
        fits = f"; the times fit {' and '.join((found.step, *found.others))}" if found else ""
        off = off_step(pd.DatetimeIndex(stamps.wall), frequency)
        problems.append(f"data.frequency={frequency}: the step {off}{fits}")
        return rows
    if gaps == "ignore":
        notes.append("the time grid is not regular; rows were taken as consecutive (data.gaps=ignore)")
        return rows
    ignore = ", or take the rows as consecutive with data.gaps=ignore" if settings else ""
    utc = " (UTC)" if stamps.zone else ""
    if grid is None:
        problems.append(
            f"the times lie on no regular grid (or hardly any of it is there): the usual step from "
            f"{times[0]}{utc} on is {_off_grid(times)}; resample the file to one step{ignore}{_clock_fix(stamps)}"
        )
        return rows
    absent = np.diff(grid.source, prepend=-1) == 0
    first, change = grid.times[absent][0], "" if stamps.zone else clock_change(grid.times[absent])
    if gaps == "error":
        fill = (
            f", repeat the row before each gap with data.gaps=fill{ignore}"
            if settings
            else " (the run was trained without any gap)"
        )
        problems.append(
            f"{counted(int(absent.sum()), 'time')} {'is' if absent.sum() == 1 else 'are'} missing in the {grid.step} "
            f"grid, the first is {first}{utc}; add {'the row' if absent.sum() == 1 else 'the rows'}"
            f"{fill}{change}"
        )
        return rows
    notes.append(
        f"{counted(int(absent.sum()), 'missing time')} (first {first}{utc}) were given the values of the row before "
        "them"
    )
    # only whole rows that are absent: a missing value inside a row is data.missing's question
    filled = np.repeat(absent[:, None], numbers.shape[1], axis=1)
    on_grid = rows.numbers.iloc[grid.source].set_axis(grid.times, axis=0)
    # an absent row has the offset from UTC of the row before it
    wall = grid.times + pd.TimedeltaIndex(stamps.wall - stamps.times)[grid.source]
    return _Rows(
        on_grid, filled, grid.step, grid.times.to_numpy(), grid.zone, wall.to_numpy() if stamps.zone else None
    )


def _off_grid(times: pd.DatetimeIndex) -> str:
    """The usual step and the first time that it does not lead to."""
    usual = usual_step(times)
    odd = times[((times - times[0]) % usual) != pd.Timedelta(0)]
    leads = f", which does not lead to {odd[0]}" if len(odd) else ""
    name = pd.tseries.frequencies.to_offset(usual).freqstr
    return f"{name}{leads}"


def _clock_fix(stamps: Stamps) -> str:
    """What to do about times that are regular but for changes of the clock; "" elsewhere."""
    times = pd.DatetimeIndex(stamps.times)
    usual = usual_step(times)
    aside = ((times - times[0] + usual / 2) % usual - usual / 2).to_series().abs()
    if stamps.zone and find_grid(Stamps(stamps.wall, stamps.wall, "")) is not None:
        return " (by its own clock they do: a step shorter than a day is counted in hours that pass)"
    if usual >= pd.Timedelta(days=1) and aside.max() <= pd.Timedelta(hours=1):
        return (
            " (days of a zone whose clocks change? write them as they begin there, 2024-10-27 or "
            "2024-10-27 00:00+01:00)"
        )
    return ""


def _complete(rows: _Rows, missing: str, problems: list[str], notes: list[str], settings: bool) -> _Rows:
    """Return the rows without missing values, or refuse."""
    holes = rows.numbers.isna().to_numpy()
    if not holes.any():
        return rows
    counts = {str(column): int(count) for column, count in rows.numbers.isna().sum().items()}
    listed = _listed([f"{column!r} {count:,}" for column, count in counts.items() if count]).replace(";", ",")
    first = rows.numbers.index[int(holes.any(axis=1).argmax())]
    where = f"first at {first}" if isinstance(first, pd.Timestamp) else f"first in row {int(first) + 1}"
    if missing == "error":
        ways = ": the run was trained without any"
        if settings:
            whole = [column for column, count in counts.items() if not count]
            ways = f", or take the other columns alone with {_choice(whole)}" if whole else ""
            ways += ", or carry the last value forward with data.missing=fill" * (not holes[0].any())
        problems.append(f"missing values: {listed} ({where}); fill them in{ways}")
        return rows
    filled = rows.numbers.ffill()
    if (still := filled.isna().any()).any():
        problems.append(
            f"column {still.index[still.to_numpy()][0]!r} begins with missing values: there is nothing to carry "
            "forward; cut them off"
        )
    notes.append(f"missing values carried forward from the row before: {listed} ({where})")
    return rows._replace(numbers=filled, filled=rows.filled | holes)
