"""Many series in one long frame: `read_panel` checks it and returns a `Panel`.

A row is one series at one time. Rows are sorted by series (in the order of the file) and time; rows that repeat another
one exactly are dropped, and told. Refused by id and rows: two rows of one series and time, another step, a static value
that changes, text among numbers, missing ids and times; missing values and absent rows unless they are masked.

Dimensions: `N` rows, `S` series, `C` channels, `F`/`G` known covariates (numbers/categories), `M` times of the grid.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, Literal

import numpy as np
import pandas as pd

from gatelab.data.messages import (
    DataError,
    Problems,
    counted,
    few,
    no_column,
    refuse_lookalikes,
    shown,
    tell_twins,
    told_dropped,
)
from gatelab.data.panel.grid import panel_grid
from gatelab.data.panel.long_frame import LongFrame, fingerprint, read_long_frame
from gatelab.data.panel.panel import Columns, Panel
from gatelab.data.panel.rows import first_of
from gatelab.data.series.calendar import (
    Stamps,
    check_frequency,
    clock_change,
    holds_times_of_day,
    read_times,
    told_step,
    zone_note,
)
from gatelab.data.series.csv_numbers import as_float, odd_words, tell_truths
from gatelab.data.series.missing_marks import without_marks
from gatelab.data.series.table import SEPARATOR, refuse_two_columns
from gatelab.data.totals import told_lone_total

_TIME: Final = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b.*|\d{1,2}:\d{2}\b.*"
_AS_WORDS: Final = " (NA, None, null and nan count as missing but in data.categorical, where they are words)"
_SPARSEST: Final = 100
"""Rows of the grid for each row that is there."""


def read_panel(
    path: str,
    columns: Columns,
    *,
    frequency: str | None = None,
    gaps: Literal["error", "mask"] = "error",
    missing: Literal["error", "mask"] = "error",
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
) -> Panel:
    """Return the panel in a file, in the files of a pattern or in those of a folder.

    frequency: the step; None: found from the times. gaps: what to do with times that a series lacks between its rows;
    missing: with cells without a value. "mask" takes them as missing. Raises `DataError`.
    """
    notes: list[str] = []
    file_format = {"separator": separator, "decimal": decimal, "encoding": encoding}
    long = read_long_frame(path, notes, file_format, (columns.id, *columns.categorical))
    try:
        panel = build_panel(long, columns, gaps, missing, notes, frequency=check_frequency(frequency))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    panel.fingerprint, panel.notes = fingerprint(path), notes
    return panel


def build_panel(
    long: LongFrame,
    columns: Columns,
    gaps: str,
    missing: str,
    notes: list[str],
    step: str = "",
    frequency: str = "",
) -> Panel:
    """Return the panel of a long frame, see `read_panel`.

    step: that of a run, taken if no other one fits better; frequency: the only one that is taken.
    """
    _check_columns(long.frame, columns)
    problems = Problems()
    if told := told_lone_total(long.frame[columns.id].to_numpy()):
        problems.append(f"{long.rows([len(long.frame) - 1])}: {told}")
        long = long._replace(frame=long.frame.iloc[:-1])
    found = problems.of(lambda: _ids(long, columns.id))
    stamps = None if (time := columns.time) is None else problems.of(lambda: _stamps(long, time, notes))
    cells, words = _cells(long, columns, problems)
    problems.refuse()
    numbers = pd.DataFrame({name: column for name, column in cells.items() if column.dtype == np.float64})
    tell_truths(long.frame, map(str, numbers), notes)
    without_marks(
        numbers, None, notes, "empty these cells", lambda where: long.rows(np.flatnonzero(where)[:1])
    )
    assert found is not None
    codes, names = found
    tell_twins(f"ids in column {columns.id!r}", names, notes)
    order = np.argsort(codes, kind="stable") if stamps is None else np.lexsort((stamps[0], codes))
    if (order[1:] < order[:-1]).any():
        notes.append(
            f"rows were sorted by {columns.id!r}" + (columns.time is not None) * f" and {columns.time!r}"
        )
    if stamps is not None:
        order = _without_doubles(long, columns, codes, stamps, order, names, notes)
    rows, series = order, codes[order]
    starts = np.searchsorted(series, np.arange(len(names) + 1))

    def name(one: int, first: int, last: int) -> str:
        if first == last:
            return f"series {shown(names[one])} ({long.rows(rows[[first]])})"
        return f"series {shown(names[one])} (rows {long.rows(rows[[first]])[4:]} to {long.rows(rows[[last]])[4:]})"

    panel = Panel(names, starts, np.zeros((0, 0)), columns.target + columns.past, words=words)
    inside = np.arange(len(rows)) - starts[series]
    if stamps is not None:
        read = Stamps(pd.Series(stamps[0][rows]), pd.Series(stamps[1][rows]), stamps[2])
        grid = panel_grid(read, starts, name, step, frequency)
        if grid.others and not step:
            notes.append(told_step(grid.step, grid.others))
        if grid.zone:
            notes.append(zone_note(str(columns.time), grid.zone))
        panel.frequency, panel.zone, panel.times, panel.wall = grid.step, grid.zone, grid.times, grid.wall
        panel.place = grid.place[starts[:-1]]
        inside = grid.place - panel.place[series]
        panel.starts = _fill_gaps(panel, inside, starts, name, gaps, notes)
    _fill_columns(panel, long, columns, cells, rows, panel.starts[series] + inside, missing, notes)
    _fill_static(panel, long, columns, cells, rows, series, missing)
    return panel


def _check_columns(frame: pd.DataFrame, columns: Columns) -> None:
    """Every column exists, and has one part."""
    keys = {
        "data.id": (columns.id,),
        "data.time": () if columns.time is None else (columns.time,),
        "data.target": columns.target,
        "data.past": columns.past,
        "data.known_future": columns.known,
        "data.static": columns.static,
    }
    taken: dict[str, str] = {}
    problems = Problems()
    for key, names in keys.items():
        for name in names:
            if name not in frame.columns:
                problems.append(no_column(key, name, list(frame.columns), SEPARATOR))
            if name in taken and {key, taken[name]} != {"data.id", "data.static"}:
                problems.append(f"{key} and {taken[name]} both name the column {name!r}; it has one part")
            taken[name] = key
    for name in columns.categorical:
        if name not in columns.known + columns.static:
            problems.append(
                f"data.categorical names {name!r}, which is neither in data.known_future nor in data.static"
            )
    problems.refuse()


def _without_gaps(long: LongFrame, column: str, what: str) -> pd.Series:
    """A column of which every cell holds `what`, in words."""
    values = long.frame[column]
    if (empty := values.isna().to_numpy()).any():
        raise DataError(
            f"column {column!r}: {long.rows(np.flatnonzero(empty))} without {what}; fill it in or remove "
            f"{'the row' if empty.sum() == 1 else 'these rows'}"
        )
    return values


def _ids(long: LongFrame, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The number of each row's series, in the order of the file, and the names."""
    codes, found = pd.factorize(_without_gaps(long, column, "an id"))
    names = tuple(str(name) for name in found)
    refuse_lookalikes(f"ids in column {column!r},", names)
    return codes, names


