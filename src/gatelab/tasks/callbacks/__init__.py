"""Lightning callbacks: checkpoints, the non-finite guard, throughput, memory, gradient norms, gates, progress.

Each works with any task of `gatelab.tasks`; none of them changes what is trained.
"""

from gatelab.tasks.callbacks.checkpoints import Checkpoints
from gatelab.tasks.callbacks.gate_statistics import GateStatistics
from gatelab.tasks.callbacks.guard import (
    ExplodedGradientError,
    NonFiniteGuard,
    NonFiniteLossError,
    TrainingDiverged,
)
from gatelab.tasks.callbacks.measurements import GradientNorm, Memory, Throughput
from gatelab.tasks.callbacks.progress import Progress
from gatelab.tasks.signals import RunInterrupted, RunPruned

__all__ = [
    "Checkpoints",
    "ExplodedGradientError",
    "GateStatistics",
    "GradientNorm",
    "Memory",
    "NonFiniteGuard",
    "NonFiniteLossError",
    "Progress",
    "RunInterrupted",
    "RunPruned",
    "Throughput",
    "TrainingDiverged",
]
