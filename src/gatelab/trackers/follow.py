"""Follow a `metrics.csv` that another process writes: each row once, as numbers. It never writes."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import IO

STEP = "trainer/global_step"
"""The name under which trackers get the count of finished optimiser steps (`step` in the file)."""

MEASURED = ("time/", "memory/")
"""Metrics that are another number each time."""
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How trackers write numbers that JSON does not know."""

Row = dict[str, int | float]


class Follow:
    """Read rows of a metrics file as they come.

    Args:
        path: the file; it may be missing still.

    A new metric makes the writer replace the file by one with more columns and the same rows before; reading
    goes on behind the rows that were given already.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._columns: list[str] = []
        self._given = self._inode = self._at = 0

    def rows(self) -> list[Row]:
        """The rows since the last call; a line that is not finished yet waits for the next one."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            skip = self._begin(file)
            file.seek(self._at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        found = [self._row(line) for line in whole.decode().splitlines()][skip:]
        self._given += len(found)
        return [row for row in found if row]

    def _begin(self, file: IO[bytes]) -> int:
        """Read the header of a file that is new; how many of the rows below it were given already."""
        inode = os.fstat(file.fileno()).st_ino
        if inode == self._inode:
            return 0
        header = file.readline()
        self._columns, self._at = next(csv.reader([header.decode()]), []), len(header)
        self._inode = inode if header.endswith(b"\n") else 0
        return self._given

    def _row(self, line: str) -> Row:
        cells = dict(zip(self._columns, next(csv.reader([line]), []), strict=False))
        return to_row(cells) if cells.get("step") else {}


def to_row(cells: dict[str, str]) -> Row:
    """Numbers of a row of text: `step` under the trackers' name, empty cells left out."""
    row: Row = {STEP: int(cells["step"])}
    for name, text in cells.items():
        if name != "step" and text:
            row[name] = int(text) if name == "epoch" else float(text)
    return row


def key(row: Row) -> tuple[tuple[str, str], ...]:
    """What two rows have in common exactly if they hold the same metrics with the same bits."""
    return tuple(sorted((name, float(value).hex()) for name, value in row.items()))


def identity(row: Row) -> tuple[tuple[str, str], ...]:
    """What a row has in common with the same row of a part that was computed again: all but what a clock measured."""
    return key({name: value for name, value in row.items() if not name.startswith(MEASURED)})
