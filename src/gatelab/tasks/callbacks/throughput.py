"""Throughput of training: tokens or windows per second, and seconds per epoch, without the time spent in validation.

Logged under `time/`, apart from the metrics that a repeated run must reproduce. It measures with the wall
clock and does not wait for an accelerator; over a logging interval that makes no difference.
"""

import time
from typing import Any

import pytorch_lightning as pl

from gatelab.tasks import resume
from gatelab.tasks.base import log_once, logs_step
from gatelab.tasks.lightning_internals import between_micro_batches, current_step


class Throughput(pl.Callback):
    """Log `time/<unit>_per_second` at the Trainer's logging interval and `time/epoch_seconds` after every
    epoch.

    Units of all processes are counted, as the task's `items` says. Attributes `items` and `seconds` hold the totals
    until the clock was last read.
    """

    def __init__(self) -> None:
        self.items, self.seconds = 0, 0.0
        self._epoch_before = 0.0  # seconds of this epoch in an earlier part of the run
        self._epoch_began = 0.0  # `seconds` when the epoch began here
        self._logged = (0, 0.0)
        self._clock: float | None = None
        self._processes, self._counted = 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds of the epoch so far."""
        return {"epoch_seconds": self._epoch_seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the seconds of an epoch that was interrupted."""
        self._epoch_before = state_dict["epoch_seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._processes = trainer.world_size
        self._counted = getattr(pl_module, "items", 0)
        self._clock = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._advance(pl_module)
        self._clock = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock again."""
        if resume.is_fitting(trainer) and not trainer.sanity_checking:
            self._clock = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._advance(pl_module)
        self._clock = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the rate."""
        if logs_step(trainer, current_step(trainer)) and not between_micro_batches(trainer):
            self._advance(pl_module)
            if trainer.is_global_zero:
                log_once(trainer, self._rate(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's seconds, and the rate if the epoch was too short for a logging interval."""
        self._advance(pl_module)
        if self._logged == (0, 0.0):
            pl_module.log_dict(self._rate(pl_module), rank_zero_only=True)
        pl_module.log("time/epoch_seconds", self._epoch_seconds(), rank_zero_only=True)
        self._epoch_before, self._epoch_began = 0.0, self.seconds

    def _rate(self, pl_module: pl.LightningModule) -> dict[str, float]:
        items, seconds = self.items - self._logged[0], self.seconds - self._logged[1]
        self._logged = (self.items, self.seconds)
        unit = getattr(pl_module, "unit", "items")
        return {f"time/{unit}_per_second": items / seconds} if items and seconds > 0 else {}

    def _epoch_seconds(self) -> float:
        return self._epoch_before + self.seconds - self._epoch_began

    def _advance(self, pl_module: pl.LightningModule) -> None:
        """Add the time and the items since the last call, if the clock runs."""
        if self._clock is not None:
            counted = getattr(pl_module, "items", 0)
            self.items += (counted - self._counted) * self._processes
            self._counted = counted
            now = time.perf_counter()
            self.seconds += now - self._clock
            self._clock = now
