"""CSV files as their owners mean them.

Encoding, separator, header and decimal commas are found out where the file leaves no doubt, and noted; otherwise the
file is refused with the setting to give.

All errors are `DataError`s; the caller adds the file. `read_csv` returns what the header says, not what pandas makes of
it: names that occur twice are told, and a first row of numbers is no header.
"""

import codecs
import csv
import gzip
import io
import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Final

import pandas as pd

from gatelab.data.messages import DataError
from gatelab.data.series.calendar import shown

SEPARATORS: Final = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": r"\s+"}
DECIMALS: Final = {"point": ".", "comma": ","}
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT: Final = 100
"""Lines from which the separator is found out."""
_WITH_COMMA: Final = r"[+-]?(?:\d+(?:,\d*)?|,\d+)(?:[eE][+-]?\d+)?"
_DATE: Final = (
    r"\d{1,4}[-/.]\d{1,2}(?:[-/.]\d{1,4})?(?:[T ]\d[\d:.+\-ZAPMapm ]*)?|\d{1,2}:\d{2}[\d:.APMapm ]*"
)
_UNNAMED: Final = "Unnamed: "
"""How pandas begins the name of a column without one."""


def is_unnamed(column: str) -> bool:
    """Whether a column has no name of its own."""
    return column.startswith(_UNNAMED)


def check_settings(separator: str | None, decimal: str | None) -> None:
    """Raise `DataError` for a separator or a decimal sign that is none."""
    if separator is not None and separator not in SEPARATORS and len(separator) != 1:
        raise DataError(f"data.separator={separator}: give {', '.join(SEPARATORS)} or a character")
    if decimal is not None and decimal not in (*DECIMALS, *DECIMALS.values()):
        raise DataError(f"data.decimal={decimal}: give point or comma")


def read_csv(
    path: Path, notes: list[str], *, separator: str | None, decimal: str | None, encoding: str | None
) -> pd.DataFrame:
    """Return the table with the names of its header; None: found out from the file."""
    check_settings(separator, decimal)
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = _decode(raw, encoding, notes)
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as old spreadsheets end their lines
    lines = list(itertools.islice((line for line in io.StringIO(text) if line.strip()), _LOOKED_AT))
    if not lines:
        raise DataError("the file is empty; it needs a header and rows")
    mark = SEPARATORS.get(separator or "", separator) or _separator(lines, notes)
    names = _header(text, mark, notes)
    frame = pd.read_csv(io.StringIO(text), sep=mark)
    if not isinstance(
        frame.index, pd.RangeIndex
    ):  # pandas takes the first field for an index and shifts the rest
        raise DataError("the rows have more fields than the header; name every column")
    if DECIMALS.get(decimal or "", decimal) == "," or (decimal is None and _has_decimal_commas(frame, notes)):
        frame = pd.read_csv(io.StringIO(text), sep=mark, dtype=str)
        frame = pd.DataFrame({str(name): _without_commas(column) for name, column in frame.items()})
    if len(names) == len(frame.columns):
        frame.columns = pd.Index(names)
    return frame


def _decode(raw: bytes, encoding: str | None, notes: list[str]) -> str:
    name = encoding or next((name for mark, name in _BYTE_ORDER_MARKS if raw.startswith(mark)), "utf-8")
    if name != "utf-8" and encoding is None:
        notes.append(f"the file is in {name.upper()}")
    try:
        text = raw.decode(name).removeprefix("\ufeff")
    except LookupError:
        raise DataError(
            f"data.encoding={name}: no such encoding; utf-8, latin-1, cp1252 and utf-16 are usual"
        ) from None
    except UnicodeError as error:
        line = raw.count(b"\n", 0, getattr(error, "start", 0)) + 1
        raise DataError(
            f"line {line} is not {name.upper()}: convert the file to UTF-8, or give its encoding (data.encoding=cp1252 "
            "or latin-1 for Western Europe)"
        ) from None
    if "\0" in text[:1000]:
        raise DataError(
            "the file is no text in UTF-8; if it is UTF-16 without a mark, give data.encoding=utf-16-le"
        )
    return text


