"""Measurements of a run while it trains: throughput, memory, and the norm of the gradient.

What the machine does is logged under `time/` and `memory/`, apart from the metrics that a repeated run must reproduce.
None of them waits for an accelerator on the steps in between, and none changes what is trained.
"""

import contextlib
import os
import resource
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gatelab.tasks import resume
from gatelab.tasks.base import log_once, logs_rarely, logs_step
from gatelab.tasks.lightning_internals import between_micro_batches, current_step

MIB = 2**20
_STATM = "/proc/self/statm"  # Linux only
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # of `ru_maxrss`, in bytes


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


class Throughput(pl.Callback):
    """Log `time/<unit>_per_second` at the Trainer's logging interval and `time/epoch_seconds` after every
    epoch.

    Units of all processes are counted, as the task's `items` says. Attributes `items` and `seconds` hold the totals
    until the clock was last read.
    """

    def __init__(self) -> None:
        self.items, self.seconds = 0, 0.0
        self._epoch_before = 0.0  # seconds of this epoch in an earlier part of the run
        self._epoch_began = 0.0  # `seconds` when the epoch began here
        self._logged = (0, 0.0)
        self._clock: float | None = None
        self._processes, self._counted = 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds of the epoch so far."""
        return {"epoch_seconds": self._epoch_seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the seconds of an epoch that was interrupted."""
        self._epoch_before = state_dict["epoch_seconds"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._processes = trainer.world_size
        self._counted = getattr(pl_module, "items", 0)
        self._clock = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._advance(pl_module)
        self._clock = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock again."""
        if resume.is_fitting(trainer) and not trainer.sanity_checking:
            self._clock = time.perf_counter()

    on_train_end = on_validation_start

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the rate."""
        if logs_step(trainer, current_step(trainer)) and not between_micro_batches(trainer):
            self._advance(pl_module)
            if trainer.is_global_zero:
                log_once(trainer, self._rate(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch's seconds, and the rate if the epoch was too short for a logging interval."""
        self._advance(pl_module)
        if self._logged == (0, 0.0):
            pl_module.log_dict(self._rate(pl_module), rank_zero_only=True)
        pl_module.log("time/epoch_seconds", self._epoch_seconds(), rank_zero_only=True)
        self._epoch_before, self._epoch_began = 0.0, self.seconds

    def _rate(self, pl_module: pl.LightningModule) -> dict[str, float]:
        items, seconds = self.items - self._logged[0], self.seconds - self._logged[1]
        self._logged = (self.items, self.seconds)
        unit = getattr(pl_module, "unit", "items")
        return {f"time/{unit}_per_second": items / seconds} if items and seconds > 0 else {}

    def _epoch_seconds(self) -> float:
        return self._epoch_before + self.seconds - self._epoch_began

    def _advance(self, pl_module: pl.LightningModule) -> None:
        """Add the time and the items since the last call, if the clock runs."""
        if self._clock is not None:
            counted = getattr(pl_module, "items", 0)
            self.items += (counted - self._counted) * self._processes
            self._counted = counted
            now = time.perf_counter()
            self.seconds += now - self._clock
            self._clock = now


class Memory(pl.Callback):
    """Log `memory/cpu_mib`, `memory/cpu_peak_mib` and, on CUDA, `memory/gpu_mib`, `memory/gpu_peak_mib`.

    CPU: the resident set of the first process, everything included that it holds (libraries, data); its peak
    since it began. GPU: what PyTorch has given to tensors there, and the peak of it in this run. `cpu_mib` needs Linux.

    Args:
        every_n_steps: optimiser steps between two rows inside an epoch, rounded up to the next step that the
            Trainer logs. There is a row at the end of every epoch too.
    """

    def __init__(self, every_n_steps: int = 200) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, not {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._logged_at = -1

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the peak of what this process did on the GPU before."""
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log if it is this step's turn."""
        due = logs_rarely(trainer, current_step(trainer), self.every_n_steps)
        if due and trainer.is_global_zero and not between_micro_batches(trainer):
            log_once(trainer, _figures(pl_module))
            self._logged_at = trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log at the end of the epoch, unless its last step did."""
        if self._logged_at != trainer.global_step:
            pl_module.log_dict(_figures(pl_module), rank_zero_only=True)


def _figures(pl_module: pl.LightningModule) -> dict[str, float]:
    return {f"memory/{name}_mib": size / MIB for name, size in memory(pl_module.device).items()}


def memory(device: torch.device) -> dict[str, int]:
    """Bytes that this process takes: `cpu`, `cpu_peak`, and `gpu`, `gpu_peak` if `device` is one."""
    found: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError), open(_STATM, "rb", buffering=0) as file:
        found["cpu"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT
    found["cpu_peak"] = max(peak, found.get("cpu", 0))  # Linux brings the two up to date at different moments
    if device.type == "cuda":
        found["gpu"] = torch.cuda.memory_allocated(device)
        found["gpu_peak"] = torch.cuda.max_memory_allocated(device)
    return found
