"""Reads sentence pairs: two text files whose lines correspond, or two columns of a TSV, CSV or Parquet file.

Every message names the file and the line, of a Parquet file the row. White space at the ends of a sentence is
dropped, a pair without text on both sides is left out.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from gatelab.data.messages import DataError, Problems, counted, few, shown, shows
from gatelab.data.text.text_files import find_files, refuse_pages, split_lines, text_of
from gatelab.data.text_table import check_names, is_table, text_of_table, text_table
from gatelab.data.totals import is_total

PARQUET = (".parquet", ".pq")


class Pairs(NamedTuple):
    """Sentences and their translations, equally many. sha256: file -> that of its bytes."""

    sources: list[str]
    targets: list[str]
    sha256: dict[str, str]

    def part(self, start: int, stop: int) -> "Pairs":
        """Return the pairs from `start` to before `stop`."""
        return Pairs(self.sources[start:stop], self.targets[start:stop], self.sha256)


def read_files(
    source_key: str, source: str, target_key: str, target: str, notes: list[str] | None = None
) -> Pairs:
    """Return the pairs of two text files (or folders, or globs); the keys are the options that name them.

    notes: what was left out is added.
    """
    sides, sha256 = [], {}
    for key, name in ((source_key, source), (target_key, target)):
        files = find_files(key, name)
        refuse_pages(files.files)
        sha256[files.label if files.label not in sha256 else name] = files.sha256()
        sides.append(split_lines(str(text_of(files.files, "word", as_bytes=False))))
    lines, translations = sides
    if len(lines) != len(translations):
        raise DataError(
            f"{source_key}={source} has {counted(len(lines), 'line')} and {target_key}={target} "
            f"{len(translations):,}; line n of one has to be the translation of line n of the other"
        )
    rows = zip(range(1, len(lines) + 1), lines, translations, strict=True)
    return _checked(rows, f"{source_key}={source}", f"{target_key}={target}", sha256, notes)


def read_table(key: str, path: str, source: str, target: str, notes: list[str] | None = None) -> Pairs:
    """Return two columns of a file whose name ends in .tsv, .csv or .parquet, or of several, each with its own header.

    Quotes enclose fields in .csv; how they are read in .tsv, see `text_table`. `.gz` and `.zst` are unpacked. In
    Parquet both sides may be fields of one column, as in `{"de": ..., "en": ...}`.
    """
    files = find_files(key, path)
    if odd := [str(file) for file in files.files if not is_table(file, ".tsv", ".csv", *PARQUET)]:
        raise DataError(
            f"{key}={few(odd)}: give a .tsv, .csv or .parquet file, or two text files as data.source and data.target"
        )
    wanted = [("data.source", source), ("data.target", target)]
    parts = []
    for file in files.files:
        if is_table(file, *PARQUET):
            rows = list(_of_parquet(file, wanted))
            columns = f"{file}, column {source}", f"{file}, column {target}"
            parts.append(_checked(rows, *columns, {}, notes, "row"))
            continue
        text = text_of_table(file)
        told: list[str] = []
        try:
            table = text_table(text, wanted, told, tabs=is_table(file, ".tsv"))
        except DataError as error:
            raise DataError(f"{file}: {error}") from None
        if table.lines and is_total(table.lines[-1].fields.values()):
            told.append(
                f"line {table.lines[-1].number} is read as a pair; remove it if it sums up those above"
            )
        told.append(f"the header ({few([shown(name) for name in table.names])}) is no pair")
        if notes is not None:
            notes += [f"{file.name}: {note}" for note in told]
        one, other = (normalize("NFC", name) for name in (source, target))
        rows = [(line.number, line.fields[one], line.fields[other]) for line in table.lines]
        parts.append(_checked(rows, f"{file}, column {source}", f"{file}, column {target}", {}, notes))
    sources = [sentence for part in parts for sentence in part.sources]
    targets = [sentence for part in parts for sentence in part.targets]
    return Pairs(sources, targets, {files.label: files.sha256()})


def _of_parquet(file: Path, wanted: list[tuple[str, str]]) -> Iterator[tuple[int, str, str]]:
    """The rows of a Parquet file: number, source, target."""
    from gatelab.data.series.table import as_text, read_frame  # takes half a second

    names = [name for _, name in wanted]
    frame = read_frame(file, [], None, None, None, text=names)
    for column in list(frame.columns):
        cells = [cell if isinstance(cell, dict) else {} for cell in frame[column]]
        for name in dict.fromkeys(name for cell in cells for name in cell if name not in frame):
            frame[name] = [cell.get(name) for cell in cells]
    try:
        check_names(list(frame.columns), wanted)
        source, target = ([side or "" for side in as_text(frame[name])] for name in names)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    yield from zip(range(1, len(frame) + 1), source, target, strict=True)


def _checked(
    rows: Iterable[tuple[int, str, str]],
    source: str,
    target: str,
    sha256: dict[str, str],
    notes: list[str] | None = None,
    counted_in: str = "line",
) -> Pairs:
    """The pairs of (line, source, target); `DataError` names the lines where one side has no text."""
    found, problems, blank = Pairs([], [], sha256), Problems(), list[str]()
    for number, *sides in rows:
        one, other = (" ".join(side.split()) for side in sides)
        if shows(one) != shows(other):
            empty, there = (source, other) if shows(other) else (target, one)
            problems.append(
                f"{empty}: {counted_in} {number} is empty, and its other side is {there[:60]!r}; remove that pair, or "
                "translate the sentence"
            )
        elif shows(one):
            found.sources.append(one)
            found.targets.append(other)
        else:
            blank.append(f"{counted_in} {number}")
    problems.refuse()
    if blank and notes is not None:
        notes.append(f"{source}: left out, without text on both sides: {few(blank)}")
    if not found.sources:
        raise DataError(f"{source}: holds no sentence")
    return found


def digest(pairs: Pairs) -> str:
    """Return a sha256 of the sentences themselves."""
    text = "\n".join(f"{one}\t{other}" for one, other in zip(pairs.sources, pairs.targets, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()
