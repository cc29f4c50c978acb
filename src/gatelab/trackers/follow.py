"""Read a `metrics.csv` that another process writes: each row once, as numbers; and the best value among the rows."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STEP = "trainer/global_step"
"""The name under which trackers get the count of finished optimiser steps (`step` in the file)."""

MEASURED = ("time/", "memory/")
"""Prefixes of metrics that differ each time a run is repeated."""
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How Weights & Biases writes numbers that JSON cannot hold."""

Row = dict[str, int | float]


class Follow:
    """Read the rows of a metrics file as they are appended.

    Args:
        path: the file; it may not exist yet.

    A new metric makes the writer replace the file by one with the same rows and a longer header. The header is
    compared at each call: if it differs, the file is read from its beginning, without the rows returned before.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._header = b""
        self._columns: list[str] = []
        self._returned = self._offset = 0

    def rows(self) -> list[Row]:
        """The rows since the last call; a line that is not finished yet waits for the next one."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            header = file.readline()
            if not header.endswith(b"\n"):
                return []
            known = 0
            if header != self._header:
                known, self._header, self._offset = self._returned, header, len(header)
                self._columns = next(csv.reader([header.decode()]), [])
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        found = [self._row(line) for line in whole.decode().splitlines()][known:]
        self._returned += len(found)
        return [row for row in found if row]

    def _row(self, line: str) -> Row:
        cells = dict(zip(self._columns, next(csv.reader([line]), []), strict=False))
        return to_row(cells) if cells.get("step") else {}


class Best:
    """The best value so far of the monitored metric, the one that decides which epoch is best.

    Args:
        config: of the run, resolved.

    Attributes:
        name: of the metric.
        value: the best so far; step: the finished steps when it was measured (None: not measured yet).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        own = (config.get("callbacks") or {}).get("checkpoints") or {}
        self.name = str(own.get("monitor") or config["task"]["monitor"])
        self._sign = 1 if (own.get("mode") or config["task"]["mode"]) == "min" else -1
        self.value: float | None = None
        self.step: int | None = None

    def update(self, row: Row) -> bool:
        """Take a row; return True if its value is better than all before it."""
        value = row.get(self.name)
        if value is None or value != value:
            return False
        if self.value is not None and self._sign * value >= self._sign * self.value:
            return False
        self.value, self.step = float(value), int(row[STEP])
        return True


def to_row(cells: Mapping[str, str]) -> Row:
    """Numbers of a row of text: `step` under the trackers' name, empty cells left out."""
    row: Row = {STEP: int(cells["step"])}
    for name, text in cells.items():
        if name != "step" and text:
            row[name] = int(text) if name == "epoch" else float(text)
    return row


def key(row: Row) -> tuple[tuple[str, str], ...]:
    """A row's metrics and bits: equal for two rows exactly if they hold the same metrics with the same bits."""
    return tuple(sorted((name, float(value).hex()) for name, value in row.items()))


def identity(row: Row) -> tuple[tuple[str, str], ...]:
    """`key` without measured times and memory: equal for a row and its repetition after a resume."""
    return key({name: value for name, value in row.items() if not name.startswith(MEASURED)})
