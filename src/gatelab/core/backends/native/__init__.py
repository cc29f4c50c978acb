"""The `native` backend: a GRU layer in C, for float32 on a CPU.

It has both variants, ragged lengths, resets, both directions and zoneout, but no layer normalisation. The kernel is
built when the package is installed (`compile.py`). Why it cannot be had here is settled once, when this module is
imported: building it later shows in the next process.
"""

import torch

from gatelab.core.backends.native.autograd import run
from gatelab.core.backends.native.kernel import NativeError, load, unavailable
from gatelab.core.backends.reference import Backend, Spec

__all__ = ["BACKEND", "NativeError", "load", "run", "unavailable"]

UNAVAILABLE = unavailable()


def unsupported(spec: Spec) -> str | None:
    """The kernel computes in float32 on a CPU, on at least one row."""
    if spec.device != "cpu":
        return f"the native kernel runs on the CPU and the input is on {spec.device}"
    if spec.dtype != torch.float32:
        return f"the native kernel computes in torch.float32, not in {spec.dtype}"
    if spec.layer_norm:
        return "the kernel has no layer normalisation"
    if spec.batch == 0:
        return "the native kernel needs at least one row and the batch is empty"
    return UNAVAILABLE


BACKEND = Backend("native", "the kernel in C on a CPU", run, unsupported, walks_backward=True)
