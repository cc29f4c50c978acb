"""Tasks: Lightning modules that train and evaluate the models of `gatelab.core` on the data of
`gatelab.data`.

Metrics, optimisers, schedules, checkpoints, exact resume and callbacks live here too. Nothing in this ring
imports hydra; configs reach it as plain arguments.
"""

from gatelab.tasks.base import Task
from gatelab.tasks.callbacks.checkpoints import Checkpoints
from gatelab.tasks.callbacks.gradient_norm import GradientNorm
from gatelab.tasks.callbacks.guard import NonFiniteGuard, NonFiniteLossError
from gatelab.tasks.callbacks.progress import Progress
from gatelab.tasks.callbacks.signals import RunInterrupted
from gatelab.tasks.callbacks.throughput import Throughput
from gatelab.tasks.checkpoint_io import AtomicCheckpointIO, CheckpointError, load_checkpoint
from gatelab.tasks.forecast import ForecastTask
from gatelab.tasks.language_model import LanguageModelTask
from gatelab.tasks.metrics import ForecastError, TokenLoss

__all__ = [
    "AtomicCheckpointIO",
    "CheckpointError",
    "Checkpoints",
    "ForecastError",
    "ForecastTask",
    "GradientNorm",
    "LanguageModelTask",
    "NonFiniteGuard",
    "NonFiniteLossError",
    "Progress",
    "RunInterrupted",
    "Task",
    "Throughput",
    "TokenLoss",
    "load_checkpoint",
]
