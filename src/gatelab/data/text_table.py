"""Tables whose cells are all text: sentence pairs and lists of sound files.

Separator, quoting and header are found out as far as the file leaves no doubt. All problems of a file stand in one
message, with its lines; errors are `DataError`s.
"""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from unicodedata import normalize

from gatelab.data.file_kinds import refuse_other_kinds
from gatelab.data.messages import (
    CLOSE_QUOTE,
    HEADER_AGAIN,
    NO_HEADER,
    ROWS_ALONE,
    DataError,
    Problems,
    counted,
    did_you_mean,
    few,
    no_column,
    shown,
)
from gatelab.data.text.text_files import blocks, characters

_MARKS: Final = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
_SPREADSHEET: Final = re.compile(r'"?sep=(.)"?[,;\t|]*\r?\n', re.IGNORECASE)
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')
_MOST: Final = 5
"""Lines that a message names."""
_LONGEST: Final = 40


class Line(NamedTuple):
    """A row: the number of its first line in the file, from 1, and its fields by column."""

    number: int
    fields: dict[str, str]


class TextTable(NamedTuple):
    """names: of the columns, in NFC, without space around them."""

    names: list[str]
    lines: list[Line]


def is_table(path: str | Path, *endings: str) -> bool:
    """Whether a file's name ends so, packed or not, in any case."""
    return any(suffix.lower() in endings for suffix in Path(path).suffixes)


def text_of_table(file: Path) -> str:
    """Return the text of a table, unpacked; `DataError` names the file where it is of another kind or not UTF-8."""
    try:
        refuse_other_kinds(next(blocks(file), b"")[:100])
    except DataError as error:
        raise DataError(f"{file}: {str(error).removeprefix(f'{file}: ')}") from None
    return "".join(characters(str(file), blocks(file), "char", as_bytes=False))


def text_table(
    text: str, wanted: Sequence[tuple[str, str]], notes: list[str] | None = None, *, tabs: bool = False
) -> TextTable:
    """Return the rows of a table.

    Lines above the header that begin with # are left out; one of them that holds the wanted names is the header.
    wanted: options (or "") and the columns that they name, which must be there. tabs: by its name the file is one of
    tabs, in which a quote is mostly a quote of the text: there it encloses a field only if every field that begins with
    one is enclosed, and all fields of a column, or one with a doubled quote in it, show that this is meant. notes: what
    was left out is added.
    """
    first = 1
    mark = None
    if told := _SPREADSHEET.match(text):
        text, mark, first = text[told.end() :], told[1], 2
    text, above = _from_header(text, wanted, [] if notes is None else notes, first)
    first += above
    header = next((line for line in text.splitlines() if line.strip()), "")
    if not header:
        raise DataError("the file is empty; it needs a line with the names of its columns")
    mark = mark or _separator(header, wanted)
    quoted = mark != "\t" or not tabs or _encloses(text)
    style = {
        "quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        "strict": True,
        "skipinitialspace": quoted,
    }
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, **style)  # type: ignore[arg-type]
    rows: list[tuple[int, list[str]]] = []
    begins = 0
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                rows.append((begins + first, fields))
            begins = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"line {begins + first}: a quote begins a field and is not closed at its end ({error}); "
            f"{CLOSE_QUOTE}"
        ) from None
    names = [normalize("NFC", name.strip()) for name in rows[0][1]]
    if len(names) == 1 or any(len(fields) < len(names) for _, fields in rows[1:]):
        refuse_two_separators([line for line in io.StringIO(text) if line.strip()])
    check_names(names, wanted)
    return TextTable(names, _lines(names, rows[1:]))


def _from_header(
    text: str, wanted: Sequence[tuple[str, str]], notes: list[str], first: int
) -> tuple[str, int]:
    """The text from its header on, and the number of lines before that."""
    lines = text.splitlines(keepends=True)
    begins = [place for place, line in enumerate(lines) if line.strip()]
    plain = next((place for place in begins if not lines[place].startswith("#")), len(lines))
    comments = [place for place in begins if place < plain]
    if not comments:
        return text, 0
    named = [
        place for place in (plain, *comments[::-1]) if _names_all("".join(lines[place : place + 1]), wanted)
    ]
    header = named[0] if named else plain
    left_out = len(comments) - (header < plain)
    notes.append(
        f"line {header + first} was taken for the header"
        + f"; {counted(left_out, 'line')} above it that begin{'s' * (left_out == 1)} with # left out"
        * bool(left_out)
    )
    rest = "".join(lines[header:])
    return rest if _has_all(rest.partition("\n")[0], wanted) else rest.lstrip("# "), header


def _names_all(line: str, wanted: Sequence[tuple[str, str]]) -> bool:
    """Whether a line is a header with the wanted names, or would be without its #."""
    return _has_all(line, wanted) or _has_all(line.lstrip("# "), wanted)


def _has_all(line: str, wanted: Sequence[tuple[str, str]], mark: str = "") -> bool:
    """Whether all wanted names stand in a line, parted by `mark` ("": by any)."""
    names = {normalize("NFC", name) for _, name in wanted}
    return any(
        names <= {normalize("NFC", name.strip().strip('"')) for name in line.split(sign)}
        for sign in ([mark] if mark else _MARKS.values())
    )


