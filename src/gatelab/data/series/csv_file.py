"""CSV files as their owners mean them.

Encoding, separator, header and decimal commas are found out where the file leaves no doubt, and noted; otherwise the
file is refused with the setting to give. How numbers are written is csv_numbers.py's business. Columns of text (ids,
classes, sentences) are what stands in the file: `007`, `NA`, `1,5` and `true` stay these words.

All errors are `DataError`s; the caller adds the file. `read_csv` returns what the header says, not what pandas makes of
it: names that occur twice are told, and a first row of numbers is no header.
"""

import codecs
import contextlib
import csv
import functools
import io
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from gatelab.data.file_kinds import refuse_other_kinds
from gatelab.data.messages import CLOSE_QUOTE, HEADER_AGAIN, ROWS_ALONE, DataError, counted, shown
from gatelab.data.series.csv_numbers import DECIMALS, as_numbers, decimal_sign, texts
from gatelab.data.text.text_files import blocks, nul_told
from gatelab.data.text_table import refuse_two_separators

SEPARATORS: Final = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": r"\s+"}
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT: Final = 100
"""Lines from which the separator is found out."""
_WORD: Final = 20
"""Letters before and after an odd one that are shown."""
_SIGN: Final = r"[\t !#$%&()*+,\-/:;<=>?@\[\\\]^_`{|}~]"
"""What may separate fields: no letter, digit, point, quote or line end."""
_DATE: Final = (
    r"\d{1,4}[-/.]\d{1,2}(?:[-/.]\d{1,4})?(?:[T ]\d[\d:.+\-ZAPMapm ]*)?|\d{1,2}:\d{2}[\d:.APMapm ]*"
)
_SPREADSHEET: Final = r'"?sep=(.)"?[,;\t|]*\r?\n'
"""A first line by which spreadsheets tell each other the separator."""
NO_VALUE: Final = (
    *("", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NULL", "null", "None"),
    *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""What stands for no value where a column is not of text."""
_UNNAMED: Final = "Unnamed: "
"""How pandas begins the name of a column without one."""


def is_unnamed(column: str) -> bool:
    """Whether a column has no name of its own."""
    return column.startswith(_UNNAMED)


def own_columns(frame: pd.DataFrame, columns: list[str], notes: list[str]) -> list[str]:
    """Return the columns without counters of rows, and those that have neither a name nor values; both are told."""
    counters = [c for c in columns if _counts_rows(frame, c)] if len(columns) > 1 else []
    for column in counters:
        name = "has no name and" if is_unnamed(column) else "is the first one and"
        notes.append(f"column {column!r} was left out: it {name} counts the rows")
    empty = [c for c in columns if is_unnamed(c) and frame[c].isna().all()]
    notes += [f"column {column!r} was left out: it has neither a name nor values" for column in empty]
    return [c for c in columns if c not in {*counters, *empty}]


def _counts_rows(frame: pd.DataFrame, column: str) -> bool:
    """Whether a column is a counter of rows: the first one counts from 0 or 1, one without a name from anywhere."""
    unnamed = is_unnamed(column)
    if not unnamed and column != frame.columns[0]:
        return False
    values = frame[column]
    if not pd.api.types.is_numeric_dtype(values) or values.isna().any():
        return False
    first = values.iloc[0]
    return bool((unnamed or first in (0, 1)) and (values.to_numpy() - first == np.arange(len(values))).all())


def check_settings(separator: str | None, decimal: str | None) -> None:
    """Raise `DataError` for a separator or a decimal sign that is none."""
    if separator is not None and separator not in SEPARATORS and not re.fullmatch(_SIGN, separator):
        raise DataError(f"data.separator={separator!r}: give {', '.join(SEPARATORS)} or another ASCII sign")
    if decimal is not None and decimal not in (*DECIMALS, *DECIMALS.values()):
        raise DataError(f"data.decimal={decimal}: give point or comma")


def read_csv(
    path: Path,
    notes: list[str],
    *,
    separator: str | None,
    decimal: str | None,
    encoding: str | None,
    text: Collection[str] = (),
    sentences: bool = False,
) -> pd.DataFrame:
    """Return the table with the names of its header; None: found out from the file.

    text: columns whose cells are read as they stand, None where they are blank. sentences: whether quotes may stand
    within them, so that each line is looked at.
    """
    check_settings(separator, decimal)
    raw = b"".join(blocks(path))
    refuse_other_kinds(raw[:100])
    content = _decode(raw, encoding, notes)
    if "\n" not in content or '"' not in content:  # as old spreadsheets end their lines
        content = content.replace("\r\n", "\n").replace("\r", "\n")
    if told := re.match(_SPREADSHEET, content, re.IGNORECASE):
        content, separator = content[told.end() :], separator or told[1]
    content = _without_comments(content, notes)
    lines = list(itertools.islice((line for line in io.StringIO(content) if line.strip()), _LOOKED_AT))
    if not lines:
        raise DataError("the file is empty; it needs a header and rows")
    refuse_two_separators(lines, _holds_values)
    mark = SEPARATORS.get(separator or "", separator) or _separator(lines, notes)
    names, quote = _header(content, mark, notes)
    if sentences:
        _refuse_quotes(content, mark, quote)
    words = [name for name in names if name in text]
    others = [name for name in names if name not in text]
    whole = _parse(content, mark, quote, names, words)
    frame = whole[others]
    _refuse_headers(whole)
    _refuse_units(frame)
    sign, given = DECIMALS.get(decimal or "", decimal), decimal is not None
    every = functools.cache(lambda: _parse(content, mark, quote, names, words, cells=True)[others])
    sign = sign or decimal_sign(frame, every, semicolons=mark == ";", notes=notes)
    if sign == ",":
        numbers = {
            name: as_numbers(column, sign, given=given, notes=notes) for name, column in every().items()
        }
    else:
        numbers = {name: as_numbers(whole[name], sign, given=given, notes=notes) for name, _ in texts(frame)}
    for name, column in numbers.items():
        whole[name] = column
    return whole


def _refuse_quotes(text: str, mark: str, quote: str) -> None:
    """Raise `DataError` for a field that begins with a quote and does not end with it, which parsers would guess."""
    delimiter = " " if mark == SEPARATORS["space"] else mark
    if delimiter != " ":
        text = re.sub(rf"(?<={quote})[ \t]+(?={re.escape(delimiter)}|[\r\n])", "", text)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quotechar=quote,
        skipinitialspace=True,
        strict=True,
    )
    begins = 0
    try:
        for _ in reader:
            begins = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"line {begins + 1}: {'a quote' if quote == chr(34) else 'an apostrophe'} begins a field and is not "
            f"closed at its end ({error}); {CLOSE_QUOTE}"
        ) from None


def _parse(
    text: str, mark: str, quote: str, names: list[str], words: list[str], *, cells: bool = False
) -> pd.DataFrame:
    """Return the rows below the header, with these names.

    The columns `words` come as they stand, "" where a cell is empty. cells: the others are text too, NaN where empty.
    """
    one = len(names) == 1  # an empty line is then an empty cell
    source = text.strip("\r\n") + "\n" if one else text
    options: dict[str, Any] = {
        "dtype": dict.fromkeys(names if cells else words, str),
        "keep_default_na": False,
        "na_values": {name: NO_VALUE for name in names if name not in words},
        "sep": mark,
        "header": 0,
        "quotechar": quote,
        "skipinitialspace": True,
        "skip_blank_lines": not one,
    }
    try:
        surplus = pd.errors.ParserWarning  # rows have more fields than there are names
        with contextlib.suppress(surplus), warnings.catch_warnings(action="error", category=surplus):
            return pd.read_csv(io.StringIO(source), names=names, low_memory=False, index_col=False, **options)
        # pandas takes the first fields for an index and shifts the rest
        frame = pd.read_csv(io.StringIO(source), names=names, **options)
        more = [f"{_UNNAMED}{len(names) + place}" for place in range(frame.index.nlevels)]
        options["na_values"] |= dict.fromkeys(more, NO_VALUE)
        frame = pd.read_csv(io.StringIO(source), names=[*names, *more], **options)
    except pd.errors.ParserError as error:
        if "inside string" in str(error):
            _refuse_quotes(text, mark, quote)
        if wide := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)):
            raise DataError(
                f"line {wide[2]} has {wide[3]} fields, the lines above it {wide[1]}: {ROWS_ALONE}"
            ) from None
        raise
    decimals = "; or, if its commas are decimal ones, give data.separator=semicolon" * (one and mark == ",")
    if (wide := frame[more].notna().any(axis=1)).any():
        named = (
            "; or take out the names of rows, as R writes them (row.names=FALSE)"
            if wide.all() and len(more) == 1
            else ""
        )
        raise DataError(
            f"row {int(wide.to_numpy().argmax()) + 1} has more fields than the header has names: name every column, "
            f"{ROWS_ALONE}{named}{decimals}"
        )
    return frame[names]


def _without_comments(text: str, notes: list[str]) -> str:
    """Leave out lines above the header that begin with #; the last one is the header where values follow."""
    end = 0
    comments: list[tuple[int, str]] = []
    for line in io.StringIO(text, newline=""):
        if line.strip() and not line.startswith("#"):
            break
        comments += [(end, line)] if line.strip() else []
        end += len(line)
    else:
        if comments:
            raise DataError("every line begins with #: write the names of the columns, and rows below them")
        return text
    header = ""
    if comments and all(map(_is_value, filter(None, map(str.strip, re.split(r"[,;\t|]", line))))):
        end, header = comments.pop()
        end += len(header) - len(header.lstrip("# \t"))
    if header or comments:
        notes.append(f"line {text.count(chr(10), 0, end) + 1} was taken for the header")
    if comments:
        notes.append(
            f"{counted(len(comments), 'line')} above the header that begin{'s' * (len(comments) == 1)} with #"
            " left out"
        )
    return text[end:]


def _refuse_headers(frame: pd.DataFrame) -> None:
    """Raise `DataError` for a row that is the header again, as where files were put below each other."""
    same = np.full(len(frame), len(frame.columns) > 1)
    for name in filter(lambda name: not is_unnamed(name), frame.columns):
        if pd.api.types.is_numeric_dtype(frame[name]) or not same.any():
            return
        same &= (frame[name].astype(str).str.strip() == name).to_numpy()
    if same.any():
        raise DataError(f"row {int(same.argmax()) + 1} {HEADER_AGAIN}")


def _refuse_units(frame: pd.DataFrame) -> None:
    """Raise `DataError` for a row between header and values that holds no value."""
    if len(frame) < 2:
        return
    first = frame.iloc[0].dropna()
    second = frame.iloc[1][first.index].dropna()
    no_values = len(first) and all(isinstance(cell, str) and not _is_value(cell) for cell in first)
    if no_values and len(second) and all(_is_value(str(cell)) for cell in second):
        raise DataError(
            f"row 1 ({shown(','.join(first))}) holds no values: keep one line of names as the header, with units in "
            "the names, and remove the other lines"
        )


def _decode(raw: bytes, encoding: str | None, notes: list[str]) -> str:
    name = encoding or next((name for mark, name in _BYTE_ORDER_MARKS if raw.startswith(mark)), "utf-8")
    if name == "utf-8" and b"\0" in raw:
        told = nul_told(raw)
        wide = re.search("UTF-(16|32)(..);", told)
        raise DataError(told + (f", or give data.encoding=utf-{wide[1]}-{wide[2].lower()}" if wide else ""))
    if name != "utf-8" and encoding is None:
        notes.append(f"the file is in {name.upper()}")
    try:
        if b"\0" not in raw and re.match(r"utf.?(16|32)", name, re.IGNORECASE):
            raise UnicodeError("separators and line ends have such bytes there")
        text = raw.decode(name).lstrip("\ufeff").rstrip("\x1a")
    except LookupError:
        raise DataError(
            f"data.encoding={name}: no such encoding; utf-8, latin-1, cp1252 and utf-16 are usual"
        ) from None
    except UnicodeError as error:
        line = raw.count(b"\n", 0, getattr(error, "start", 0)) + 1
        fix = "leave data.encoding out if it is in UTF-8, or give the right one"
        fix = fix if encoding else "convert the file to UTF-8, or give its encoding"
        raise DataError(
            f"line {line} is not {name.upper()}: {fix} (data.encoding=cp1252 or latin-1 for Western Europe)"
        ) from None
    if "\0" in text:
        raise DataError(nul_told(text.encode("utf-8", "replace")))
    if encoding is not None:
        _tell_encoding(raw, text, encoding, notes)
    return text


def _tell_encoding(raw: bytes, text: str, encoding: str, notes: list[str]) -> None:
    """Note an encoding that was given, unless UTF-8 reads the same, with a word to judge it by."""
    utf_8 = raw.decode("utf-8", "replace").lstrip("\ufeff").rstrip("\x1a")
    if text == utf_8:
        return
    control = re.search(r"[\x80-\x9f]", text)  # letters of another encoding
    told = _odd_word(text, control) + ", with a control character" * bool(control)
    if "\ufffd" not in utf_8 and (other := _odd_word(utf_8)):
        told += f"; in UTF-8, which it is as well, {other}: if that is right, leave data.encoding out"
    notes.append(
        f"the file was read in {encoding.upper()}, as data.encoding says: {told or 'all of it is ASCII'}"
    )


def _odd_word(text: str, found: re.Match[str] | None = None) -> str:
    """Where the first sign stands that is not ASCII, or the one that was found, and the word around it; "": nowhere."""
    if (found := found or re.search(r"[^\x00-\x7f]", text)) is None:
        return ""
    place = found.start()
    before, after = (
        re.findall(form, part)[0]
        for form, part in (
            (r"[^\s,;|\"]*$", text[:place][-_WORD:]),
            (r"[^\s,;|\"]*", text[place : place + _WORD]),
        )
    )
    return f"line {text.count(chr(10), 0, place) + 1} holds {shown(before + after)}"


def _separator(lines: list[str], notes: list[str]) -> str:
    """Return the sign that cuts every line into equally many fields, more than one."""
    fits = []
    for name, mark in list(SEPARATORS.items())[:-1]:
        try:
            widths = {
                len(fields) for fields in csv.reader(lines, delimiter=mark, skipinitialspace=True) if fields
            }
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
    seen = (name for line in (lines[0], lines[-1]) for name, mark in SEPARATORS.items() if mark in line)
    found = fits[0] if fits else next(seen, "comma")
    if found != "comma":
        notes.append(f"the fields are separated by {found}")
    return SEPARATORS[found]


def _header(text: str, mark: str, notes: list[str]) -> tuple[list[str], str]:
    """Return the names in the file's first line and the sign that quotes fields.

    Raises `DataError` if they are no names, or not different.
    """
    for quote in ('"', "'"):
        delimiter = " " if mark == SEPARATORS["space"] else mark
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, quotechar=quote, skipinitialspace=True)
        fields = [name.strip() for name in next(fields for fields in reader if any(map(str.strip, fields)))]
        if not all(re.fullmatch("'.*'", name) for name in fields):
            break
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
    return [name or f"{_UNNAMED}{place}" for place, name in enumerate(fields)], quote


def _holds_values(lines: Sequence[str], mark: str) -> bool:
    """Whether all fields of the lines are numbers, times or empty."""
    rows = csv.reader(lines, delimiter=mark, skipinitialspace=True)
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
