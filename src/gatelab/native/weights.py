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
from dataclasses import dataclass

import torch
from torch import Tensor

from gatelab.native.checks import address
from gatelab.native.library import Library, most_threads

Tensors = tuple[Tensor, Tensor, Tensor | None, Tensor | None]

KEPT = 64  # layers whose packed weights are kept
SAMPLES = 32  # elements of each tensor compared against edits that no version counter shows
_SMALL = 1 << 15  # elements below which one thread packs faster than two


@dataclass(frozen=True)
class Packed:
    """Packed weights: what they hold, and the size of the inputs packed with them (0: not packed)."""

    data: Tensor
    inputs: int
    library: Library


def pack(library: Library, weights: Tensors, *, inputs: int, reset_after: bool, backward: bool) -> Packed:
    """Pack the weights; `inputs` is D to pack W_ih too, or 0; `backward` adds what the gradient needs."""
    w_ih, w_hh, b_ih, b_hh = (None if w is None else w.detach().contiguous() for w in weights)
    assert w_ih is not None and w_hh is not None
    hidden = w_hh.shape[1]
    data = torch.empty(library.packed_size(inputs, hidden, backward))
    threads = most_threads() if w_hh.numel() >= _SMALL else 1
    library.pack(
        address("w_ih", w_ih, (3 * hidden, w_ih.shape[1])) if inputs else None,
        address("w_hh", w_hh, (3 * hidden, hidden)),
        None if b_ih is None else address("b_ih", b_ih, (3 * hidden,)),
        None if b_hh is None else address("b_hh", b_hh, (3 * hidden,)),
        inputs,
        hidden,
        reset_after,
        backward,
        threads,
        data.data_ptr(),
    )
    return Packed(data, inputs, library)


@dataclass(frozen=True)
class _Entry:
    packed: Packed
    tensors: tuple[weakref.ref[Tensor] | None, ...]
    versions: tuple[int, ...]
    pointers: tuple[int, ...]
    samples: Tensor


class Store:
    """Packed weights by the tensors they were made from; the least recently used ones go first."""

    def __init__(self, kept: int = KEPT) -> None:
        self._entries: OrderedDict[tuple[object, ...], _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._kept = kept

    def get(self, library: Library, weights: Tensors, *, inputs: int, reset_after: bool) -> Packed:
        """The packed form of these weights, made anew if any of them changed."""
        if any(w is not None and w.is_inference() for w in weights):  # these have no version counter
            return pack(library, weights, inputs=inputs, reset_after=reset_after, backward=False)
        key = (library.isa, inputs, reset_after, *(id(w) for w in weights))
        versions = tuple(-1 if w is None else w._version for w in weights)
        pointers = tuple(0 if w is None else w.data_ptr() for w in weights)
        samples = _sample(weights)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and _fits(entry, weights, versions, pointers, samples):
                self._entries.move_to_end(key)
                return entry.packed
        packed = pack(library, weights, inputs=inputs, reset_after=reset_after, backward=False)
        references = tuple(None if w is None else weakref.ref(w) for w in weights)
        with self._lock:
            self._entries[key] = _Entry(packed, references, versions, pointers, samples)
            while len(self._entries) > self._kept:
                self._entries.popitem(last=False)
        return packed

    def __len__(self) -> int:
        return len(self._entries)


def _sample(weights: Tensors) -> Tensor:
    """A few elements of every tensor, spread over it."""
    parts = [w.detach().reshape(-1)[:: max(1, w.numel() // SAMPLES)] for w in weights if w is not None]
    return torch.cat(parts)


def _fits(
    entry: _Entry, weights: Tensors, versions: tuple[int, ...], pointers: tuple[int, ...], samples: Tensor
) -> bool:
    same = all(
        (r is None and w is None) or (r is not None and r() is w)
        for r, w in zip(entry.tensors, weights, strict=True)
    )
    return same and versions == entry.versions and pointers == entry.pointers and entry.samples.equal(samples)
