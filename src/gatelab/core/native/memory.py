"""Large buffers that are used again: the gates of a sequence and the packed weights.

A fresh buffer of tens of megabytes costs a page fault per 4 KiB, in every training step; that was up to a fifth
of a step's time. So buffers that backward is done with are kept here, a bounded number of bytes, for the next
forward pass. Nothing that a caller can see ever lives in them. Safe under several threads.
"""

import ctypes
import sys
import threading

import torch
from torch import Tensor

SMALLEST = 1 << 18  # floats; below this the C library's allocator keeps the memory by itself
MOST = 1 << 27  # floats kept in all (512 MiB)
_HUGE_PAGE = 2 << 20
_MADV_HUGEPAGE = 14


class Pool:
    """Buffers that were given back, the latest first."""

    def __init__(self, most: int = MOST) -> None:
        self._kept: list[Tensor] = []
        self._most = most
        self._lock = threading.Lock()

    def borrow(self, size: int) -> Tensor:
        """A float32 vector of at least `size` floats, with any content."""
        if size >= SMALLEST:
            with self._lock:
                for i in range(len(self._kept) - 1, -1, -1):
                    if size <= self._kept[i].numel() <= 2 * size:
                        return self._kept.pop(i)
        buffer = torch.empty(size)
        if size >= SMALLEST:
            _ask_for_huge_pages(buffer)
        return buffer

    def give_back(self, buffer: Tensor) -> None:
        """Keep a buffer from `borrow` for another call, unless too much is kept already."""
        if buffer.numel() < SMALLEST:
            return
        with self._lock:
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
