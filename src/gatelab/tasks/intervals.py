"""When a step is one of those that are logged: the Trainer's `log_every_n_steps`, read in one place."""

import pytorch_lightning as pl


def logs_step(trainer: pl.Trainer, step: int) -> bool:
    """Return whether optimiser step `step`, counted from 1, is logged; with an interval of 0 none is."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and step % every == 0


def logs_rarely(trainer: pl.Trainer, step: int, rarely: int) -> bool:
    """Return whether optimiser step `step` is the first logged one at or after a multiple of `rarely` steps.

    What is dear to measure is measured then. It depends on the step alone, so a run that continues keeps to it.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return logs_step(trainer, step) and step // rarely > (step - every) // rarely
