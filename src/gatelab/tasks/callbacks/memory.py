"""Memory of the training process, now and at most: on the CPU, and on the GPU where it trains on one.

Logged under `memory/`, apart from the metrics that a repeated run must reproduce. It reads counters that the
system keeps anyway and waits for nothing; the workers of a DataLoader are processes of their own and not counted.
"""

import contextlib
import os
import resource
import sys
from typing import Any

import pytorch_lightning as pl
import torch

from gatelab.tasks.base import log_once, logs_rarely
from gatelab.tasks.lightning_internals import between_micro_batches, current_step

MIB = 2**20
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # of `ru_maxrss`, in bytes
_STATM = "/proc/self/statm"  # Linux only
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Memory(pl.Callback):
    """Log `memory/cpu_mib`, `memory/cpu_peak_mib` and, on CUDA, `memory/gpu_mib`, `memory/gpu_peak_mib`.

    CPU: the resident set of the first process, everything included that it holds (libraries, data); its peak
    since it began. GPU: what PyTorch has given to tensors there, and the peak of it. `cpu_mib` needs Linux.

    Args:
        every_n_steps: optimiser steps between two rows inside an epoch, rounded up to the next step that the
            Trainer logs. There is a row at the end of every epoch too.
    """

    def __init__(self, every_n_steps: int = 200) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, not {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._logged_at = -1

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
        found["cpu"] = int(file.read().split()[1]) * _PAGE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT
    found["cpu_peak"] = max(peak, found.get("cpu", 0))  # Linux brings the two up to date at different moments
    if device.type == "cuda":
        found["gpu"] = torch.cuda.memory_allocated(device)
        found["gpu_peak"] = torch.cuda.max_memory_allocated(device)
    return found