def _stamps(long: LongFrame, column: str, notes: list[str]) -> tuple[np.ndarray, np.ndarray, str]:
    """Times of the rows in UTC and by their own clock, and the zone; each stamp is read once."""
    values = _without_gaps(long, column, "a time")
    if holds_times_of_day(values):
        refuse_two_columns(long.frame, column, [])
    codes, _ = pd.factorize(values)
    try:
        read = read_times(values.iloc[first_of(codes)], notes)
    except DataError as error:  # of rows that are counted over all files
        raise DataError(
            re.sub(r"\brow (\d+)", lambda found: long.rows([int(found[1]) - 1]), str(error))
        ) from None
    microseconds = [part.to_numpy().astype("datetime64[us]")[codes] for part in (read.times, read.wall)]
    return microseconds[0], microseconds[1], read.zone


def _without_doubles(
    long: LongFrame,
    columns: Columns,
    codes: np.ndarray,
    stamps: tuple[np.ndarray, np.ndarray, str],
    order: np.ndarray,
    names: Sequence[str],
    notes: list[str],
) -> np.ndarray:
    """Return the order without rows that repeat another exactly; refuse other values of one series and time."""
    times, _, zone = stamps
    same = (codes[order][1:] == codes[order][:-1]) & (times[order][1:] == times[order][:-1])
    if not same.any():
        return order
    both = np.zeros(len(order), bool)
    both[1:] |= same
    both[:-1] |= same
    places = order[both]
    used = list(dict.fromkeys([columns.id, *columns.target, *columns.past, *columns.known, *columns.static]))
    cells = long.frame.iloc[places][used].assign(**{" time": times[places]})
    repeats = cells.duplicated().to_numpy()
    left = cells[~repeats]
    twice = left.duplicated([columns.id, " time"], keep=False).to_numpy()
    if twice.any():
        refuse_two_columns(long.frame, str(columns.time), [])
        first = left[twice].iloc[0]
        here = np.flatnonzero(
            (codes == codes[left.index[twice][0]]) & (times == first[" time"].to_datetime64())
        )
        change = "" if zone else clock_change(pd.DatetimeIndex(left[twice][" time"]))
        raise DataError(
            f"series {shown(names[codes[here[0]]])}: {first[' time']} stands in {long.rows(here)} with different "
            f"values ({counted(int(left.duplicated([columns.id, ' time']).sum()), 'such row')} in all); keep one row "
            f"for each {columns.id!r} and {columns.time!r}{change}"
        )
    dropped = places[repeats]
    notes.append(told_dropped(len(dropped), long.rows(dropped)))
    return order[~np.isin(order, dropped)]


