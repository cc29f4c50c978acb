"""Tasks: Lightning modules that train and evaluate the models of `gatelab.core` on the data of
`gatelab.data`.

Metrics, optimisers, schedules, checkpoints, exact resume and callbacks live here too. Nothing in this ring
imports hydra; configs reach it as plain arguments. Names are imported when they are first asked for, so that an
optimiser can be made without Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatelab.tasks.base import Task
    from gatelab.tasks.callbacks.checkpoints import Checkpoints
    from gatelab.tasks.callbacks.gate_statistics import GateStatistics
    from gatelab.tasks.callbacks.gradient_norm import GradientNorm
    from gatelab.tasks.callbacks.guard import NonFiniteGuard, NonFiniteLossError
    from gatelab.tasks.callbacks.memory import Memory
    from gatelab.tasks.callbacks.progress import Progress
    from gatelab.tasks.callbacks.throughput import Throughput
    from gatelab.tasks.checkpoint_io import AtomicCheckpointIO, CheckpointError, load_checkpoint
    from gatelab.tasks.forecast import ForecastTask
    from gatelab.tasks.language_model import LanguageModelTask
    from gatelab.tasks.metrics import ForecastError, TokenLoss
    from gatelab.tasks.signals import RunInterrupted

_HOME = {
    "Task": "base",
    "Checkpoints": "callbacks.checkpoints",
    "GateStatistics": "callbacks.gate_statistics",
    "GradientNorm": "callbacks.gradient_norm",
    "Memory": "callbacks.memory",
    "NonFiniteGuard": "callbacks.guard",
    "NonFiniteLossError": "callbacks.guard",
    "Progress": "callbacks.progress",
    "Throughput": "callbacks.throughput",
    "AtomicCheckpointIO": "checkpoint_io",
    "CheckpointError": "checkpoint_io",
    "load_checkpoint": "checkpoint_io",
    "ForecastTask": "forecast",
    "LanguageModelTask": "language_model",
    "ForecastError": "metrics",
    "TokenLoss": "metrics",
    "RunInterrupted": "signals",
}

__all__ = [
    "AtomicCheckpointIO",
    "CheckpointError",
    "Checkpoints",
    "ForecastError",
    "ForecastTask",
    "GateStatistics",
    "GradientNorm",
    "LanguageModelTask",
    "Memory",
    "NonFiniteGuard",
    "NonFiniteLossError",
    "Progress",
    "RunInterrupted",
    "Task",
    "Throughput",
    "TokenLoss",
    "load_checkpoint",
]


def __getattr__(name: str) -> Any:
    """Import the file that holds `name` when the name is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"gatelab.tasks.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
