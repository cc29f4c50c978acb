"""The packed form of a layer's weights, and a small store of them for inference.

In training the weights change at every step, so they are packed anew for every forward pass. For inference the
packed form is kept until a weight changes, because a single step would otherwise spend its time on packing.
A change is noticed by the tensor's version counter. Edits through `.data` escape that counter, so a sample of
the elements is compared as well: it catches every edit that touches a whole tensor, as a swap with averaged
weights does, but not one of single elements. Write under `torch.no_grad()` instead, which is always noticed.
"""

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gatelab.core.native.checks import address
from gatelab.core.native.library import Library, most_threads
from gatelab.core.native.memory import POOL

Tensors = tuple[Tensor, Tensor, Tensor | None, Tensor | None]

KEPT = 64  # layers whose packed weights are kept
SAMPLES = 32  # elements of each tensor compared against edits that no version counter shows
_SMALL = 1 << 15  # elements below which one thread packs faster than two


@dataclass(frozen=True)
class Packed:
    """Packed weights: what they hold, and the size of the inputs packed with them (0: not packed).

    `calls` is `layer.py`'s: what does not change from one call for inference to the next.
    """

    data: Tensor
    inputs: int
    library: Library
    calls: dict[tuple[float, ...], Any] = field(default_factory=dict, compare=False)


def pack(library: Library, weights: Tensors, *, inputs: int, reset_after: bool, backward: bool) -> Packed:
    """Pack the weights; `inputs` is D to pack W_ih too, or 0; `backward` adds what the gradient needs."""
    w_ih, w_hh, b_ih, b_hh = (None if w is None else w.detach().contiguous() for w in weights)
    assert w_ih is not None
    assert w_hh is not None
    hidden = w_hh.shape[1]
    data = POOL.borrow(library.packed_size(inputs, hidden, backward))
    threads = most_threads() if w_hh.numel() >= _SMALL else 1
    pointers = _addresses((w_ih, w_hh, b_ih, b_hh))
    library.pack(*pointers, inputs, hidden, reset_after, backward, threads, data.data_ptr())
    return Packed(data, inputs, library)


def _addresses(weights: Tensors) -> tuple[int | None, ...]:
    w_ih, w_hh, b_ih, b_hh = weights
    hidden = w_hh.shape[1]
    return (
        address("w_ih", w_ih, (3 * hidden, w_ih.shape[1])),
        address("w_hh", w_hh, (3 * hidden, hidden)),
        None if b_ih is None else address("b_ih", b_ih, (3 * hidden,)),
        None if b_hh is None else address("b_hh", b_hh, (3 * hidden,)),
    )


@dataclass(frozen=True)
class _Entry:
    packed: Packed
    tensors: tuple[weakref.ref[Tensor] | None, ...]
    versions: tuple[int, ...]
    addresses: tuple[int | None, ...]
    shapes: tuple[torch.Size, ...]

    def fits(self, weights: Tensors, versions: tuple[int, ...], reset_after: bool) -> bool:
        """Whether these very tensors were packed, and are unchanged as far as can be seen."""
        if versions != self.versions:
            return False
        for reference, address_, w in zip(self.tensors, self.addresses, weights, strict=True):
            if reference is not None and (reference() is not w or w is None or w.data_ptr() != address_):
                return False
        if self.shapes != tuple([w.shape for w in weights if w is not None]):  # swapped through .data
            return False
        p, hidden = self.packed, weights[1].shape[1]
        return bool(
            p.library.same(*self.addresses, p.inputs, hidden, reset_after, SAMPLES, p.data.data_ptr())
        )


class Store:
    """Packed weights by the tensors they were made from; the least recently used ones go first."""

    def __init__(self, kept: int = KEPT) -> None:
        self._entries: OrderedDict[tuple[object, ...], _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._kept = kept

    def get(self, library: Library, weights: Tensors, *, inputs: int, reset_after: bool) -> Packed:
        """The packed form of these weights, made anew if any of them changed."""
        tensors = [w for w in weights if w is not None]
        for w in tensors:
            if w.is_inference() or not w.is_contiguous():  # no version counter, or copied first
                return pack(library, weights, inputs=inputs, reset_after=reset_after, backward=False)
        key = (library, inputs, reset_after, *map(id, weights))
        versions = tuple([w._version for w in tensors])
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.fits(weights, versions, reset_after):
                self._entries.move_to_end(key)
                return entry.packed
        packed = pack(library, weights, inputs=inputs, reset_after=reset_after, backward=False)
        references = tuple(None if w is None else weakref.ref(w) for w in weights)
        with self._lock:
            shapes = tuple([w.shape for w in tensors])
            self._entries[key] = _Entry(packed, references, versions, _addresses(weights), shapes)
            while len(self._entries) > self._kept:
                self._entries.popitem(last=False)
        return packed

    def __len__(self) -> int:
        return len(self._entries)
