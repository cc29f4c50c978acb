"""Gatelab: a laboratory for gated recurrent networks.

`import gatelab` is light: the public names are loaded when they are first asked for. They are those of the core ring,
and what a notebook needs to train, sweep and look at runs (`gatelab/api.py`). The other rings are imported by their own
names (`gatelab.data`, `gatelab.tasks`, `gatelab.run`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatelab.api import Run, Study, explain, load, runs, sweep, train
    from gatelab.core import (
        GRU,
        LSTM,
        RNN,
        BackendError,
        Explanation,
        Forecaster,
        FrameModel,
        GRUCell,
        KerasWeights,
        LanguageModel,
        LSTMCell,
        MinGRU,
        RNNCell,
        SequenceClassifier,
        SpeechRecognizer,
        TorchGRU,
        TorchLSTM,
        TorchRNN,
        Translator,
        beam_search,
        from_keras,
        from_torch,
        generate,
        hidden_size_for,
        to_keras,
        to_torch,
    )
    from gatelab.run import Interrupted, RequestError, RunFailed

_HOME = {
    **dict.fromkeys(("Run", "Study", "explain", "load", "runs", "sweep", "train"), "gatelab.api"),
    **dict.fromkeys(("Interrupted", "RequestError", "RunFailed"), "gatelab.run"),
}
"""Where a name is defined that is not of the core ring."""

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BackendError",
    "Core",
    "Explanation",
    "Forecaster",
    "FrameModel",
    "GRUCell",
    "Interrupted",
    "KerasWeights",
    "LSTMCell",
    "LanguageModel",
    "MinGRU",
    "RNNCell",
    "RequestError",
    "Run",
    "RunFailed",
    "SequenceClassifier",
    "SpeechRecognizer",
    "Study",
    "TorchGRU",
    "TorchLSTM",
    "TorchRNN",
    "Translator",
    "__version__",
    "beam_search",
    "explain",
    "from_keras",
    "from_torch",
    "generate",
    "hidden_size_for",
    "load",
    "runs",
    "sweep",
    "to_keras",
    "to_torch",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version  # takes as long as the rest of a command line's start

        value: Any = version("gatelab")
    elif name in __all__:
        value = getattr(import_module(_HOME.get(name, "gatelab.core")), name)
    else:
        raise AttributeError(f"module 'gatelab' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
