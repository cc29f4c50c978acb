"""Gatelab: a laboratory for gated recurrent networks.

`import gatelab` is light: the public names of the core ring are loaded when they are first asked for, and
nothing else is. The other rings are imported by their own names (`gatelab.data`, `gatelab.tasks`,
`gatelab.run`).
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
        KerasWeights,
        LanguageModel,
        LSTMCell,
        MinGRU,
        RNNCell,
        TorchGRU,
        TorchLSTM,
        TorchRNN,
        from_keras,
        from_torch,
        generate,
        hidden_size_for,
        to_keras,
        to_torch,
    )

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BackendError",
    "Explanation",
    "Forecaster",
    "GRUCell",
    "KerasWeights",
    "LSTMCell",
    "LanguageModel",
    "MinGRU",
    "RNNCell",
    "TorchGRU",
    "TorchLSTM",
    "TorchRNN",
    "__version__",
    "from_keras",
    "from_torch",
    "generate",
    "hidden_size_for",
    "to_keras",
    "to_torch",
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
