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
    from gatelab.tasks.callbacks import (
        Checkpoints,
        GateStatistics,
        GradientNorm,
        Memory,
        NonFiniteGuard,
        NonFiniteLossError,
        Progress,
        RunInterrupted,
        Throughput,
    )
    from gatelab.tasks.checkpoint_io import AtomicCheckpointIO, CheckpointError, load_checkpoint
    from gatelab.tasks.labels.classification import ClassificationScores, ClassificationTask
    from gatelab.tasks.labels.polyphony import FrameScores, PolyphonyTask
    from gatelab.tasks.metrics import ForecastError, TokenLoss
    from gatelab.tasks.series.forecast import ForecastTask
    from gatelab.tasks.series.quantile_metrics import QuantileError
    from gatelab.tasks.speech.recognition import ErrorRates, RecognitionTask
    from gatelab.tasks.text.language_model import LanguageModelTask
    from gatelab.tasks.translation.translation import TranslationTask

__all__ = [
    "AtomicCheckpointIO",
    "CheckpointError",
    "Checkpoints",
    "ClassificationScores",
    "ClassificationTask",
    "ErrorRates",
    "ForecastError",
    "ForecastTask",
    "FrameScores",
    "GateStatistics",
    "GradientNorm",
    "LanguageModelTask",
    "Memory",
    "NonFiniteGuard",
    "NonFiniteLossError",
    "PolyphonyTask",
    "Progress",
    "QuantileError",
    "RecognitionTask",
    "RunInterrupted",
    "Task",
    "Throughput",
    "TokenLoss",
    "TranslationTask",
    "load_checkpoint",
]


_HOME = {
    "base": ("Task",),
    "checkpoint_io": ("AtomicCheckpointIO", "CheckpointError", "load_checkpoint"),
    "labels.classification": ("ClassificationScores", "ClassificationTask"),
    "labels.polyphony": ("FrameScores", "PolyphonyTask"),
    "metrics": ("ForecastError", "TokenLoss"),
    "series.forecast": ("ForecastTask",),
    "series.quantile_metrics": ("QuantileError",),
    "speech.recognition": ("ErrorRates", "RecognitionTask"),
    "text.language_model": ("LanguageModelTask",),
    "translation.translation": ("TranslationTask",),
}


def __getattr__(name: str) -> Any:
    """Import the file that holds `name` when the name is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = next((file for file, names in _HOME.items() if name in names), "callbacks")
    return getattr(import_module(f"gatelab.tasks.{file}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
