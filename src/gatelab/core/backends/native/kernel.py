"""The C kernel as Python sees it: finding and loading it, checks before a call, buffers, and packed weights.

The shared object is chosen by what the processor has, or by GATELAB_NATIVE_ISA (avx512_bf16, avx512, avx2 or
portable). PyTorch is imported before it is loaded, so that its OpenMP library is the one that PyTorch brought: there is
one pool of threads, and `torch.set_num_threads` governs it.

After a fork the pool's threads do not exist in the child, and waiting for them would never end. So a child runs the
kernel on one thread, without the OpenMP library. (PyTorch's own products have the same trouble: a forked child must
call `torch.set_num_threads(1)`, as the workers of a DataLoader do.) A child whose parent has never had a second thread
is free of that: it says so with `forked_from_one_thread`.

Dimensions: T time, B batch, D input, H hidden.
"""

import ctypes
import functools
import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from gatelab.core.backends.native.compile import isas, object_name, source_digest

ONLY_BACKWARD = 2
Tensors = tuple[Tensor, Tensor, Tensor | None, Tensor | None]  # w_ih, w_hh, b_ih, b_hh
VARIABLE = "GATELAB_NATIVE_ISA"
ISAS = ("portable", "avx2", "avx512", "avx512_bf16")  # in the order of gru_processor's numbers

_INTEGERS = [
    "steps",
    "batch",
    "hidden",
    "inputs",
    "reset_after",
    "reverse",
    "training",
    "threads",
    "split_units",
    "bf16",
]
_FORWARD = ["lengths", "rows", "resets", "packed", "x", "projected", "h0", "y", "h_n", "states", "gates"]
_STRIDES = ["projected_stride", "states_stride", "gates_stride"]
_BACKWARD = ["dy", "dh_n", "dh0", "dbias", "dw_hh", "dw_ih", "dx", "work"]


class NativeError(RuntimeError):
    """The native kernel cannot be had; the text says why and what would help."""


