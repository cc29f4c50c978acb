"""Writes `best.ckpt` and `last.ckpt`, and nothing else, at moments from which a run can go on exactly.

Those moments are: after an optimiser step that no validation follows, after a validation inside an epoch, and
the end of an epoch. Files are written by the Trainer's checkpoint plugin, which should be `AtomicCheckpointIO`: it
keeps the `last.ckpt` before as `previous.ckpt`. What they hold is the tasks' and Lightning's business.
"""

import math
import time
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from gatelab.tasks import lightning_internals as internals
from gatelab.tasks import resume
from gatelab.tasks.checkpoint_io import BEST, LAST, CheckpointError
from gatelab.tasks.metrics import not_among
from gatelab.tasks.signals import RunInterrupted, StopSignals

AGREE_EVERY = 20
"""Batches between two agreements of several processes on whether to save or to stop (a collective call); they also
agree at the end of each epoch, which may be shorter."""


class Checkpoints(Checkpoint):
    """Keep the best and the last state of a run.

    Args:
        directory: folder of the files.
        monitor: metric that decides which is best; None takes the task's `monitor`.
        mode: "min" if less is better; None takes the task's.
        every_n_steps: also write `last.ckpt` inside an epoch, every so many optimiser steps of the run.
        every_seconds: also write `last.ckpt` inside an epoch when so many seconds have passed since the last
            time.
        stop_signals: on SIGTERM, SIGINT or another of `gatelab.data.stop_signals.STOP` write `last.ckpt` after the
            current step and raise `RunInterrupted`.

    Attributes:
        best_score: the best value of the monitored metric so far, or None; best_epoch: its 0-based epoch.

    A run without validation has no best state: its last one is written as `best.ckpt` too when training ends.
    """

    def __init__(
        self,
        directory: str,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        every_n_steps: int | None = None,
        every_seconds: float | None = 300.0,
        stop_signals: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("every_n_steps", every_n_steps), ("every_seconds", every_seconds)):
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive or null, not {value}")
        self.best, self.last = Path(directory) / BEST, Path(directory) / LAST
        self.monitor, self.mode = monitor, mode
        self.every_n_steps, self.every_seconds = every_n_steps, every_seconds
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self._signals = StopSignals()
        self._use_signals = stop_signals
        self._saved_at = math.inf
        self._due = self._stop = self._improved = False
        self._alone = True  # one process
        self._reason: Exception | None = None

    # Lightning asks for these when `ckpt_path="best"` is given
    @property
    def best_model_path(self) -> str:
        """Return the path of `best.ckpt`, or "" before there is one."""
        return str(self.best) if self.best.exists() else ""

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and its epoch."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best score of an earlier part of the run; if its file is gone, seek the best anew."""
        if self.best.is_file():
            self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to signals, and keep Lightning from doing so: it would talk to other ranks inside the handler."""
        if self._use_signals:
            internals.disable_signal_handlers(trainer)
            self._signals.listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        internals.forget_step_row(trainer)
        self._alone = trainer.world_size == 1
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time, unless a validation or the end of the epoch follows at once."""
        stepped = not internals.between_micro_batches(trainer)
        due = stepped and self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        late = self.every_seconds is not None and time.monotonic() - self._saved_at >= self.every_seconds
        if self._alone and not (due or late or self._due or self._signals.received):
            return
        # clocks and signals differ among processes, and agreeing is a collective call
        if self._alone or (batch_idx + 1) % AGREE_EVERY == 0 or internals.epoch_ends(trainer):
            due = any(self._agree(trainer, late)) or due
        self._due = self._due or due
        if not self._due or internals.epoch_ends(trainer) or not stepped:
            return
        if not internals.validation_follows(trainer):
            internals.log_step_row(trainer)
            self.save_last(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the monitored metric with the best; inside an epoch, save what is to be saved."""
        if trainer.sanity_checking or not resume.is_fitting(trainer):
            return
        self._improved = self._compare(trainer, pl_module)
        self._due |= any(self._agree(trainer, False))
        if not internals.epoch_ends(trainer):
            self._save_best(trainer)
            if self._due and not internals.between_micro_batches(trainer):
                self.save_last(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save at the end of an epoch."""
        internals.log_epoch_row(trainer)
        self._save_best(trainer)
        self.save_last(trainer)

    def _agree(self, trainer: pl.Trainer, late: bool) -> tuple[bool, bool]:
        """Whether it is late for any process, and whether any was asked to stop; a collective call."""
        stop = self._signals.received is not None
        if trainer.world_size > 1:
            late, stop = (trainer.strategy.reduce_boolean_decision(x, all=False) for x in (late, stop))
        self._stop = self._stop or stop
        return late, stop

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back; without any validation the last state is the best known."""
        self._signals.release()
        if self.best_score is None:
            trainer.save_checkpoint(self.best)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back. Nothing is saved: the state may be from the middle of a step."""
        self._signals.release()

    def _compare(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        name = self.monitor or getattr(pl_module, "monitor", "val/loss")
        mode = self.mode or getattr(pl_module, "mode", "min")
        if name not in trainer.callback_metrics:
            known = sorted(trainer.callback_metrics)
            raise CheckpointError(f"no best state can be told: {not_among(str(name), known)}")
        score = float(trainer.callback_metrics[name])
        old = self.best_score
        better = not math.isnan(score) and (old is None or (score < old if mode == "min" else score > old))
        if better:
            self.best_score, self.best_epoch = score, trainer.current_epoch
        return better

    def _save_best(self, trainer: pl.Trainer) -> None:
        if self._improved:
            trainer.save_checkpoint(self.best)
            self._improved = False

    def stop_with(self, reason: Exception) -> None:
        """Write `last.ckpt` at the next moment from which the run can go on, then raise `reason`.

        Every process has to ask for it in the same step.
        """
        self._reason, self._due = reason, True

    def save_last(self, trainer: pl.Trainer) -> None:
        """Write `last.ckpt` now; a collective call.

        Raises `RunInterrupted` if the run was asked to stop, or the reason given to `stop_with`.
        """
        trainer.save_checkpoint(self.last)
        self._saved_at, self._due = time.monotonic(), False
        if self._reason is not None:
            raise self._reason
        if self._stop:
            name = self._signals.received or "another process"
            raise RunInterrupted(
                f"stopped by {name} after step {trainer.global_step}; the state is in {self.last}"
            )
