"""The logger that is always on: `metrics.csv`, one row a step, a column for each metric.

`step` counts the optimiser steps that were finished when the row was measured (Lightning's own count begins at 0).

Rows are appended and flushed as they come, so a killed run keeps them. A resumed run continues the file:
rows from after the checkpoint are computed again, so they move to `metrics.superseded.csv` first.
Two runs that are the same have the same file, but for the columns under `time/` and `memory/`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from gatelab.data.files import atomic_write_text
from gatelab.run.record.metrics import read_metrics


class MetricsCSV(Logger):
    """Write metrics to `<run directory>/metrics.csv`.

    Args:
        path: the file.
        resume_step: the optimiser step from which the run continues; None for a new run.
    """

    def __init__(self, path: str | Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] = ["step", "epoch"]
        self._pending: dict[str, Any] = {}
        if self.path.is_file():
            self._continue(resume_step or 0)

    @property
    def name(self) -> str:
        """`csv`."""
        return "csv"

    @property
    def version(self) -> str:
        """There is only one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration is in `run.json`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Collect the metrics of a step; the row is written when the next step's come, or on `save`."""
        finished = 0 if step is None else step + 1
        if self._pending and finished != self._pending["step"]:
            self.save()
        self._pending["step"] = finished
        for key, value in metrics.items():
            self._pending[key] = int(value) if key == "epoch" else float(value)

    @rank_zero_only
    def save(self) -> None:
        """Write the row that is pending."""
        if not self._pending:
            return
        new = sorted(set(self._pending) - set(self._columns))
        if new:
            rows = read_metrics(self.path) if self.path.is_file() else []
            self._columns += new
            _rewrite(self.path, self._columns, rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(self._pending)
        self._pending = {}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is pending."""
        self.save()

    @rank_zero_only
    def _continue(self, step: int) -> None:
        rows = read_metrics(self.path)
        kept = [row for row in rows if int(row["step"]) <= step]
        superseded = [row for row in rows if int(row["step"]) > step]
        if rows:
            self._columns = list(rows[0])
        if superseded:
            beside = self.path.with_suffix(".superseded.csv")
            earlier = read_metrics(beside) if beside.is_file() else []
            columns = list(dict.fromkeys([*(earlier[0] if earlier else []), *self._columns]))
            _rewrite(beside, columns, [*earlier, *superseded])
        _rewrite(self.path, self._columns, kept)


def _rewrite(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(path, text.getvalue())
