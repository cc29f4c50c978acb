"""The native GRU: one layer in one direction, in C, for float32 on a CPU.

`run` is the differentiable layer; `unavailable` says why the kernel cannot be had, or None. The kernel is built
when the package is installed (`compile.py`) and chosen by the processor (`library.py`).
"""

from gatelab.core.native.autograd import run
from gatelab.core.native.library import NativeError, load, unavailable

__all__ = ["NativeError", "load", "run", "unavailable"]
