"""Stops a run whose loss is no longer a number, before the weights are lost and before a checkpoint is
written.

Without it, Lightning trains a NaN to the end and exits with success. It looks at the training loss only;
clipping and learning rates are set elsewhere.

Under `trainer.precision=16-mixed` the gradient scaler skips a step whose gradient is not finite, so the weights are
safe: the guard looks after the step, and a skipped one is no fault. It stops the run when the scale has fallen so low
that no step is taken any more.
"""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from gatelab.tasks.base import gradient_scaler
from gatelab.tasks.callbacks.measurements import gradient_norm
from gatelab.tasks.lightning_internals import between_micro_batches

LEAST_SCALE = 1e-4
"""Of the loss, in `16-mixed`: below it the run is lost. fairseq's `min_loss_scale` (Ott et al. 2019,
arXiv:1904.01038) has the same value; the scale begins at 65536."""
DEFERRED_STEPS = 20
"""How often to look where that is dear: an accelerator is waited for, several processes have to agree."""


class TrainingDiverged(RuntimeError):
    """Going on would only lose the weights; the message says where, and what to change."""


class ExplodedGradientError(TrainingDiverged):
    """The norm of the gradient, before clipping, went beyond the limit that was set."""


class LossScaleError(TrainingDiverged):
    """Step after step was skipped, until the scale of the loss had fallen below `LEAST_SCALE`."""


class NonFiniteLossError(TrainingDiverged):
    """The training loss became infinite or NaN.

    Attributes:
        step: optimiser step, counted from 1, in which it was first seen; epoch: 0-based.
        learning_rate, gradient_norm: in the step in which the run was stopped; loss: the loss of that step.
    """

    def __init__(
        self,
        step: int,
        epoch: int,
        loss: float,
        learning_rate: float,
        gradient_norm: float,
        parameters: list[str],
    ) -> None:
        self.step, self.epoch, self.loss = step, epoch, loss
        self.learning_rate, self.gradient_norm = learning_rate, gradient_norm
        where = f" (non-finite in {', '.join(parameters)})" if parameters else ""
        super().__init__(
            f"the training loss is {loss} at step {step} (epoch {epoch}): learning rate {learning_rate:g}, "
            f"gradient norm {gradient_norm:g}{where}. Lower optim.lr, or clip with trainer.gradient_clip_val"
        )


class NonFiniteGuard(pl.Callback):
    """Raise `NonFiniteLossError` when a training loss is infinite or NaN.

    Args:
        every_n_steps: optimiser steps between two looks; every loss is taken into account by the next look.
            None looks at each step on a single CPU process, before the optimiser uses the gradient, and every
            20 steps on accelerators and under DDP. A checkpoint is never written without a look.
        max_gradient_norm: raise `ExplodedGradientError` beyond that norm, before clipping and before the step is
            taken; None sets no limit and costs nothing.
    """

    def __init__(self, every_n_steps: int | None = None, max_gradient_norm: float | None = None) -> None:
        if max_gradient_norm is not None and not max_gradient_norm > 0:
            raise ValueError(f"max_gradient_norm must be positive or null, not {max_gradient_norm}")
        self.max_gradient_norm = max_gradient_norm
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, not {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._loss: Tensor | None = None
        self._first_bad: Tensor | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose how often to look."""
        direct = pl_module.device.type == "cpu" and trainer.world_size == 1
        self._scaler = gradient_scaler(trainer)
        self._every = self.every_n_steps or (1 if direct else DEFERRED_STEPS)
        self._direct = direct and self._every == 1 and self._scaler is None
        self._loss = self._first_bad = None

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Note a bad loss; on deferred looks each loss and the first bad step, without waiting for the device."""
        if self._direct and math.isfinite(loss.item()):
            return
        self._loss = loss.detach()
        if self._scaler is not None:  # Lightning hands it over scaled
            self._loss = self._loss / self._scaler.scale(torch.ones_like(self._loss))
        if not self._direct:
            step = torch.where(self._loss.isfinite(), math.inf, float(trainer.global_step + 1))
            self._first_bad = step if self._first_bad is None else torch.minimum(self._first_bad, step)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Look, if it is this step's turn; hold the gradient against its limit, if there is one."""
        if self._loss is None and self.max_gradient_norm is None:
            return
        if self._scaler is None and self._loss is not None and (trainer.global_step + 1) % self._every == 0:
            self._look(trainer, pl_module)
        limit = self.max_gradient_norm
        if limit is None or (norm := float(gradient_norm(pl_module))) <= limit:
            return
        if self._scaler is None or math.isfinite(norm):  # else the scaler skips the step
            raise ExplodedGradientError(
                f"the gradient's norm is {norm:g} at step {trainer.global_step + 1} (epoch {trainer.current_epoch}), "
                f"beyond max_gradient_norm={limit:g}: learning rate {optimizer.param_groups[0]['lr']:g}. "
                "Lower optim.lr, or raise the limit"
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """With a scaler: forget a skipped step, which took nothing from its loss; else look, if it is its turn.

        Raises:
            LossScaleError: the scale is used up.
        """
        if self._scaler is None or self._first_bad is None or between_micro_batches(trainer):
            return
        step = trainer.global_step
        if getattr(pl_module, "step_skipped", False):
            self._first_bad = self._first_bad.masked_fill(self._first_bad >= step, math.inf)
            if (scale := self._scaler.get_scale()) < LEAST_SCALE:
                raise LossScaleError(
                    f"the gradient was not finite in step after step, until the loss scale of trainer.precision="
                    f"{trainer.precision} had fallen to {scale:.1g} at step {step} (epoch {trainer.current_epoch}): "
                    f"learning rate {trainer.optimizers[0].param_groups[0]['lr']:g}. Lower optim.lr, or take "
                    "trainer.precision=bf16-mixed, which needs no scale"
                )
        if step % self._every == 0:
            self._look(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, object]
    ) -> None:
        """Look before anything is written."""
        if self._loss is not None and not self._direct:
            self._look(trainer, pl_module)

    def _look(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self._loss is not None
        loss = float(self._loss)
        first = float(trainer.global_step + 1)
        if self._first_bad is not None:
            if trainer.world_size > 1:
                torch.distributed.all_reduce(self._first_bad, op=torch.distributed.ReduceOp.MIN)
            first = float(self._first_bad)
        if self._first_bad is not None and math.isinf(first):
            return
        broken = [
            name.removeprefix("net.")
            for name, p in pl_module.named_parameters()
            if p.grad is not None and not bool(p.grad.isfinite().all())
        ]
        raise NonFiniteLossError(
            step=int(first),
            epoch=trainer.current_epoch,
            loss=loss,
            learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            gradient_norm=float(gradient_norm(pl_module)),
            parameters=[*broken[:3], *(["..."] if len(broken) > 3 else [])],
        )
