"""Exact resume: where a run stands, what a process carries from step to step, and randomness as a function of the step.

Lightning restores its own counters, but creates the training loader and its iterator before it does so and never
moves the loader forward; `Position` closes that gap. It is saved right after a training batch, or after the
validation that follows it, or at the end of an epoch (see `callbacks/checkpoints.py`); at those points the counters
read here are consistent.

Dropout and everything else that draws inside a training step uses torch's default generators. Seeded at the start of
every step from (seed, rank, step), they draw the same after a restart, whatever came before: validation, a sanity
check. This is not the seed of the initial weights, nor of the order of the data.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

State = Tensor | tuple[Tensor, ...] | None
"""A recurrent state as a value: tensors [L, B, H], or None for zero. No layer stores one; a task carries it."""
_MASK = (1 << 64) - 1


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


def is_fitting(trainer: pl.Trainer | None) -> bool:
    """Whether a checkpoint is being loaded to go on training, rather than to evaluate."""
    return trainer is not None and trainer.state.fn == TrainerFn.FITTING


def gather_ranks(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every process' `value` (plain data, tensors on the CPU), in order of rank; a collective call."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def step_seed(seed: int, rank: int, step: int) -> int:
    """Mix three integers into one of 63 bits, by the finaliser of SplitMix64 (Steele et al. 2014)."""
    mixed = 0
    for value in (seed, rank, step):
        mixed = (mixed + value + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        mixed ^= mixed >> 31
    return mixed >> 1


def seed_step(seed: int, rank: int, step: int, device: torch.device) -> None:
    """Seed the default generators of the CPU and of `device` for one training step.

    On a generator it takes a microsecond, `torch.manual_seed` a hundred times that.
    """
    value = step_seed(seed, rank, step)
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(value)


def each(state: State, change: Callable[[Tensor], Tensor]) -> State:
    """Change every tensor of `state`."""
    if state is None or isinstance(state, Tensor):
        return state if state is None else change(state)
    return tuple(map(change, state))


def detach(state: State, device: torch.device | None = None) -> State:
    """Cut `state` off the graph, and move it to `device` if one is given."""
    return each(state, lambda part: part.detach().to(device=device))


def copied(state: State) -> State:
    """A copy of `state` off the graph: a replayed CUDA graph (`compile=cudagraphs`) writes the next one over this."""
    return each(state, lambda part: part.detach().clone())


def reset_state(state: State, reset: Tensor) -> State:
    """Set to zero the columns of `state` whose `reset` [B] is True; whatever they held (NaN too) is gone.

    Raises:
        ValueError: the number of streams changed and not all of them start anew.
    """
    if state is None:
        return None
    first = state if isinstance(state, Tensor) else state[0]
    if first.shape[1] != len(reset):
        if bool(reset.all()):
            return None
        raise ValueError(
            f"a window of {len(reset)} streams follows one of {first.shape[1]}: all of them must be reset"
        )
    if reset.device.type == "cpu" and not bool(reset.any()):
        return state
    return each(state, lambda part: part.masked_fill(reset[None, :, None], 0.0))


def columns(state: State) -> Tensor | None:
    """Return all of a state as one float32 tensor [B, *], a row for each stream."""
    if state is None:
        return None
    parts = (state,) if isinstance(state, Tensor) else state
    return torch.cat([part.float().movedim(1, 0).flatten(1) for part in parts], dim=1)
