"""One layer in one direction: the kernel's forward and backward passes on tensors, without autograd.

This is where memory is laid out and the work is divided: everything that runs from step to step goes to C, products
over all steps go to C where they are narrow and to PyTorch's matrix product where they are wide. The rows of a ragged
batch are walked sorted by length (`plan`), so that the rows still running are the first ones. Buffers are made with
`new_empty` of a tensor of the call: a default dtype or device of PyTorch must not decide what they are.
`__init__.py` makes it differentiable; `csrc/gru.h` says what the buffers hold.

Dimensions: T time, B batch, D input, H hidden, N rows that are computed (the sum of the lengths).
"""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gatelab.core.backends.native.kernel import (
    POOL,
    Call,
    Library,
    Packed,
    PackedStore,
    Tensors,
    address,
    load,
    most_threads,
    pack,
)
from gatelab.core.backends.native.products import rounding_is_allowed

FUSED_INPUTS = 128  # up to this D, W_ih x is computed in the kernel: it spares a pass over memory
FUSED_ROWS = 64  # and up to this N, where a call to the matrix product costs more than it saves
ALONE = 3e5  # multiply-adds of a whole call, below which a second thread does not pay
SPLIT_STEP = 1e5  # multiply-adds of one step, below which a barrier a step does not pay
NARROW = 64  # up to this D, the kernel's own products for dW_ih and dx are the faster ones
SPLIT_WEIGHTS = 320  # from this H on, a core's cache holds its share of the weights but not all of them

STORE = PackedStore()


@dataclass(frozen=True)
class Batch:
    """A batch as the kernel sees it (csrc/gru.h). Without lengths, N = T*B and `order` is None.

    Zoneout comes with it, because it too says which states go on: in training the drawn mask, in evaluation p.
    """

    steps: int
    size: int
    reverse: bool
    resets: Tensor | None  # [T, B] bool, by time and batch row
    drawn: Tensor | None = None  # [T, B, H] bool, by time and batch row: where a unit keeps its state
    p: float = 0.0
    lengths: Tensor | None = None  # [B] int64, longest first
    rows: Tensor | None = None  # [B] int64, the batch row of each place
    order: Tensor | None = None  # [N] int64, the row of x.view(T*B, D) for each row that is computed

    @property
    def count(self) -> int:
        """N, the number of rows that are computed."""
        return self.steps * self.size if self.order is None else self.order.numel()

    def gather(self, x: Tensor) -> Tensor:
        """From x [T, B, F] the rows [N, F] that are computed, in the kernel's order, contiguous."""
        flat = x.reshape(self.steps * self.size, x.shape[2])
        return flat.contiguous() if self.order is None else flat.index_select(0, self.order)

    def scatter(self, rows: Tensor) -> Tensor:
        """The reverse of `gather`: [T, B, F] with zeros where nothing was computed."""
        if self.order is not None:
            rows = rows.new_zeros(self.steps * self.size, rows.shape[1]).index_copy_(0, self.order, rows)
        return rows.view(self.steps, self.size, -1)


def plan(
    steps: int,
    size: int,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    reverse: bool,
    drawn: Tensor | None,
    p: float,
) -> Batch:
    """Sort the rows by length, longest first, and list the rows of the input in the order of the walk.

    `reset_mask[t]` puts a boundary between t-1 and t. Walking backward it is crossed on the way into t-1, so
    there the mask is moved by one; the boundaries before a row's first step and after its last do not count.
    """
    if reset_mask is not None and reverse:
        last = steps - 1 if lengths is None else lengths - 1
        reset_mask = torch.cat((reset_mask[1:], torch.zeros_like(reset_mask[:1])))
        reset_mask = reset_mask & (torch.arange(steps, device="cpu").unsqueeze(1) != last)
    whole = Batch(steps, size, reverse, None if reset_mask is None else reset_mask.contiguous(), drawn, p)
    if lengths is None or bool((lengths == steps).all()):
        return whole
    ordered, rows = lengths.sort(descending=True, stable=True)
    s = torch.arange(steps, device="cpu").unsqueeze(1)
    times = ordered - 1 - s if reverse else s
    return replace(whole, lengths=ordered, rows=rows, order=(times * size + rows)[s < ordered])


@dataclass
class Tape:
    """What forward leaves for backward. Backward overwrites `gates`, so a tape serves once."""

    batch: Batch
    x: Tensor  # [N, D]
    states: Tensor  # [T+1, B, H] or [N, H], rows perhaps apart
    gates: Tensor  # [N, 4H], rows perhaps apart, in `memory`
    memory: Tensor
    reset_after: bool

    def copied(self) -> "Tape":
        """One whose gates may be overwritten while this one is kept."""
        empty = self.gates.new_empty(0)
        return replace(self, gates=torch.empty_like(self.gates).copy_(self.gates), memory=empty)

    def release(self) -> None:
        """Return the large buffer to the pool; the tape must not be used any more."""
        POOL.release(self.memory)


