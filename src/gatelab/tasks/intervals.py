"""When a step is one of those that are logged: the Trainer's `log_every_n_steps`, read in one place."""

import pytorch_lightning as pl


def logs_step(trainer: pl.Trainer, step: int) -> bool:
    """Return whether optimiser step `step`, counted from 1, is logged; with an interval of 0 none is."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and step % every == 0
