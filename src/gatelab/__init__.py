"""Gatelab: a laboratory for gated recurrent networks.

`import gatelab` is light: the public names of the core ring are loaded when they are first asked for, and
nothing else is. The other rings are imported by their own names (`gatelab.data`, `gatelab.tasks`,
`gatelab.lab`).
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatelab.core import (
        GRU,
        LSTM,
        RNN,
        BackendError,
        Explanation,
        Forecaster,
        GRUCell,
        LanguageModel,
        LSTMCell,
        MinGRU,
        RNNCell,
        TorchGRU,
        TorchLSTM,
        TorchRNN,
        hidden_size_for,
    )

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BackendError",
    "Explanation",
    "Forecaster",
    "GRUCell",
    "LSTMCell",
    "LanguageModel",
    "MinGRU",
    "RNNCell",
    "TorchGRU",
    "TorchLSTM",
    "TorchRNN",
    "__version__",
    "hidden_size_for",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the core ring on first use (PEP 562)."""
    if name == "__version__":
        value: Any = version("gatelab")
    elif name in __all__:
        value = getattr(import_module("gatelab.core"), name)
    else:
        raise AttributeError(f"module 'gatelab' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
