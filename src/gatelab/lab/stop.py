"""Stop a run without losing it: on Ctrl-C, SIGTERM or SIGUSR1 finish the step, save, and leave.

The handler only sets a flag; the step's end acts on it. Lightning's own handler broadcasts inside the signal
handler, which hangs with two ranks; here the ranks agree by an all-reduce at a step's end. A second Ctrl-C
stops at once, leaving the last checkpoint as it is.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch

from gatelab.lab.errors import Interrupted

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)


class StopOnSignal(pl.Callback):
    """Save `last.ckpt` and raise `Interrupted` at the end of the step in which a signal came.

    Args:
        checkpoints: the callback that knows how to save (`gatelab.tasks.Checkpoints`).
    """

    def __init__(self, checkpoints: Any) -> None:
        self.checkpoints = checkpoints
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the handlers (after Lightning's, which they replace while training)."""
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._note)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Act on a signal, when every rank is at the same step."""
        if not self._anyone(trainer):
            return
        self.checkpoints.save_last(trainer)
        name = signal.Signals(self.received).name if self.received else "a signal to another rank"
        raise Interrupted(
            f"stopped by {name} after step {trainer.global_step}; the same command continues it."
        )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def _anyone(self, trainer: pl.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.received is not None
        flag = torch.tensor(
            [self.received is not None], dtype=torch.int32, device=trainer.strategy.root_device
        )
        torch.distributed.all_reduce(flag)
        return bool(flag.item())