def fused_inputs(batch: Batch, inputs: int, bf16: bool) -> int:
    """D if W_ih x is to be computed in the kernel, else 0; a drawn mask of zoneout is put into W_ih x."""
    fused = batch.drawn is None and (bf16 or inputs <= FUSED_INPUTS or batch.count <= FUSED_ROWS)
    return inputs if fused else 0


def rounds_factors(library: Library, inputs: int, hidden: int) -> bool:
    """Whether the kernel's products in training round their factors to BF16. Two lie in a lane: even sizes only."""
    return hidden % 2 == 0 and inputs % 2 == 0 and rounding_is_allowed(library)


def _threads(batch: Batch, inputs: int, hidden: int) -> tuple[int, bool]:
    """How many threads, and whether they share the hidden units instead of the rows."""
    threads = most_threads()
    row = 3 * hidden * (hidden + inputs)
    if threads == 1 or batch.count * row < ALONE:
        return 1, False
    if (hidden >= SPLIT_WEIGHTS or batch.size < threads) and batch.size * row >= SPLIT_STEP:
        return threads, True
    return min(threads, batch.size), False


def _apart(columns: int) -> int:
    """A stride for rows of so many floats: rows 4096 bytes apart would all fall into the same sets of a cache."""
    return columns + (16 if columns % 1024 == 0 else 0)


def _rows_apart(like: Tensor, rows: int, columns: int) -> Tensor:
    stride = _apart(columns)
    made = like.new_empty(rows, stride)
    return made if stride == columns else made[:, :columns]


def _call(batch: Batch, hidden: int, packed: Packed, reset_after: bool, training: bool) -> Call:
    threads, split = _threads(batch, packed.inputs, hidden)
    call = Call(
        steps=batch.steps,
        batch=batch.size,
        hidden=hidden,
        inputs=packed.inputs,
        reset_after=reset_after,
        reverse=batch.reverse,
        training=training,
        threads=threads,
        split_units=split,
        bf16=packed.bf16,
        packed=packed.data.data_ptr(),
        zoneout=batch.p,
    )
    if batch.lengths is not None and batch.rows is not None:
        call.lengths = address("lengths", batch.lengths, (batch.size,), torch.int64)
        call.rows = address("rows", batch.rows, (batch.size,), torch.int64)
    if batch.resets is not None:
        call.resets = address("reset_mask", batch.resets, (batch.steps, batch.size), torch.bool)
    return call


def forward(
    x: Tensor, h0: Tensor, weights: Tensors, batch: Batch, *, reset_after: bool, training: bool
) -> tuple[Tensor, Tensor, Tape | None]:
    """Run the layer on x [T, B, D] and h0 [B, H].

    Returns y [T, B, H], which is zero past each row's length, h_n [B, H], and the tape when `training`.
    """
    hidden, rows, ragged = h0.shape[1], batch.count, batch.order is not None
    x, h0 = batch.gather(x), h0.contiguous()
    library, inputs = load(), weights[0].shape[1]
    bf16 = training and rounds_factors(library, inputs, hidden)
    fused = fused_inputs(batch, inputs, bf16)
    if training:
        packed = pack(library, weights, inputs=fused, reset_after=reset_after, backward=False, bf16=bf16)
    else:
        packed = STORE.get(library, weights, inputs=fused, reset_after=reset_after)
    call = _call(batch, hidden, packed, reset_after, training)
    call.h0 = address("h0", h0, (batch.size, hidden))
    gates = memory = None
    y = x.new_empty(batch.steps, batch.size, hidden)
    if training:
        stride = _apart(4 * hidden)
        memory = POOL.borrow(rows * stride)
        gates = memory[: rows * stride].view(rows, stride)[:, : 4 * hidden]
        states = _rows_apart(x, rows if ragged else rows + batch.size, hidden)
    else:
        states = _rows_apart(x, 2 * batch.size, hidden)
        if not reset_after:
            gates = _rows_apart(x, batch.size, 4 * hidden)
    h_n = x.new_empty(batch.size, hidden)
    if packed.inputs:
        call.x = address("x", x, (rows, packed.inputs))
    else:
        projected = gates[:, hidden:] if training and gates is not None else x.new_empty(rows, 3 * hidden)
        torch.mm(x, weights[0].t(), out=projected)
        if batch.drawn is not None:  # a gate held at its end keeps the state, and its derivative is zero
            z = projected[:, hidden : 2 * hidden]
            z.masked_fill_(batch.gather(batch.drawn), math.inf if reset_after else -math.inf)
        call.projected, call.projected_stride = projected.data_ptr(), projected.stride(0)
    # these were made above; what came from outside goes through `address`
    call.y, call.h_n = y.data_ptr(), h_n.data_ptr()
    call.states, call.states_stride = states.data_ptr(), states.stride(0)
    if gates is not None:
        call.gates, call.gates_stride = gates.data_ptr(), gates.stride(0)
    packed.library.forward(ctypes.byref(call))
    if gates is None or memory is None:
        return y, h_n, None
    POOL.release(packed.data)
    return y, h_n, Tape(batch, x, states, gates, memory, reset_after)


