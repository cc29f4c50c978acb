"""Lightning callbacks: checkpoints, averages, the non-finite guard, throughput, memory, gradient norms, gates.

Each works with any task of `gatelab.tasks`; none but averaging changes the weights that are kept.
"""

from gatelab.tasks.callbacks.averaging import ExponentialAveraging, NonMonotonicAveraging
from gatelab.tasks.callbacks.checkpoints import Checkpoints
from gatelab.tasks.callbacks.compiled import Compile
from gatelab.tasks.callbacks.gate_statistics import GateStatistics
from gatelab.tasks.callbacks.guard import (
    ExplodedGradientError,
    LossScaleError,
    NonFiniteGuard,
    NonFiniteLossError,
    TrainingDiverged,
)
from gatelab.tasks.callbacks.matmul_precision import MatmulPrecision
from gatelab.tasks.callbacks.measurements import GradientNorm, Memory, Throughput
from gatelab.tasks.callbacks.progress import Progress
from gatelab.tasks.signals import RunInterrupted, RunPruned

__all__ = [
    "Checkpoints",
    "Compile",
    "ExplodedGradientError",
    "ExponentialAveraging",
    "GateStatistics",
    "GradientNorm",
    "LossScaleError",
    "MatmulPrecision",
    "Memory",
    "NonFiniteGuard",
    "NonFiniteLossError",
    "NonMonotonicAveraging",
    "Progress",
    "RunInterrupted",
    "RunPruned",
    "Throughput",
    "TrainingDiverged",
]
