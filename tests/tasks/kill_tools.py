"""Callbacks that end a training in the middle, for tests of going on."""

from typing import Any

import pytorch_lightning as pl


class Killed(BaseException):
    """Stands for kill -9: nothing is saved on the way out."""


class KillAfter(pl.Callback):
    """Die before the batch after step `step`."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.step:
            raise Killed


class FailBefore(pl.Callback):
    """Raise an error before a step, counted from 1."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step + 1 == self.step:
            raise RuntimeError("killed")
