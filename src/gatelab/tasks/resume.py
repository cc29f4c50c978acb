"""Where a run stands, and how a resumed run is put there: inside an epoch as well as between two.

Lightning restores its own counters, but creates the training loader and its iterator before it does so, never
moves the loader forward, and treats a checkpoint from the end of an epoch as an unfinished one when
`max_steps` is set. This file closes those gaps. What a *task* keeps over steps (recurrent state, sums) is in
`base.py`.

A position is saved either right after a training batch, or after the validation that follows it, or at the
end of an epoch (see `callbacks/checkpoints.py`); at those points the counters read here are consistent.
"""

import warnings
from typing import Any, NamedTuple, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn


class Position(NamedTuple):
    """The next thing to train on: batch `batch` (0-based) of epoch `epoch` (0-based)."""

    epoch: int
    batch: int

    @classmethod
    def of(cls, trainer: pl.Trainer) -> Self:
        """Read the position from the trainer's counters."""
        epochs: Any = trainer.fit_loop.epoch_progress.current
        finished = epochs.ready == epochs.processed
        batch = 0 if finished else trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return cls(epochs.processed, batch)


def restore(trainer: pl.Trainer, position: Position) -> None:
    """Tell the DataModule where its first pass begins; call it before the training loader exists.

    Raises:
        ValueError: the run stands inside an epoch and the data cannot start there.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    if position.batch and not hasattr(data, "skip_batches"):
        raise ValueError(
            f"the checkpoint stands at batch {position.batch} of epoch {position.epoch}, and the training data "
            "cannot start inside an epoch: it needs a DataModule of gatelab.data (or one with `skip_batches`)"
        )
    if data is not None:
        data.skip_batches, data.first_epoch = position.batch, position.epoch
    # the position is exact without the loader's help, which is what Lightning warns about
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch")


def begin(trainer: pl.Trainer, position: Position) -> None:
    """Let an epoch begin afresh when the checkpoint was taken between two; call it in `on_train_start`.

    With `max_steps` set, Lightning takes every checkpoint for one from inside an epoch and would miscount them.
    """
    if position.batch:
        return
    loop = trainer.fit_loop
    loop.reset_restart_stage()
    loop.epoch_loop.restarting = False
    for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
        epochs: Any = progress
        epochs.completed = epochs.processed


def is_fitting(trainer: pl.Trainer | None) -> bool:
    """Whether a checkpoint is being loaded to go on training, rather than to evaluate."""
    return trainer is not None and trainer.state.fn == TrainerFn.FITTING


def validation_follows(trainer: pl.Trainer) -> bool:
    """Whether Lightning will validate right after the current training batch."""
    loop = trainer.fit_loop
    assert loop._data_fetcher is not None
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def between_micro_batches(trainer: pl.Trainer) -> bool:
    """Whether gradients are being accumulated, which no checkpoint holds."""
    return trainer.fit_loop._should_accumulate()


def epoch_ends(trainer: pl.Trainer) -> bool:
    """Whether the current training batch is the epoch's last."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def gather_ranks(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every process' `value` (plain data, tensors on the CPU), in order of rank; a collective call."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
