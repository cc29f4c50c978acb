"""Every private name of PyTorch Lightning that Gatelab uses, each in a small function.

Tried with pytorch-lightning 2.6.6; `tests/tasks/test_lightning_internals.py` fails when a name is gone
or means something else. Nothing outside this file may use a name of Lightning that begins with an underscore.
"""

from typing import Any

import pytorch_lightning as pl

from gatelab.data.stop_signals import blocked

STEP_ROW = "update_train_step_metrics"
"""The method of the logger connector that gives a step's row to the loggers."""


def attached_trainer(module: pl.LightningModule) -> pl.Trainer | None:
    """The module's Trainer, or None; the public property raises an error without one."""
    return module._trainer


def current_step(trainer: pl.Trainer) -> int:
    """The number, from 1, of the optimiser step whose batches are trained on, until the step's last hook.

    `trainer.global_step` is one less before the optimiser's step and equal after it; the loggers' row of the step is
    `current_step - 1` throughout.
    """
    return trainer.fit_loop.epoch_loop._batches_that_stepped + 1


def between_micro_batches(trainer: pl.Trainer) -> bool:
    """Whether gradients are being accumulated, which no checkpoint holds."""
    return trainer.fit_loop._should_accumulate()


def epoch_ends(trainer: pl.Trainer) -> bool:
    """Whether the current training batch is the epoch's last."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def validation_follows(trainer: pl.Trainer) -> bool:
    """Whether Lightning validates right after the current training batch."""
    loop = trainer.fit_loop
    assert loop._data_fetcher is not None
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def begin_epoch_afresh(trainer: pl.Trainer) -> None:
    """Take a checkpoint for one from between two epochs; call it in `on_train_start`.

    With `max_steps` set, Lightning takes every checkpoint for one from inside an epoch and would miscount the epochs.
    """
    loop = trainer.fit_loop
    loop.reset_restart_stage()
    loop.epoch_loop.restarting = False
    for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
        epochs: Any = progress
        epochs.completed = epochs.processed


def log_step_row(trainer: pl.Trainer) -> None:
    """Give the loggers the row of the current step before the step's checkpoint is written, instead of after it.

    A run that is killed between the two, or stopped by the checkpoint, would continue without that row. Lightning's
    own call, right after, then does nothing, once.
    """
    connector = trainer._logger_connector
    getattr(connector, STEP_ROW)()
    setattr(connector, STEP_ROW, lambda: vars(connector).pop(STEP_ROW, None))


def forget_step_row(trainer: pl.Trainer) -> None:
    """Undo `log_step_row` of a run that was stopped before Lightning's own call came."""
    vars(trainer._logger_connector).pop(STEP_ROW, None)


def log_epoch_row(trainer: pl.Trainer) -> None:
    """Give the loggers the epoch's row before its checkpoint is written; Lightning's own call finds nothing left."""
    connector, loop = trainer._logger_connector, trainer.fit_loop.epoch_loop
    connector.on_epoch_end()
    loop._batches_that_stepped -= 1  # the row belongs to the last step
    connector.update_train_epoch_metrics()
    loop._batches_that_stepped += 1


def disable_signal_handlers(trainer: pl.Trainer) -> None:
    """Keep Lightning from handling signals: its handler talks to the other ranks, which hangs under DDP."""
    setattr(trainer._signal_connector, "register_signal_handlers", lambda: None)  # noqa: B010


def start_children_with_blocked_signals(trainer: pl.Trainer) -> None:
    """Have Lightning start the other processes of a run with the stop signals blocked, until they listen.

    A signal to one that still imports would end it, and Lightning then kills the first one, which could save itself.
    """
    launcher: Any = trainer.strategy.launcher
    start = getattr(launcher, "_call_children_scripts", None)
    if start is None:  # a single process, or torchrun starts them
        return

    def start_blocked() -> None:
        with blocked():
            start()

    launcher._call_children_scripts = start_blocked