class Call(ctypes.Structure):
    """`gru_call` of csrc/gru.h, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _INTEGERS),
        *((name, ctypes.c_void_p) for name in _FORWARD),
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
        fits = self._declare("gru_call_size", integer)() == ctypes.sizeof(Call)
        if not fits or self._source() != source_digest():
            raise NativeError(f"{path.name} was built from other source than that beside it; {REBUILD}")
        self.isa: str = self._declare("gru_isa", ctypes.c_char_p)().decode()
        self.processor: str = ISAS[self._declare("gru_processor", integer)()]
        self.packed_size = self._declare("gru_packed_size", integer, integer, integer, integer)
        self.work_size = self._declare("gru_work_size", integer, *[integer] * 4)
        self.pack = self._declare("gru_pack", None, *[pointer] * 4, *[integer] * 6, pointer)
        self.checksum = self._declare("gru_checksum", ctypes.c_uint64, *[pointer] * 4, *[integer] * 2)
        self.forward = self._declare("gru_forward", None, ctypes.POINTER(Call))
        self.backward = self._declare("gru_backward", None, ctypes.POINTER(Call))
        self.head = self._declare(
            "gru_head",
            None,
            *(pointer, integer, pointer, pointer, integer, integer),
            *(ctypes.c_float, integer, pointer, pointer),
        )
        self.padded = self._declare("gru_padded", integer, integer)
        self.pack_matrix = self._declare("gru_pack_matrix", None, pointer, *[integer] * 4, pointer)
        self.multiply = self._declare(
            "gru_multiply", None, pointer, integer, integer, pointer, *[integer] * 3, pointer, integer
        )
        self.multiply_over_rows = self._declare(
            "gru_multiply_over_rows", None, pointer, integer, integer, pointer, *[integer] * 4, pointer
        )

    def _source(self) -> str | None:
        """The digest of its source: what a run records of the kernel is what the run computes with."""
        try:
            return str(self._declare("gru_source", ctypes.c_char_p)().decode())
        except AttributeError:
            return None

    def _declare(self, name: str, result: type | None, *arguments: type):  # type: ignore[no-untyped-def]
        function = getattr(self._lib, name)
        function.restype, function.argtypes = result, arguments
        return function


REBUILD = "build it again with `python -m gatelab.core.backends.native.compile` (needs a C compiler)"


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
_lock = (
    threading.RLock()
)  # of the pool and the store; a layer may be freed, hence forgotten, while it is held


def _after_fork() -> None:
    global _forked, _lock
    _forked, _lock = True, threading.RLock()  # another thread of the parent may have held it


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


def address(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> int:
    """The address of a contiguous CPU tensor of exactly this shape and type. Raises TypeError or ValueError."""
    _check(name, tensor, shape, dtype)
    if not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous, got strides {list(tensor.stride())}")
    return tensor.data_ptr()


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
    if tensor.dtype is dtype and tensor.is_cpu and tensor.shape == shape:
        return
    if tensor.dtype != dtype or tensor.device.type != "cpu":
        raise TypeError(
            f"the native GRU computes in float32 on the CPU: {name} must be {dtype} there, "
            f"got {tensor.dtype} on {tensor.device}"
        )
    raise ValueError(f"{name} must be {list(shape)}, got {list(tensor.shape)}")


def check_call(
    x: Tensor,
    h0: Tensor,
    weights: Tensors,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    drawn: Tensor | None,
    reset_after: bool,
) -> None:
    """Check the tensors of one call against each other; raises TypeError or ValueError naming the argument."""
    if x.dim() != 3 or h0.dim() != 2:
        raise ValueError(f"x must be [T, B, D] and h0 [B, H], got {list(x.shape)} and {list(h0.shape)}")
    (steps, batch, inputs), hidden = x.shape, h0.shape[1]
    if 0 in (steps, batch, inputs, hidden):
        raise ValueError(f"T, B, D and H must be at least 1, got x {list(x.shape)} and h0 {list(h0.shape)}")
    _check("x", x, (steps, batch, inputs))
    _check("h0", h0, (batch, hidden))
    for name, weight, shape in _named(weights, inputs, hidden):
        if weight is not None:
            _check(name, weight, shape)
    if weights[3] is not None and not reset_after:
        raise ValueError("reset_after=False has one bias per gate: b_hh must be None, add it to b_ih")
    if reset_mask is not None:
        _check("reset_mask", reset_mask, (steps, batch), torch.bool)
    if drawn is not None:
        _check("zoneout", drawn, (steps, batch, hidden), torch.bool)
    if lengths is not None:
        _check("lengths", lengths, (batch,), torch.int64)
        shortest, longest = lengths.aminmax()
        if shortest < 0 or longest > steps:
            raise ValueError(f"lengths must lie in 0 ... {steps}, got {int(shortest)} ... {int(longest)}")


def _named(
    weights: Tensors, inputs: int, hidden: int
) -> Iterator[tuple[str, Tensor | None, tuple[int, ...]]]:
    """Each of the weights with its name and the shape that it must have."""
    rows = 3 * hidden
    names, shapes = ("w_ih", "w_hh", "b_ih", "b_hh"), ((rows, inputs), (rows, hidden), (rows,), (rows,))
    return zip(names, weights, shapes, strict=True)


SMALLEST = 1 << 18  # floats; below this the C library's allocator keeps the memory by itself
MOST = 1 << 27  # floats kept in all (512 MiB)
_HUGE_PAGE = 2 << 20
_MADV_HUGEPAGE = 14


class Pool:
    """Large buffers (gates of a sequence, packed weights) for the next call, the latest first. Safe under threads.

    A fresh buffer of tens of megabytes costs a page fault per 4 KiB, in every training step: up to a fifth of a step's
    time. So buffers that backward is done with are kept, a bounded number of bytes. Nothing that a caller can see ever
    lives in them.
    """

    def __init__(self, most: int = MOST) -> None:
        self._kept: list[Tensor] = []
        self._most = most

    def borrow(self, size: int) -> Tensor:
        """A float32 vector of at least `size` floats, with any content."""
        if size >= SMALLEST:
            with _lock:
                for i in range(len(self._kept) - 1, -1, -1):
                    if size <= self._kept[i].numel() <= 2 * size:
                        return self._kept.pop(i)
        buffer = torch.empty(size, dtype=torch.float32, device="cpu")
        if size >= SMALLEST:
            _ask_for_huge_pages(buffer)
        return buffer

    def release(self, buffer: Tensor) -> None:
        """Keep a buffer from `borrow` for another call, unless too much is kept already."""
        if buffer.numel() < SMALLEST:
            return
        with _lock:
            self._kept.append(buffer)
            while sum(kept.numel() for kept in self._kept) > self._most:
                self._kept.pop(0)


def _ask_for_huge_pages(buffer: Tensor) -> None:
    """Fewer page faults and fewer misses of the address cache, where Linux leaves it to the program to ask."""
    if _LIBC is None:
        return
    start = -(-buffer.data_ptr() // _HUGE_PAGE) * _HUGE_PAGE
    end = (buffer.data_ptr() + 4 * buffer.numel()) // _HUGE_PAGE * _HUGE_PAGE
    if end > start:
        _LIBC.madvise(start, end - start, _MADV_HUGEPAGE)  # only a hint: a refusal does not matter


def _libc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


_LIBC = _libc()
POOL = Pool()
_SMALL = 1 << 15  # elements below which one thread is faster than two
_PACKED = 1 << 26  # floats of packed weights that are kept in all (256 MiB)


class Packed(NamedTuple):
    """Packed weights: what they hold, the size of the inputs packed with them (0: not packed), and whether in BF16."""

    data: Tensor
    inputs: int
    bf16: bool
    library: Library


def pack(
    library: Library, weights: Tensors, *, inputs: int, reset_after: bool, backward: bool, bf16: bool = False
) -> Packed:
    """Pack the weights for one pass, forward or `backward`; `inputs` is D to pack W_ih too, or 0."""
    weights = _contiguous(weights)
    hidden = weights[1].shape[1]
    data = POOL.borrow(library.packed_size(inputs, hidden, backward))
    threads = most_threads() if weights[1].numel() >= _SMALL else 1
    which = ONLY_BACKWARD if backward else 0
    library.pack(*_addresses(weights), inputs, hidden, reset_after, which, bf16, threads, data.data_ptr())
    return Packed(data, inputs, bf16, library)


def _contiguous(weights: Tensors) -> Tensors:
    return cast(Tensors, tuple([None if w is None else w.detach().contiguous() for w in weights]))


def _addresses(weights: Tensors) -> list[int | None]:
    named = _named(weights, weights[0].shape[1], weights[1].shape[1])
    return [None if weight is None else address(name, weight, shape) for name, weight, shape in named]


class PackedStore:
    """Packed weights for inference, where packing would else take most of a single step's time.

    They are those of the weights' present content, by a checksum of every byte: edits through `.data` or NumPy move
    no version counter. They are freed with their layer (with the memory of its `w_hh`; a tensor that is weakly referred
    to cannot be swapped, as `torch.__future__.set_swap_module_params_on_conversion` makes `.to` do), the least recently
    used ones first where all together take too much.
    """

    def __init__(self, most: int = _PACKED) -> None:
        self._entries: OrderedDict[tuple[Any, ...], tuple[int, Packed, weakref.ref[Any]]] = OrderedDict()
        self._most = most

    def get(self, library: Library, weights: Tensors, *, inputs: int, reset_after: bool) -> Packed:
        """Return the packed form of these weights as they are now."""
        memory, key = weights[1].untyped_storage(), (library, weights[1].data_ptr(), inputs, reset_after)
        weights = _contiguous(weights)
        checksum = library.checksum(*_addresses(weights), inputs, weights[1].shape[1])
        with _lock:
            entry = self._entries.get(key)
            if entry is not None and entry[0] == checksum:
                self._entries.move_to_end(key)
                return entry[1]
        packed = pack(library, weights, inputs=inputs, reset_after=reset_after, backward=False)
        if library.checksum(*_addresses(weights), inputs, weights[1].shape[1]) != checksum:
            return packed  # another thread is editing them: not to be kept under either content
        with _lock:
            self._entries[key] = (checksum, packed, weakref.ref(memory, lambda _: self._forget(key)))
            self._entries.move_to_end(key)
            while len(self._entries) > 1 and self.size() > self._most:
                self._entries.popitem(last=False)
        return packed

    def size(self) -> int:
        """Return the floats of all packed weights in the store."""
        with _lock:
            return sum(packed.data.numel() for _, packed, _ in list(self._entries.values()))

    def _forget(self, key: tuple[Any, ...]) -> None:
        with _lock:
            self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)