def _separator(header: str, wanted: Sequence[tuple[str, str]]) -> str:
    """The sign that parts the wanted names in the header; the commonest one where they are not there."""
    found = next((mark for mark in _MARKS.values() if _has_all(header, wanted, mark)), None)
    if found is not None:
        return found
    return max(_MARKS.values(), key=header.count) if any(map(header.count, _MARKS.values())) else ","


def _encloses(text: str) -> bool:
    """Whether quotes in a table of tabs enclose fields."""
    rows = [line.split("\t") for line in text.splitlines()[1:] if line.strip()]
    begin = [field for row in rows for field in row if field.startswith('"')]
    if not begin or not all(map(_QUOTED.fullmatch, begin)):
        return False
    columns = zip(*(row for row in rows if len(row) == len(rows[0])), strict=True)
    return any('""' in field[1:-1] for field in begin) or any(
        all(f[:1] == '"' for f in column) for column in columns
    )


def refuse_two_separators(
    lines: Sequence[str], holds_values: Callable[[Sequence[str], str], bool] = lambda rows, mark: False
) -> None:
    """Raise `DataError` where the header, the first of the lines, is separated by one sign and all rows by another.

    And where every line is quoted as if it were one field.
    holds_values: whether rows that are cut by a sign hold values alone, which tells `1,5;2,5` from `1;2`.
    """
    header, *rows = lines
    inside = [found[1] for line in lines if (found := re.fullmatch(r'\s*"([^"]*)"\s*', line))]
    if rows and len(inside) == len(lines):
        widths = ({len(fields) for fields in _fields(inside, mark)} for mark in _MARKS.values())
        if any(len(width) == 1 and max(width) > 1 for width in widths):
            raise DataError(f"every line is quoted whole ({shown(header.strip())}): remove these quotes")
    signs = {**_MARKS, "space": " "}
    for (name, mark), (other, sign) in itertools.permutations(signs.items(), 2):
        above = _fields([header], mark)[0]
        if mark not in header or sum(map(bool, map(str.strip, above))) < 2:
            continue
        if len(_fields([header], sign)[0]) > 1 or not any(sign in row for row in rows):
            continue
        by_mark, by_sign = ({len(fields) for fields in _fields(rows, each)} for each in (mark, sign))
        spaced, same = "space" in (name, other), by_sign == {len(above)}
        decimals = same and sign == "," and holds_values(rows, mark)  # commas within numbers
        if by_mark == {1}:
            odd = same and not decimals if spaced else min(by_sign) > 1
        elif by_mark == {len(above)}:
            odd = same and not spaced and holds_values(rows, sign) and not holds_values(rows, mark)
        else:
            odd = same and not spaced and not decimals
        if odd:
            raise DataError(
                f"the header ({shown(header.strip())}) is separated by {name} and the rows below it by {other}: write "
                "the same sign in both"
            )


def _fields(lines: Sequence[str], mark: str) -> list[list[str]]:
    """The fields of lines of which none is blank, cut by a sign."""
    if mark == " ":
        return [line.split() for line in lines]
    try:
        return [fields for fields in csv.reader(lines, delimiter=mark, skipinitialspace=True) if fields]
    except csv.Error:  # a field longer than Python reads
        return [[line] for line in lines]


def check_names(names: list[str], wanted: Sequence[tuple[str, str]]) -> None:
    """Raise `DataError` for a name that occurs twice, and a wanted one that does not."""
    problems = Problems()
    if twice := [name for name, times in Counter(names).items() if name and times > 1]:
        problems.append(
            f"column {few([repr(name) for name in twice])} occurs twice; give every column its own name"
        )
    for option, name in wanted:
        if normalize("NFC", name) not in names:
            if option:
                problems.append(
                    no_column(option, name, names, "; part its fields by tabs, commas or semicolons")
                )
            else:
                there = few([shown(name, _LONGEST) for name in names if name], 12) or "none"
                hint = did_you_mean(name, names) or f"; {NO_HEADER}"
                problems.append(f"has no column {name} (it has {there}){hint}")
    problems.refuse()


def _lines(names: list[str], rows: Sequence[tuple[int, list[str]]]) -> list[Line]:
    """The rows by column; empty fields behind the last column are none, as spreadsheets write them."""
    width = len(names)
    wrong = {n: len(row) for n, row in rows if len(row) < width or any(map(str.strip, row[width:]))}
    if wrong:
        listed = [f"line {number} has {counted(fields, 'field')}" for number, fields in wrong.items()]
        raise DataError(
            f"{few(listed, _MOST)}, and {counted(width, 'column')} {'are' if width > 1 else 'is'} named: name every "
            f"column, {ROWS_ALONE}"
        )
    if again := [
        n for n, row in rows if width > 1 and [normalize("NFC", f.strip()) for f in row[:width]] == names
    ]:
        raise DataError(f"line {again[0]} {HEADER_AGAIN}")
    return [Line(number, dict(zip(names, row, strict=False))) for number, row in rows]