def _separator(lines: list[str], notes: list[str]) -> str:
    """Return the sign that cuts every line into equally many fields, more than one."""
    fits = []
    for name, mark in list(SEPARATORS.items())[:-1]:
        try:
            widths = {len(fields) for fields in csv.reader(lines, delimiter=mark) if fields}
        except csv.Error:  # a field longer than Python reads
            continue
        if len(widths) == 1 and widths != {1}:
            fits.append(name)
    if not fits and len(widths := {len(line.split()) for line in lines}) == 1 and widths != {1}:
        fits = ["space"]
    if len(fits) > 1:
        fits = [name for name in fits if _holds_values(lines[1:], SEPARATORS[name])] or fits
    if len(fits) > 1:
        raise DataError(
            f"the fields can be separated by {' or by '.join(fits)} (line 1: {shown(lines[0])}); give "
            f"{' or '.join(f'data.separator={name}' for name in fits)}, and data.decimal=comma if 1,5 is a number"
        )
    found = next((n for n, mark in SEPARATORS.items() if mark in lines[0]), "comma") if not fits else fits[0]
    if found != "comma":
        notes.append(f"the fields are separated by {found}")
    return SEPARATORS[found]


def _header(text: str, mark: str, notes: list[str]) -> list[str]:
    """Return the names in the file's first line; `DataError` if they are no names, or not different."""
    spaces = mark == SEPARATORS["space"]
    reader = csv.reader(io.StringIO(text), delimiter=" " if spaces else mark, skipinitialspace=spaces)
    fields = [name.strip() for name in next(fields for fields in reader if any(map(str.strip, fields)))]
    given = [name for name in fields if name]
    if all(_is_value(name) for name in given):
        numbers = [int(name) for name in given if re.fullmatch(r"\d{1,9}", name)]
        counted = len(numbers) == len(given) > 1 and numbers == list(
            range(numbers[0], numbers[0] + len(given))
        )
        if not counted or (numbers[0] > 1 and len(given) == 2):
            raise DataError(
                f"line 1 holds values only ({shown(','.join(fields))}): the file has no header; write the names of the "
                "columns above it"
            )
        notes.append(f"line 1 ({shown(','.join(fields))}) was taken for the header")
    if twice := [name for name, times in Counter(given).items() if times > 1]:
        more = f" (and {len(twice) - 3:,} more)" if len(twice) > 3 else ""
        names = ", ".join(shown(name) for name in twice[:3])
        raise DataError(
            f"column{'s' * (len(twice) > 1)} {names}{more} occur{'s' * (len(twice) == 1)} twice; give every column its "
            "own name"
        )
    return [name or f"{_UNNAMED}{place}" for place, name in enumerate(fields)]


def _holds_values(lines: list[str], mark: str) -> bool:
    """Whether all fields of the lines are numbers, times or empty."""
    rows = csv.reader(lines, delimiter=mark)
    return all(_is_value(field.strip()) for fields in rows for field in fields if field.strip())


def _is_value(name: str) -> bool:
    """Whether a field of the first line is a number or a time rather than a name."""
    if re.fullmatch(_DATE, name):
        return True
    try:
        float(name.replace(",", "."))
    except ValueError:
        return False
    return True


def _texts(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """The columns that pandas could not read as numbers, without empty cells."""
    return {
        str(name): column.dropna().astype(str).str.strip()
        for name, column in frame.items()
        if not pd.api.types.is_numeric_dtype(column)
    }


def _has_decimal_commas(frame: pd.DataFrame, notes: list[str]) -> bool:
    """Whether numbers have decimal commas; `DataError` if they may as well be separators of thousands."""
    doubtful = None
    for name, column in _texts(frame).items():
        numbers = column[column.str.fullmatch(_WITH_COMMA) & column.str.contains(",")]
        plain = numbers[~numbers.str.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}")]
        if len(plain):
            notes.append(
                f"numbers have decimal commas (column {name!r}, row {int(plain.index[0]) + 1}: {plain.iloc[0]})"
            )
            return True
        if len(numbers) and doubtful is None:
            doubtful = f"column {name!r}, row {int(numbers.index[0]) + 1}: {numbers.iloc[0]!r}"
    if doubtful:
        raise DataError(
            f"{doubtful} can have a decimal comma or a separator of thousands; give data.decimal=comma, or write the "
            "numbers without separators"
        )
    return False


def _without_commas(column: pd.Series) -> pd.Series:
    """Return a column of text as numbers if all of it are numbers with decimal commas, or without decimals."""
    cells = column.str.strip()
    if cells.dropna().str.fullmatch(_WITH_COMMA).all():
        return cells.str.replace(",", ".").astype(float)
    return column
