"""Ways to compute one GRU layer.

`reference` is the oracle, `torch` has a hand-written gradient, `native` is a kernel in C for the CPU, `cudnn`
delegates to PyTorch.
"""

from gatelab.core.backends.dispatch import (
    BACKENDS,
    BackendError,
    BackendName,
    Explanation,
    choose,
    explain,
    resolve,
)
from gatelab.core.backends.reference import Backend, Spec

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendError",
    "BackendName",
    "Explanation",
    "Spec",
    "choose",
    "explain",
    "resolve",
]
