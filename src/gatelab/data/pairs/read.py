"""Reads sentence pairs: two text files whose lines correspond, or two columns of a TSV or CSV file.

Every message names the file and the line. White space at the ends of a sentence is dropped, a pair without text on
both sides is left out.
"""

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gatelab.data.messages import DataError, counted, did_you_mean
from gatelab.data.text.text_files import find_files, text_of


class Pairs(NamedTuple):
    """Sentences and their translations, equally many. sha256: file -> that of its bytes."""

    sources: list[str]
    targets: list[str]
    sha256: dict[str, str]

    def part(self, start: int, stop: int) -> "Pairs":
        """Return the pairs from `start` to before `stop`."""
        return Pairs(self.sources[start:stop], self.targets[start:stop], self.sha256)


def read_files(source_key: str, source: str, target_key: str, target: str) -> Pairs:
    """Return the pairs of two text files (or folders, or globs); the keys are the options that name them."""
    sides, sha256 = [], {}
    for key, name in ((source_key, source), (target_key, target)):
        files = find_files(key, name)
        sha256[files.label if files.label not in sha256 else name] = files.sha256()
        sides.append(str(text_of(files.files, "word")).removesuffix("\n").split("\n"))
    lines, translations = sides
    if len(lines) != len(translations):
        raise DataError(
            f"{source_key}={source} has {counted(len(lines), 'line')} and {target_key}={target} "
            f"{len(translations):,}; line n of one has to be the translation of line n of the other"
        )
    rows = zip(range(1, len(lines) + 1), lines, translations, strict=True)
    return _checked(rows, f"{source_key}={source}", f"{target_key}={target}", sha256)


def read_table(key: str, path: str, source: str, target: str) -> Pairs:
    """Return two columns of a file whose name ends in .tsv (tabs, no quotes) or .csv (commas, with quotes).

    Its first line names the columns; `.gz` and `.zst` are unpacked.
    """
    files = find_files(key, path)
    tabs = ".tsv" in Path(path).suffixes
    if not tabs and ".csv" not in Path(path).suffixes:
        raise DataError(
            f"{key}={path}: give a .tsv or .csv file, or two text files as data.source and data.target"
        )
    text = str(text_of(files.files, "word"))
    style = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {"delimiter": ",", "strict": True}
    reader = csv.reader(text.split("\n") if tabs else text.splitlines(keepends=True), **style)  # type: ignore[arg-type]
    try:
        names = next(reader, [])
        for column, name in (("source", source), ("target", target)):
            if name not in names:
                known = ", ".join(names)
                raise DataError(
                    f"{path}: has no column {name!r} (data.{column}), only {known}.{did_you_mean(name, names)}"
                )
        first, second = names.index(source), names.index(target)
        rows = []
        for row in reader:
            if len(row) not in (0, len(names)):
                raise DataError(
                    f"{path}: line {reader.line_num} has {counted(len(row), 'field')}, and {len(names)} columns "
                    "are named"
                )
            if row:
                rows.append((reader.line_num, row[first], row[second]))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} cannot be read ({error})") from None
    return _checked(
        rows, f"{path}, column {source}", f"{path}, column {target}", {files.label: files.sha256()}
    )


def _checked(rows: Iterable[tuple[int, str, str]], source: str, target: str, sha256: dict[str, str]) -> Pairs:
    """The pairs of (line, source, target); `DataError` names the line where one side has no text."""
    found = Pairs([], [], sha256)
    for number, *sides in rows:
        one, other = (" ".join(side.split()) for side in sides)
        if bool(one) != bool(other):
            empty, there = (source, other) if other else (target, one)
            raise DataError(
                f"{empty}: line {number} is empty, and its other side is {there[:60]!r}; remove that pair, or "
                "translate the sentence"
            )
        if one:
            found.sources.append(one)
            found.targets.append(other)
    if not found.sources:
        raise DataError(f"{source}: holds no sentence")
    return found


def digest(pairs: Pairs) -> str:
    """Return a sha256 of the sentences themselves."""
    text = "\n".join(f"{one}\t{other}" for one, other in zip(pairs.sources, pairs.targets, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()
