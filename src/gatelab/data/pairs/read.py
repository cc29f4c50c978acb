"""Reads sentence pairs: two text files whose lines correspond, or two columns of a TSV or CSV file.

Every message names the file and the line. White space at the ends of a sentence is dropped, a pair without text on
both sides is left out.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple
from unicodedata import normalize

from gatelab.data.messages import DataError, Problems, counted, few, shows
from gatelab.data.text.text_files import find_files, split_lines, text_of
from gatelab.data.text_table import is_table, text_table


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
        sides.append(split_lines(str(text_of(files.files, "word", as_bytes=False))))
    lines, translations = sides
    if len(lines) != len(translations):
        raise DataError(
            f"{source_key}={source} has {counted(len(lines), 'line')} and {target_key}={target} "
            f"{len(translations):,}; line n of one has to be the translation of line n of the other"
        )
    rows = zip(range(1, len(lines) + 1), lines, translations, strict=True)
    return _checked(rows, f"{source_key}={source}", f"{target_key}={target}", sha256)


def read_table(key: str, path: str, source: str, target: str) -> Pairs:
    """Return two columns of a file whose name ends in .tsv or .csv, or of several, each with its own header.

    Quotes enclose fields in .csv; how they are read in .tsv, see `text_table`. `.gz` and `.zst` are unpacked.
    """
    files = find_files(key, path)
    if odd := [str(file) for file in files.files if not is_table(file, ".tsv", ".csv")]:
        raise DataError(
            f"{key}={few(odd)}: give a .tsv or .csv file, or two text files as data.source and data.target"
        )
    wanted = [("data.source", source), ("data.target", target)]
    parts = []
    for file in files.files:
        text = str(text_of([file], "word", as_bytes=False))
        try:
            table = text_table(text, wanted, tabs=is_table(file, ".tsv"))
        except DataError as error:
            raise DataError(f"{file}: {error}") from None
        one, other = (normalize("NFC", name) for name in (source, target))
        rows = [(line.number, line.fields[one], line.fields[other]) for line in table.lines]
        parts.append(_checked(rows, f"{file}, column {source}", f"{file}, column {target}", {}))
    sources = [sentence for part in parts for sentence in part.sources]
    targets = [sentence for part in parts for sentence in part.targets]
    return Pairs(sources, targets, {files.label: files.sha256()})


def _checked(rows: Iterable[tuple[int, str, str]], source: str, target: str, sha256: dict[str, str]) -> Pairs:
    """The pairs of (line, source, target); `DataError` names the lines where one side has no text."""
    found, problems = Pairs([], [], sha256), Problems()
    for number, *sides in rows:
        one, other = (" ".join(side.split()) for side in sides)
        if shows(one) != shows(other):
            empty, there = (source, other) if shows(other) else (target, one)
            problems.append(
                f"{empty}: line {number} is empty, and its other side is {there[:60]!r}; remove that pair, or "
                "translate the sentence"
            )
        elif shows(one):
            found.sources.append(one)
            found.targets.append(other)
    problems.refuse()
    if not found.sources:
        raise DataError(f"{source}: holds no sentence")
    return found


def digest(pairs: Pairs) -> str:
    """Return a sha256 of the sentences themselves."""
    text = "\n".join(f"{one}\t{other}" for one, other in zip(pairs.sources, pairs.targets, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()