def backward(
    tape: Tape, dy: Tensor | None, dh_n: Tensor | None, h0: Tensor, weights: Tensors, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """The gradients of (x, h0, w_ih, w_hh, b_ih, b_hh); those not `needed` may be None.

    The kernel turns the tape's gates into gradients, and computes the products where a library's do badly, in BF16 all
    of them. The weights are packed as they are now: of an edit through `.data` since forward, PyTorch's own gradients
    know the same. So it is with h0, which PyTorch reads again for dW_hh alone.
    """
    batch, hidden, library, inputs = tape.batch, tape.states.shape[1], load(), weights[0].shape[1]
    bf16 = rounds_factors(library, inputs, hidden)
    # whether the kernel has the products for dW_hh, and those for dW_ih and dx
    ours_hh = bf16 or batch.count <= FUSED_ROWS
    ours_ih = ours_hh or inputs <= NARROW
    packed_inputs = inputs if ours_ih else 0
    packed = pack(
        library, weights, inputs=packed_inputs, reset_after=tape.reset_after, backward=True, bf16=bf16
    )
    call = _call(batch, hidden, packed, tape.reset_after, True)
    floats = tape.gates.new_empty
    dh0, dbias = floats(batch.size, hidden), floats(4, hidden)
    dx = floats(batch.count, inputs) if needed[0] and ours_ih else None
    dw_ih = floats(3 * hidden, inputs) if needed[2] and ours_ih else None
    dw_hh = floats(3 * hidden, hidden) if needed[3] and ours_hh else None
    work = floats(library.work_size(packed.inputs, batch.size, hidden, call.threads))
    call.gates, call.gates_stride = tape.gates.data_ptr(), tape.gates.stride(0)
    call.states, call.states_stride = tape.states.data_ptr(), tape.states.stride(0)
    if dy is not None:
        dy = dy.contiguous()
        call.dy = address("dy", dy, (batch.steps, batch.size, hidden))
    if dh_n is not None:
        dh_n = dh_n.contiguous()
        call.dh_n = address("dh_n", dh_n, (batch.size, hidden))
    if ours_ih:
        call.x = address("x", tape.x, (batch.count, inputs))
    for name, made in {
        "dh0": dh0,
        "dbias": dbias,
        "work": work,
        "dx": dx,
        "dw_ih": dw_ih,
        "dw_hh": dw_hh,
    }.items():
        setattr(call, name, None if made is None else made.data_ptr())
    library.backward(ctypes.byref(call))
    POOL.release(packed.data)
    gates = tape.gates
    if needed[0] and dx is None:
        dx = torch.mm(gates[:, hidden:], weights[0])
    if needed[2] and dw_ih is None:
        dw_ih = torch.mm(gates[:, hidden:].t(), tape.x)
    if needed[3] and dw_hh is None:
        dw_hh = _recurrent_product(tape)
    first = slice(-batch.size, None) if batch.reverse else slice(batch.size)
    if dw_hh is not None and tape.reset_after and batch.order is None and batch.resets is None:
        then = tape.states[first]
        if not torch.equal(h0, then):
            of_rz, of_n = gates[first, hidden : 3 * hidden], gates[first, :hidden]
            dw_hh += torch.cat((of_rz, of_n), 1).t() @ (h0 - then)
    db_ih = dbias[1:].reshape(-1) if needed[4] else None
    db_hh = torch.cat((dbias[1], dbias[2], dbias[0])) if tape.reset_after and needed[5] else None
    return None if dx is None else batch.scatter(dx), dh0, dw_ih, dw_hh, db_ih, db_hh


def _recurrent_product(tape: Tape) -> Tensor:
    """dW_hh [3H, H] by PyTorch's products."""
    batch, hidden, gates, before = tape.batch, tape.states.shape[1], tape.gates, tape.states
    if batch.order is None:
        before = before[batch.size :] if batch.reverse else before[: -batch.size]
    dw_hh = gates.new_empty(3 * hidden, hidden)
    torch.mm(gates[:, hidden : 3 * hidden].t(), before, out=dw_hh[: 2 * hidden])
    first = gates[:, :hidden]  # d nh, or q = r * h
    if tape.reset_after:
        torch.mm(first.t(), before, out=dw_hh[2 * hidden :])
    else:
        torch.mm(gates[:, 3 * hidden :].t(), first, out=dw_hh[2 * hidden :])
    return dw_hh
