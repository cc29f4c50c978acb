"""When a step is one of those that are logged (the Trainer's `log_every_n_steps`), and figures of one step alone."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl


def current_step(trainer: pl.Trainer) -> int:
    """Return the number, from 1, of the optimiser step whose batches are trained on, until its last hook.

    Inside a step and in `on_train_batch_end` this is the row that loggers are given. `trainer.global_step` jumps in
    between, and takes longer to ask for.
    """
    return trainer.fit_loop.epoch_loop._batches_that_stepped + 1


def logs_step(trainer: pl.Trainer, step: int) -> bool:
    """Return whether optimiser step `step`, counted from 1, is logged; with an interval of 0 none is."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and step % every == 0


def on_logged_steps(hook: Callable[..., None]) -> Callable[..., None]:
    """Let a callback's hook of a training step do nothing unless the step is logged; a decorator.

    `lean.py` asks once for all the hooks that are marked so.
    """

    @functools.wraps(hook)
    def called(self: Any, trainer: pl.Trainer, *args: Any) -> None:
        if logs_step(trainer, current_step(trainer)):
            hook(self, trainer, *args)

    vars(called)["on_logged_steps"] = True
    return called


def logs_rarely(trainer: pl.Trainer, step: int, rarely: int) -> bool:
    """Return whether optimiser step `step` is the first logged one at or after a multiple of `rarely` steps.

    What is dear to measure is measured then. It depends on the step alone, so a run that continues keeps to it.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return logs_step(trainer, step) and step // rarely > (step - every) // rarely


def log_once(trainer: pl.Trainer, figures: Mapping[str, float]) -> None:
    """Give figures to the loggers as those of the step that goes on or just ended, before Lightning logs it.

    What `LightningModule.log` is given stands in the row of every logged step until the epoch ends, measured or not;
    and it takes much longer.
    """
    for logger in trainer.loggers if figures else ():
        logger.log_metrics(dict(figures), step=current_step(trainer) - 1)
