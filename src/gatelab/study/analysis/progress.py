"""How far a running trial is: which of its runs, which epoch, the last value. From the ends of the runs' files."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path

from gatelab.study.analysis.state import Trial

TAIL_BYTES = 16_384


@dataclass(frozen=True)
class Progress:
    """Where a trial is.

    Attributes:
        run: index of the run that goes on, from 1; 0 before the first; runs: how many there will be.
        epoch: epochs that are finished; epochs: how many there will be at most (None: unknown).
        value: the last value of the monitored metric, measured by validation.
    """

    run: int = 0
    runs: int = 1
    epoch: int | None = None
    epochs: int | None = None
    value: float | None = None

    def __str__(self) -> str:
        """`run 2/3, epoch 4/10`."""
        parts = [f"run {max(1, self.run)}/{self.runs}"] if self.runs > 1 else []
        if self.epoch is not None:
            parts.append(f"epoch {self.epoch}/{self.epochs}" if self.epochs else f"epoch {self.epoch}")
        return ", ".join(parts)


class Watcher:
    """Looks at the runs of trials that go on; remembers what cannot change."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._epochs: dict[Path, int | None] = {}

    def look(self, trial: Trial) -> Progress:
        """Where `trial` is now; only what the storage says where its runs cannot be seen from here."""
        reported = trial.reported[1] if trial.reported else None
        current, number = None, 0
        for index, run in enumerate(trial.runs, 1):
            if (run.directory / "run.json").is_file():
                current, number = run.directory, index
            if not (run.directory / "result.json").is_file():
                break
        if current is None:
            return Progress(0, len(trial.runs) or 1, value=reported)
        epoch, value = _last(current / "metrics.csv", self.metric)
        return Progress(
            number, len(trial.runs), epoch, self._most(current), reported if value is None else value
        )

    def _most(self, run: Path) -> int | None:
        if run not in self._epochs:
            try:
                trainer = json.loads((run / "run.json").read_text())["config"]["trainer"]
                self._epochs[run] = int(trainer["max_epochs"])
            except (OSError, ValueError, KeyError, TypeError):
                return None  # it is being written
        return self._epochs[run]


def _last(path: Path, metric: str) -> tuple[int | None, float | None]:
    """The newest epoch (from 1) and value in a metrics file, from its end only."""
    try:
        with path.open("rb") as file:
            head = file.readline()
            size = file.seek(0, os.SEEK_END)
            file.seek(max(len(head), size - TAIL_BYTES))
            tail = file.read()
    except OSError:
        return None, None
    lines = tail[: tail.rfind(b"\n") + 1].decode(errors="replace").splitlines()
    if len(head) < size - TAIL_BYTES:
        lines = lines[1:]  # cut at its beginning
    columns = next(csv.reader([head.decode(errors="replace").strip()]), [])
    epoch, value = None, None
    for row in csv.DictReader(lines, columns):
        if (row.get("epoch") or "").isdigit():
            epoch = int(row["epoch"]) + 1
        if row.get(metric):
            value = float(row[metric])
    return epoch, value
