"""Train one run of a trial: `python -m gatelab.study.engine.run_trial REQUEST`.

It is an ordinary frozen run (`gatelab.run.frozen_run`) with one more callback, which writes each validation to the
run's events. The worker reads them, gives them to Optuna, and where the study has a pruner appends its decision to
`NAME.answers.jsonl`, which the run waits for. The run never talks to Optuna.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from gatelab.data.messages import say
from gatelab.run import frozen_run
from gatelab.run.build import saver_of
from gatelab.run.frozen_run import EventReader, EventWriter
from gatelab.run.loggers import MetricsCSV
from gatelab.run.record.directory import RunDirectory, read_metrics
from gatelab.run.record.identity import Identity
from gatelab.study.engine.runner import answers_file
from gatelab.tasks.callbacks import RunPruned

ANSWER_SECONDS = 120.0
"""How long a run waits for the pruner's answer; a storage on a network may take its time."""
POLL_SECONDS = 0.01


def preload() -> None:
    """Import and look up what runs need; the fork server does so once for all of them."""

    from gatelab.run.record.code import gatelab_sources
    from gatelab.run.record.environment import look_up

    look_up()
    gatelab_sources()


def main(arguments: Sequence[str]) -> int:
    """Run one request; return the exit code."""
    return frozen_run.main(arguments, run)


def run(request: Mapping[str, Any], events: EventWriter) -> dict[str, Any]:
    """Train what `request` describes; returns the run's result.

    Raises:
        as `gatelab.run.train.train`.
    """
    result = pruned_before(request) if events.rank == 0 else None
    return result or frozen_run.train_request(request, events, [Validations(request, events)])


def pruned_before(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a run that this trial has pruned already: its worker died before it could say so."""
    run_dir = Identity(**request["identity"]).directory(request["config"]["paths"]["runs"])
    result = RunDirectory(run_dir).result()
    mine = {"study": request["study"], "trial": request["number"]}
    return result if result is not None and result.get("by") == mine else None


class Validations(pl.Callback):
    """Write the monitored metric to the events after each validation, counted from 0 over all restarts of the run.

    Args:
        request: of the run. `monitor`: the metric; `reports`: whether Optuna takes it, so that it must be there;
            `prunes`: whether to wait for the pruner's answer; `study` and `number`: of the trial.
        events: of this process.

    A run that continues, in this trial or begun by another, first writes what it had measured before. Rank 0 alone
    writes and hears the answer, and tells every rank.
    """

    def __init__(self, request: Mapping[str, Any], events: EventWriter) -> None:
        self.metric, self.required, self.asks = request["monitor"], request["reports"], request["prunes"]
        self.by = {"study": request["study"], "trial": request["number"]}
        self.events, self.answers = events, EventReader(answers_file(events.path))
        self.index = 0
        if self.required:
            self.monitor = self.metric  # as of Lightning's callbacks: it is looked for before the run begins

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the validations that are in `metrics.csv`; they were answered then."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV) and Path(logger.path).is_file():
                for row in read_metrics(logger.path):
                    if row.get(self.metric):
                        step, epoch = int(row["step"]), int(row.get("epoch") or 0)
                        self._write(step, epoch, float(row[self.metric]))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the value, and stop if the pruner says so; a collective call.

        Raises:
            ValueError: the run does not measure the metric.
        """
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        prune = False
        if trainer.is_global_zero:
            value = trainer.callback_metrics.get(self.metric)
            if value is None and self.required:
                have = ", ".join(sorted(trainer.callback_metrics))
                raise ValueError(
                    f"study.objectives: '{self.metric}' is not among the metrics of this run: {have}"
                )
            number = None if value is None else float(value)
            index = self._write(trainer.global_step, trainer.current_epoch, number, asks=self.asks)
            prune = self.asks and self._wait_for_answer(index)
        if self.asks and trainer.world_size > 1:
            prune = bool(trainer.strategy.broadcast(prune))
        if prune:
            why = f"pruned after validation {self.index} (step {trainer.global_step})"
            saver_of(trainer.callbacks).stop_with(RunPruned(why, self.by))  # type: ignore[attr-defined]

    def _write(self, step: int, epoch: int, value: float | None, *, asks: bool = False) -> int:
        index, self.index = self.index, self.index + 1
        self.events.write("validation", index=index, epoch=epoch, step=step, value=value, asks=asks)
        return index

    def _wait_for_answer(self, index: int) -> bool:
        end = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < end:
            for answer in self.answers.read():
                if answer["index"] == index:
                    return bool(answer["prune"])
            time.sleep(POLL_SECONDS)
        say(f"validation {index}: no answer from the pruner within {ANSWER_SECONDS:.0f} s; the run goes on")
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
