"""Ways to compute one GRU layer: `reference` (the oracle), `torch` (hand-written gradient), `cudnn` (delegate)."""

from gatelab.core.backends.choice import (
    BACKENDS,
    BackendError,
    BackendName,
    Explanation,
    choose,
    explain,
    resolve,
)
from gatelab.core.backends.spec import Backend, Spec

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