def _fill_gaps(
    panel: Panel,
    inside: np.ndarray,
    starts: np.ndarray,
    name: Callable[[int, int, int], str],
    gaps: str,
    notes: list[str],
) -> np.ndarray:
    """Return the starts with a row for every time from each series' first to its last."""
    lengths = inside[starts[1:] - 1] + 1
    absent = lengths - np.diff(starts)
    if absent.sum() > _SPARSEST * starts[-1]:
        one = int(absent.argmax())
        raise DataError(
            f"{name(one, starts[one], starts[one + 1] - 1)}: hardly any of its times is there; look for stray dates"
        )
    if not absent.any():
        return starts
    one = int((absent > 0).argmax())
    own = inside[starts[one] : starts[one + 1]]
    gap = int((own != np.arange(len(own))).argmax())
    where = f"series {shown(panel.ids[one])}, {panel.when(one, gap)}"
    count = f"{counted(int(absent.sum()), 'time')} of {int((absent > 0).sum()):,} series"
    if gaps == "error":
        lacking = np.setdiff1d(np.arange(lengths[one]), own) + panel.place[one]
        change = "" if panel.zone else clock_change(pd.DatetimeIndex(panel.times[lacking]))
        raise DataError(
            f"{count} missing in the {panel.frequency} grid, the first is {where}; add the "
            f"rows, or take them as missing with data.gaps=mask{change}"
        )
    notes.append(f"{count} without a row are taken as missing (first: {where})")
    return np.concatenate([[0], np.cumsum(lengths)])


def _numbers(long: LongFrame, column: str, key: str, fix: str = "") -> np.ndarray:
    """A column as float64, nan where a cell is empty."""
    cells = long.frame[column]
    numbers, text = as_float(cells)
    if text.any():
        place = np.flatnonzero(text)
        raise DataError(
            f"{key}: column {column!r} holds {shown(cells.iloc[place[0]])} in {long.rows(place)}; write numbers, leave "
            f"cells without one empty{fix}"
        )
    if (endless := np.isinf(numbers)).any():
        raise DataError(
            f"{key}: column {column!r}, {long.rows(np.flatnonzero(endless))}: infinite value; correct it"
        )
    return numbers


def _refuse_half_numbers(long: LongFrame, column: str, key: str) -> None:
    """Raise `DataError` for a column that is no clear words: lists, times, and numbers of which some are not plain."""
    cells = long.frame[column]
    try:
        codes, found = pd.factorize(cells)
    except TypeError:
        raise DataError(
            f"{key}: column {column!r} holds {shown(cells.iloc[0])} in row 1; write one value in a cell"
        ) from None
    words = pd.Series(found).astype(str).str.strip()
    fix = f"or name {column!r} in data.categorical if each of them is a word"
    times = pd.api.types.is_datetime64_any_dtype(cells) or pd.api.types.is_timedelta64_dtype(cells)
    if times or words.str.fullmatch(_TIME).all():
        raise DataError(f"{key}: column {column!r} holds times; write numbers (hours, days), {fix}")
    if (places := np.flatnonzero(odd_words(words))).size:
        odd = np.flatnonzero(np.isin(codes, places))
        raise DataError(
            f"{key}: column {column!r} holds {shown(cells.iloc[odd[0]])} in {long.rows(odd)}; write plain numbers, "
            f"without signs of percent or currency, and leave cells without one empty, {fix}"
        )


def _is_text(cells: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(cells) or pd.api.types.infer_dtype(cells) == "boolean")


def _coded(cells: pd.Series) -> tuple[np.ndarray, list[str]]:
    """The place of each cell among the words, which are in alphabetical order; -1 where a cell is empty."""
    codes, words = pd.factorize(cells)
    names = [str(int(word)) if isinstance(word, float) and word.is_integer() else str(word) for word in words]
    ranks = np.argsort(np.argsort(names, kind="stable"), kind="stable")
    return np.append(ranks, -1)[codes].astype(np.int32), sorted(names)


