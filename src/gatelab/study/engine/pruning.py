"""The Lightning callback that reports validations to the worker and stops the run when its pruner says so.

Rank 0 reports and hears the answer, then tells every rank. Who decides is the worker's pruner (`worker.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from gatelab.run.messages import say
from gatelab.run.record.metrics import read_metrics
from gatelab.run.record.metrics_logger import MetricsCSV
from gatelab.run.train import saver_of
from gatelab.study.engine.reports import send_report
from gatelab.tasks.callbacks import RunPruned


class Pruning(pl.Callback):
    """Report the monitored metric after each validation, counted from 0 over all restarts of the run.

    Args:
        request: of the run; `monitor`, `reports` (the socket's address), `run`, `study` and `number` are read.

    A run that continues, in this trial or begun by another, first reports what it had measured before.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self.monitor, self.address, self.run = request["monitor"], request["reports"], request["run"]
        self.by = {"study": request["study"], "trial": request["number"]}
        self.step = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the validations that are in `metrics.csv`."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV) and Path(logger.path).is_file():
                rows = read_metrics(logger.path)
                for value in (row[self.monitor] for row in rows if row.get(self.monitor)):
                    self._report(float(value))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report, and stop if so told; a collective call."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        prune = False
        if trainer.is_global_zero:
            if self.monitor not in trainer.callback_metrics:
                have = ", ".join(sorted(trainer.callback_metrics))
                raise ValueError(
                    f"study.objectives: '{self.monitor}' is not among the metrics of this run: {have}"
                )
            prune = self._report(float(trainer.callback_metrics[self.monitor]))
        if trainer.world_size > 1:
            prune = bool(trainer.strategy.broadcast(prune))
        if prune:
            why = f"pruned after validation {self.step} (step {trainer.global_step})"
            saver_of(trainer.callbacks).stop_with(RunPruned(why, self.by))  # type: ignore[attr-defined]

    def _report(self, value: float) -> bool:
        step, self.step = self.step, self.step + 1
        try:
            return send_report(self.address, self.run, step, value)
        except (OSError, RuntimeError) as error:
            say(f"could not report validation {step}: {error}")
            return False
