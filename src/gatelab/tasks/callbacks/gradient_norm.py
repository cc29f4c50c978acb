"""The norm of the whole gradient, before clipping, logged as `train/grad_norm` at the Trainer's logging
interval.

It does not clip (`trainer.gradient_clip_val` does) and costs nothing on the steps in between. Of several processes,
which have the same gradient, the first one measures.
"""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gatelab.tasks.base import log_once, logs_step
from gatelab.tasks.lightning_internals import current_step


def gradient_norm(module: nn.Module) -> Tensor:
    """Return the 2-norm (scalar) of all gradients of `module`; zero without any."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())


class GradientNorm(pl.Callback):
    """Log the gradient's norm every `log_every_n_steps` optimiser steps."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Measure and log."""
        if trainer.is_global_zero and logs_step(trainer, current_step(trainer)):
            log_once(trainer, {"train/grad_norm": float(gradient_norm(pl_module))})
