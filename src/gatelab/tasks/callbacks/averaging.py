"""Averages of the weights over the steps of a training: they are what is validated, kept as best, scored and exported.

Lightning's `WeightAveraging` does the work: the averaged weights take the place of the current ones during a validation
and as the checkpoint's `state_dict`; the current ones lie beside them, so that a run goes on exactly. What stands here
is when a step counts. Until the first one that does, nothing is changed.

* Exponential moving average (Polyak and Juditsky 1992 with a short memory).
* Non-monotonic trigger, NT-ASGD (Merity, Keskar and Socher 2018, arXiv:1708.02182, section 3.2): all steps count alike
  from the first validation that is no better than the best of those more than `patience` validations before it.
"""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

LEAST_RATE = 0.05
"""Share of the peak below which a rate has fallen too far for an average of all steps."""


class _Averaging(WeightAveraging):
    """Averaging that begins at some step, and leaves a finished run as one that can go on."""

    @property
    def begun(self) -> bool:
        """Whether a step was averaged."""
        return self._average_model is not None and int(self._average_model.n_averaged) > 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the average to the device of the weights; Lightning makes it while they are still on the CPU."""
        if self._average_model is not None:  # its count stays: it is read at every step
            self._average_model.module.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step, unless the gradient scaler has left it out."""
        if not getattr(pl_module, "step_skipped", False):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the averaged weights be validated."""
        if self.begun:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train on with the current ones."""
        if self.begun:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save both: the averaged weights as the checkpoint's own."""
        if self.begun:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up both."""
        if self._average_model is not None and "averaging_state" in checkpoint:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the current weights alone: `best.ckpt` and `last.ckpt` hold the averaged ones."""


class ExponentialAveraging(_Averaging):
    """An exponential moving average of the weights.

    Args:
        decay: what the average keeps of itself at a step: 0.999 remembers about a thousand of them. The n-th step that
            counts keeps at most (1 + n) / (10 + n), so that the first weights are soon forgotten.
        start_step: optimiser steps before the first one that counts.
    """

    def __init__(self, decay: float = 0.999, start_step: int = 0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, not {decay}")
        if start_step < 0:
            raise ValueError(f"start_step must not be negative, not {start_step}")
        self.start_step = start_step

        def average(averages: Any, weights: Any, steps: Any) -> None:
            assert self._average_model is not None
            counted = int(self._average_model.n_averaged)  # `steps` is its copy on the weights' device
            get_ema_multi_avg_fn(min(decay, (1 + counted) / (10 + counted)))(averages, weights, steps)

        super().__init__(use_buffers=False, multi_avg_fn=average)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Count every step from `start_step` on."""
        return step_idx is not None and step_idx >= self.start_step


class NonMonotonicAveraging(_Averaging):
    """The mean of the weights over all steps since validation got no better.

    Args:
        patience: validations that are left out of the best that a new one is compared with; the metric is the task's
            `monitor`.

    Refused before the first step, as a ValueError: a run with too few validations to ever begin, and a schedule that
    takes the rate down by itself.
    """

    def __init__(self, patience: int = 5) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1, not {patience}")
        self.patience = patience
        self.scores: list[float] = []
        self.triggered = False
        super().__init__(use_buffers=False)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Count every step after the trigger."""
        return step_idx is not None and self.triggered

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a run that is over before averaging could begin."""
        super().on_fit_start(trainer, pl_module)
        if trainer.val_check_interval in (None, 1.0) and trainer.max_steps == -1:
            self.check_length(trainer.max_epochs, trainer.check_val_every_n_epoch)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a rate that falls by itself."""
        for config in trainer.lr_scheduler_configs:
            self.check_rate(config.scheduler, int(trainer.estimated_stepping_batches))

    def check_length(self, epochs: int | None, every: int | None) -> None:
        """Raise ValueError where a run with a validation every so many epochs is too short; -1 is without end."""
        if not epochs or epochs < 0 or not every:
            return
        if (validations := epochs // every) < self.patience + 2:
            raise ValueError(
                f"patience={self.patience} needs at least {self.patience + 2} validations before the last steps, and "
                f"the run has {validations}; raise trainer.max_epochs or lower callbacks.averaging.patience"
            )

    @staticmethod
    def check_rate(scheduler: Any, steps: int) -> None:
        """Raise ValueError where a schedule of Gatelab's own takes the rate down in a run of so many steps."""
        if not isinstance(scheduler, LambdaLR):
            return
        last = scheduler.lr_lambdas[0](max(0, steps - 1))
        if last < LEAST_RATE:
            raise ValueError(
                f"the schedule takes the rate down to {last:.2g} of its peak, so that the steps that would be averaged "
                "hardly move; take schedule=constant, or averaging=exponential"
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin where the score is no better than it was."""
        if trainer.sanity_checking or self.triggered:
            return
        sign = -1.0 if getattr(pl_module, "mode", "min") == "max" else 1.0
        score = sign * float(trainer.callback_metrics[str(pl_module.monitor)])
        before = self.scores[: -self.patience]
        self.triggered = bool(before) and not score <= min(before)
        self.scores.append(score)

    def state_dict(self) -> dict[str, Any]:
        """Return the scores so far and whether averaging has begun."""
        return {**super().state_dict(), "scores": self.scores, "triggered": self.triggered}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them up."""
        super().load_state_dict(state_dict)
        self.scores, self.triggered = list(state_dict["scores"]), bool(state_dict["triggered"])
