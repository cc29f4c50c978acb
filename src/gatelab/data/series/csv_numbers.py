"""Numbers as people write them in CSV files: decimal commas, and thousands set apart by a sign or a space.

A number is read where all of its column can be meant in one way only. `12,345` alone can be meant in two, and so can
`12.345` in a file whose fields are separated by semicolons: such files are refused with the setting that decides.

All errors are `DataError`s that name column and row (counted from 1 after the header); the caller adds the file.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
import pandas as pd

from gatelab.data.messages import DataError, to_type
from gatelab.data.series.calendar import read_times

DECIMALS: Final = {"point": ".", "comma": ","}
DECORATED: Final = r"[^\w]{0,3}\d[\d.,'_ ]*(?:[^\w\s]|\s?[^\W\d]{1,4}(?:[/²³]\w*)?|\s[^\w\s]){0,3}"
"""A number with something around it: 12 %, $12, (12), 12 MW/h."""
_SIGN: Final = r"[^\w\s.,'+\-]"
_SPACES: Final = "'\u2019 \u00a0\u202f\u2009"
"""What sets thousands apart beside the sign that is not the decimal one."""


def _plain(decimal: str) -> str:
    mark = re.escape(decimal)
    return rf"[+-]?(?:\d+(?:{mark}\d*)?|{mark}\d+)(?:[eE][+-]?\d+)?"


def _grouped(decimal: str) -> str:
    """Numbers with thousands set apart, always by the same sign."""
    other = "." if decimal == "," else ","
    group = rf"[{re.escape(other)}{_SPACES}]"
    return rf"[+-]?[1-9]\d{{0,2}}(?:{group}\d{{3}})+(?:{re.escape(decimal)}\d*)?"


_ONE_GROUP: Final = {mark: rf"[+-]?[1-9]\d{{0,2}}{re.escape(mark)}\d{{3}}" for mark in ".,"}
"""Thousands or three decimals."""


def as_float(cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """A column `[N]` as float64, nan where a cell is empty or no number, and where it holds something else."""
    numbers = np.full(len(cells), np.nan)
    if not (pd.api.types.is_datetime64_any_dtype(cells) or pd.api.types.is_timedelta64_dtype(cells)):
        with contextlib.suppress(TypeError):  # lists
            numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return numbers, np.isnan(numbers) & cells.notna().to_numpy()


def tell_truths(frame: pd.DataFrame, columns: Iterable[str], notes: list[str]) -> None:
    """Note the columns that say true or false and are read as numbers."""
    for column in columns:
        if pd.api.types.infer_dtype(frame[column]) == "boolean":
            notes.append(f"column {column!r} says true or false, which is read as 1 and 0")


def tell_times(frame: pd.DataFrame, columns: Iterable[str], notes: list[str]) -> None:
    """Note columns that rise like dates without signs or seconds since 1970, and are read as numbers."""
    for column in columns:
        cells = frame[column]
        if pd.api.types.is_numeric_dtype(cells) and cells.is_unique and cells.is_monotonic_increasing:
            with contextlib.suppress(DataError):
                read_times(cells, [])
                fix = to_type("data.time", column)
                notes.append(
                    f"column {column!r} rises like times and is read as numbers; if it is the time, give {fix}"
                )


def odd_words(words: pd.Series) -> pd.Series:
    """Where words `[n]` are no plain numbers though most of them are numbers, some with a sign around them."""
    words = words.astype(str).str.strip()
    plain = pd.to_numeric(words, errors="coerce").notna()
    decorated = words.str.fullmatch(DECORATED) & words.str.contains(_SIGN)
    return ~plain & (2 * (plain | decorated).sum() > len(words))


def texts(frame: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """The columns that pandas could not read as numbers, without empty cells."""
    for name, column in frame.items():
        if not pd.api.types.is_numeric_dtype(column):
            yield str(name), _cells(column.dropna())


def _cells(column: pd.Series) -> pd.Series:
    return column.astype(str).str.strip().str.replace("\u2212", "-")


def decimal_sign(
    frame: pd.DataFrame, raw: Callable[[], pd.DataFrame], *, semicolons: bool, notes: list[str]
) -> str:
    """Return the decimal sign of a file; `DataError` if its numbers can be meant in two ways.

    frame: as pandas reads it; raw: gives the same as text. semicolons: the fields are separated by such, as where
    commas are decimal.
    """
    doubtful: str | None = None
    points = False
    for name, column in texts(frame):
        marked = column[
            column.str.contains(r"[,.]") & column.str.fullmatch(rf"{_plain(',')}|{_grouped(',')}")
        ]
        sure = marked[~marked.str.fullmatch("|".join([*_ONE_GROUP.values(), _grouped(".")]))]
        commas = marked[marked.str.contains(",", regex=False)]
        if len(sure):
            notes.append(
                f"numbers have decimal commas (column {name!r}, row {int(sure.index[0]) + 1}: {sure.iloc[0]!r})"
            )
            return ","
        points = points or bool(
            (column.str.fullmatch(_grouped(".")) & ~column.str.fullmatch(_ONE_GROUP[","])).any()
        )
        if len(commas) and doubtful is None:
            doubtful = f"column {name!r}, row {int(commas.index[0]) + 1}: {commas.iloc[0]!r}"
    if doubtful and not points:
        raise DataError(_doubt(doubtful, "comma"))
    if semicolons and not points and (found := _thousands_or_decimals(frame, raw)):
        raise DataError(_doubt(found, "point"))
    return "."


def _doubt(where: str, sign: str) -> str:
    other = "point" if sign == "comma" else "comma"
    return (
        f"{where} can have a decimal {sign} or a separator of thousands; give data.decimal={sign} or "
        f"data.decimal={other}, or write the numbers without separators"
    )


def _thousands_or_decimals(frame: pd.DataFrame, raw: Callable[[], pd.DataFrame]) -> str | None:
    """The first number such as `12.345`, where no number of the file shows that points are decimal; None elsewhere."""
    floats = [str(name) for name, column in frame.items() if pd.api.types.is_float_dtype(column)]
    for name in floats:  # most files show it here, and need no look at their text
        values = frame[name].dropna().to_numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            if (np.abs(values * 1000 - np.rint(values * 1000)) > 1e-6 * np.abs(values)).any():
                return None
    found, text = None, raw() if floats else frame
    for name in floats:
        cells = text[name].dropna().astype(str).str.strip()
        pointed = cells[cells.str.contains(".", regex=False)]
        if (~pointed.str.fullmatch(_ONE_GROUP["."])).any():
            return None
        if len(pointed) and found is None:
            found = f"column {name!r}, row {int(pointed.index[0]) + 1}: {pointed.iloc[0]!r}"
    return found


def as_numbers(column: pd.Series, decimal: str, *, given: bool, notes: list[str]) -> pd.Series:
    """Return a column of text as numbers if all of it are numbers with this decimal sign, else as it is.

    given: the sign was given, not found out; then a single sign before three digits sets thousands apart without doubt.
    """
    cells = _cells(column).where(column.notna())
    some = cells.dropna()
    if len(some) and not re.fullmatch(f"{_grouped(decimal)}|{_plain(decimal)}", some.iloc[0]):
        return column
    grouped = some[some.str.fullmatch(_grouped(decimal))]
    if not (some.index.isin(grouped.index) | some.str.fullmatch(_plain(decimal))).all():
        return column
    if len(grouped):
        where = f"column {str(column.name)!r}, row {int(grouped.index[0]) + 1}: {grouped.iloc[0]!r}"
        other = "." if decimal == "," else ","
        if not given and grouped.str.fullmatch(_ONE_GROUP[other]).all():
            raise DataError(_doubt(where, "comma" if other == "," else "point"))
        notes.append(f"thousands are set apart ({where})")
    digits = cells.str.replace(
        rf"(?<=\d)[{_SPACES}{'.' if decimal == ',' else ','}](?=\d{{3}})", "", regex=True
    )
    return digits.str.replace(decimal, ".").astype(float)