def _covariate(
    long: LongFrame, column: str, key: str, columns: Columns, words: dict[str, list[str]]
) -> np.ndarray:
    if column in columns.categorical or _is_text(long.frame[column]):
        if column not in columns.categorical:
            _refuse_half_numbers(long, column, key)
        codes, words[column] = _coded(long.frame[column])
        refuse_lookalikes(f"categories in column {column!r},", words[column])
        return codes
    return _numbers(long, column, key)


def _cells(
    long: LongFrame, columns: Columns, problems: Problems
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Each column with a part, as numbers or as places among its words, and the words."""
    past = "; past covariates are numbers: a category goes into data.known_future or data.static"
    cells: dict[str, np.ndarray | None] = {}
    words: dict[str, list[str]] = {}
    for key, names, fix in (("data.target", columns.target, ""), ("data.past", columns.past, past)):
        for name in names:
            cells[name] = problems.of(partial(_numbers, long, name, key, fix))
    for key, names in (("data.known_future", columns.known), ("data.static", columns.static)):
        for name in names:
            cells[name] = problems.of(partial(_covariate, long, name, key, columns, words))
    return {name: column for name, column in cells.items() if column is not None}, words


def _absent(values: np.ndarray) -> np.ndarray:
    return values < 0 if values.dtype == np.int32 else np.isnan(values)


def _fill_columns(
    panel: Panel,
    long: LongFrame,
    columns: Columns,
    read: Mapping[str, np.ndarray],
    rows: np.ndarray,
    places: np.ndarray,
    missing: str,
    notes: list[str],
) -> None:
    """Put the cells of `rows` at `places` of the panel."""
    total, told = int(panel.starts[-1]), []

    def spread(cells: np.ndarray, column: str, key: str) -> np.ndarray:
        if missing == "error" and (holes := _absent(cells)[rows]).any():
            raise DataError(
                f"{key}: column {column!r} has {counted(int(holes.sum()), 'missing value')} (series "
                f"{shown(str(long.frame[columns.id].iloc[rows[holes][0]]))}, {long.rows(rows[holes])}); fill "
                f"{'it' if holes.sum() == 1 else 'them'} in, or mask with data.missing=mask"
                f"{_AS_WORDS * (cells.dtype == np.int32)}"
            )
        whole = np.full(total, -1 if cells.dtype == np.int32 else np.nan, cells.dtype)
        whole[places] = cells[rows]
        if (share := _absent(whole).mean()) > 0:
            told.append(f"{column!r} {share:.1%}")
        return whole

    panel.values = np.empty((total, len(panel.channels)))
    for place, column in enumerate(panel.channels):
        key = "data.target" if column in columns.target else "data.past"
        panel.values[:, place] = spread(read[column], column, key)
    for column in columns.known:
        panel.known[column] = spread(read[column], column, "data.known_future")
    if told:
        notes.append(f"missing, and masked: {few(told, 12)} of the rows")


def _fill_static(
    panel: Panel,
    long: LongFrame,
    columns: Columns,
    read: Mapping[str, np.ndarray],
    rows: np.ndarray,
    series: np.ndarray,
    missing: str,
) -> None:
    """One value a series of each static column; `DataError` where it changes within a series or is missing."""
    for column in columns.static:
        cells = read[column][rows]
        there = ~_absent(cells)
        value = np.full(len(panel.ids), -1 if cells.dtype == np.int32 else np.nan, cells.dtype)
        value[series[there][::-1]] = cells[there][::-1]  # the first one stays
        if (changed := there & (cells != value[series])).any():
            place = int(changed.argmax())
            one = series[place]
            first = int(np.flatnonzero(there & (series == one))[0])
            raise DataError(
                f"data.static: {column!r} changes within series {shown(panel.ids[one])}: "
                f"{shown(long.frame[column].iloc[rows[first]])} in {long.rows(rows[[first]])}, "
                f"{shown(long.frame[column].iloc[rows[place]])} in {long.rows(rows[[place]])}; correct it, or name "
                "it in data.known_future"
            )
        if missing == "error" and (empty := _absent(value)).any():
            names = [shown(panel.ids[one]) for one in np.flatnonzero(empty)[:4]]
            raise DataError(
                f"data.static: {column!r} has no value in series {', '.join(names)} ({int(empty.sum()):,} in all); "
                f"fill it in, or mask it with data.missing=mask{_AS_WORDS * (value.dtype == np.int32)}"
            )
        panel.static[column] = value
