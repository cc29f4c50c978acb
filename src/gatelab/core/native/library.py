"""Loads the kernel: which shared object, and why; the C structure; how many threads a call may use.

The object is chosen by what the processor has, or by GATELAB_NATIVE_ISA (avx512, avx2 or portable). Nothing is
computed here (`layer.py` does). PyTorch is imported before the object is loaded, so that the object's OpenMP
library is the one that PyTorch brought: there is one pool of threads, and `torch.set_num_threads` governs it.

After a fork the pool's threads do not exist in the child and waiting for them would never end. So a child runs
the kernel on one thread, without the OpenMP library. (PyTorch's own products have the same trouble: a forked
child must call `torch.set_num_threads(1)`, as the workers of a DataLoader do.) A child whose parent has never had
a second thread is free of that: it says so with `forked_from_one_thread`.
"""

import ctypes
import functools
import os
from pathlib import Path

import torch

from gatelab.core.native.compile import isas, object_name

ABI = 4
VARIABLE = "GATELAB_NATIVE_ISA"
ISAS = ("portable", "avx2", "avx512")  # in the order of gru_processor's numbers

_INTEGERS = (
    "steps",
    "batch",
    "hidden",
    "inputs",
    "reset_after",
    "reverse",
    "training",
    "threads",
    "split_units",
)
_BATCH = ("lengths", "rows", "resets")
_FORWARD = ("packed", "x", "projected", "h0", "y", "h_n", "states", "gates")
_STRIDES = ("projected_stride", "states_stride", "gates_stride")
_BACKWARD = ("dy", "dh_n", "dh0", "dbias", "dw_hh", "dw_ih", "dx", "work")


class NativeError(RuntimeError):
    """The native kernel cannot be had; the text says why and what would help."""


class Call(ctypes.Structure):
    """`gru_call` of csrc/gru.h, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _INTEGERS),
        *((name, ctypes.c_void_p) for name in _BATCH + _FORWARD),
        *((name, ctypes.c_int64) for name in _STRIDES),
        *((name, ctypes.c_void_p) for name in _BACKWARD),
        ("zoneout", ctypes.c_float),
    ]


class Library:
    """One loaded shared object: its functions with their types declared."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lib = ctypes.CDLL(str(path))
        integer, pointer = ctypes.c_int64, ctypes.c_void_p
        self._declare("gru_abi", integer)
        self._declare("gru_call_size", integer)
        self._declare("gru_processor", integer)
        self._declare("gru_isa", ctypes.c_char_p)
        if self._lib.gru_abi() != ABI or self._lib.gru_call_size() != ctypes.sizeof(Call):
            raise NativeError(f"{path} was built from another version; {REBUILD}")
        self.isa: str = self._lib.gru_isa().decode()
        self.processor: str = ISAS[self._lib.gru_processor()]
        self.packed_size = self._declare("gru_packed_size", integer, integer, integer, integer)
        self.work_size = self._declare("gru_work_size", integer, *[integer] * 4)
        self.pack = self._declare("gru_pack", None, *[pointer] * 4, *[integer] * 5, pointer)
        self.same = self._declare("gru_same", integer, *[pointer] * 4, *[integer] * 4, pointer)
        self.order = self._declare("gru_order", integer, *[pointer] * 2, *[integer] * 3, pointer)
        self.spread = self._declare("gru_spread", None, *[pointer] * 2, *[integer] * 4, pointer)
        self.forward = self._declare("gru_forward", None, ctypes.POINTER(Call))
        self.backward = self._declare("gru_backward", None, ctypes.POINTER(Call))

    def _declare(self, name: str, result: type | None, *arguments: type):  # type: ignore[no-untyped-def]
        function = getattr(self._lib, name)
        function.restype, function.argtypes = result, arguments
        return function


REBUILD = "build it again with `python -m gatelab.core.native.compile` (needs a C compiler)"


def _path(isa: str) -> Path:
    return Path(__file__).resolve().parent / object_name(isa)


def _open(isa: str) -> Library:
    path = _path(isa)
    if not path.is_file():
        raise NativeError(f"the native kernel is not built ({path.name} is missing): {REBUILD}")
    try:
        return Library(path)
    except OSError as error:
        raise NativeError(f"{path.name} cannot be loaded: {error}; {REBUILD}") from error


@functools.cache
def load(isa: str | None = None) -> Library:
    """The kernel for `isa`; for None the one that GATELAB_NATIVE_ISA names, else the processor's best.

    Raises NativeError when it is not built, does not load, or the processor cannot run it.
    """
    named = isa or os.environ.get(VARIABLE) or None
    if named is not None and named not in ISAS:
        raise NativeError(f"{VARIABLE}={named!r} is unknown; it may be {', '.join(ISAS)}")
    able = _open("portable").processor
    # an old compiler may have left the best ones out
    built = [i for i in ISAS[: ISAS.index(able) + 1] if _path(i).is_file()]
    wanted = named or built[-1]
    if wanted not in isas() or ISAS.index(wanted) > ISAS.index(able):
        raise NativeError(f"this processor cannot run {wanted}; it can run {able}. Unset {VARIABLE}")
    return _open(wanted)


def unavailable() -> str | None:
    """Why the kernel cannot be had here, or None when it can."""
    try:
        load()
    except NativeError as error:
        return str(error)
    return None


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)


def forked_from_one_thread() -> None:
    """Say, in a forked child, that its parent has never had a second thread: then the child may make a pool.

    The parent must have made sure of it just before the fork. If it is not so, the child may wait for ever.
    """
    global _forked
    _forked = False


def most_threads() -> int:
    """How many threads a call may use: PyTorch's setting, but one in a forked child (see above)."""
    return 1 if _forked else torch.get_num_threads()
