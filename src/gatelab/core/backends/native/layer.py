"""One layer in one direction: the kernel's forward and backward passes on tensors, without autograd.

This is where memory is laid out and the work is divided: everything that runs from step to step goes to C, products
over all steps go to C where they are narrow and to PyTorch's matrix product where they are wide. The rows of a ragged
batch are walked sorted by length (`plan`), so that the rows still running are the first ones.
`autograd.py` makes it differentiable; `csrc/gru.h` says what the buffers hold.

Dimensions: T time, B batch, D input, H hidden, N rows that are computed (the sum of the lengths).
"""

import ctypes
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gatelab.core.backends.native.kernel import POOL, Call, Packed, address, load, most_threads

FUSED_INPUTS = 128  # up to this D, W_ih x is computed in the kernel: it spares a pass over memory
FUSED_ROWS = 64  # and up to this N, where a call to the matrix product costs more than it saves
ALONE = 3e5  # multiply-adds of a whole call, below which a second thread does not pay
SPLIT_STEP = 1e5  # multiply-adds of one step, below which a barrier a step does not pay
NARROW = 64  # up to this D, the kernel's own products for dW_ih and dx are the faster ones
MOST_CALLS = 64  # prepared calls that are kept with a layer's packed weights
SPLIT_WEIGHTS = 320  # from this H on, a core's cache holds its share of the weights but not all of them
ONE_COPIES = 1 << 16  # floats below which one thread copies faster than two


@dataclass(frozen=True)
class Batch:
    """A batch as the kernel sees it (csrc/gru.h). Without lengths, N = T*B and `order` is None.

    Zoneout comes with it, because it too says which states go on: in training the drawn mask, in evaluation p.
    """

    steps: int
    size: int
    reverse: bool
    resets: Tensor | None  # [T, B] bool, by time and batch row
    lengths: Tensor | None = None  # [B] int64, longest first
    rows: Tensor | None = None  # [B] int64, the batch row of each place
    order: Tensor | None = None  # [N] int64, the row of x.view(T*B, D) for each row that is computed
    listed: Tensor | None = None  # [T*B] int64: `order`, then the rows past the lengths
    drawn: Tensor | None = None  # [T, B, H] bool, by time and batch row: where a unit keeps its state
    p: float = 0.0

    @property
    def count(self) -> int:
        """N, the number of rows that are computed."""
        return self.steps * self.size if self.order is None else self.order.numel()

    def gather(self, x: Tensor) -> Tensor:
        """From x [T, B, F] the rows [N, F] that are computed, in the kernel's order."""
        flat = x.reshape(self.steps * self.size, x.shape[2])
        return flat if self.order is None else flat.index_select(0, self.order)

    def scatter(self, rows: Tensor) -> Tensor:
        """The reverse of `gather`: [T, B, F] with zeros where nothing was computed."""
        if self.listed is None:
            return rows.view(self.steps, self.size, -1)
        count, width = rows.shape
        padded = torch.empty(self.steps, self.size, width)
        threads = most_threads() if padded.numel() > ONE_COPIES else 1
        source = address("rows", rows, (self.count, width))
        listed = self.listed.data_ptr()
        load().spread(source, listed, count, self.listed.numel(), width, threads, padded.data_ptr())
        return padded


def plan(
    steps: int,
    size: int,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    reverse: bool = False,
    drawn: Tensor | None = None,
    p: float = 0.0,
) -> Batch:
    """Sort the rows by length, longest first, and list the rows of the input in the order of the walk.

    `reset_mask[t]` puts a boundary between t-1 and t. Walking backward it is crossed on the way into t-1, so
    there the mask is moved by one; the boundaries before a row's first step and after its last do not count.
    """
    if reset_mask is not None and reverse:
        last = torch.full((size,), steps - 1) if lengths is None else lengths - 1
        reset_mask = torch.cat((reset_mask[1:], torch.zeros_like(reset_mask[:1])))
        reset_mask = reset_mask & (torch.arange(steps).unsqueeze(1) != last)
    resets = None if reset_mask is None else reset_mask.contiguous()
    if lengths is None:
        return Batch(steps, size, reverse, resets, drawn=drawn, p=p)
    ordered, rows = lengths.sort(descending=True, stable=True)
    listed = torch.empty(steps * size, dtype=torch.int64)
    places = (address("lengths", t, (size,), torch.int64) for t in (ordered, rows))
    count = load().order(*places, steps, size, reverse, listed.data_ptr())
    if count == steps * size:
        return Batch(steps, size, reverse, resets, drawn=drawn, p=p)
    return Batch(steps, size, reverse, resets, ordered, rows, listed[:count], listed, drawn, p)


@dataclass
class Tape:
    """What forward leaves for backward. Backward overwrites `gates`, so a tape serves once."""

    batch: Batch
    packed: Packed
    states: Tensor  # [T+1, B, H] or [N, H], rows perhaps apart
    gates: Tensor  # [N, 4H], rows perhaps apart, in `memory`
    memory: Tensor
    reset_after: bool

    def release(self) -> None:
        """Return the large buffers to the pool; the tape must not be used any more."""
        POOL.release(self.memory)
        POOL.release(self.packed.data)


def fused_inputs(batch: Batch, inputs: int) -> int:
    """D if the kernel is to compute W_ih x itself, else 0: drawn masks of zoneout are put into W_ih x."""
    if batch.drawn is not None:
        return 0
    return inputs if inputs <= FUSED_INPUTS or batch.count <= FUSED_ROWS else 0


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


def _rows_apart(rows: int, columns: int) -> Tensor:
    stride = _apart(columns)
    return torch.empty(rows, columns) if stride == columns else torch.empty(rows, stride)[:, :columns]


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
        packed=packed.data.data_ptr(),
        zoneout=batch.p,
    )
    if batch.lengths is not None and batch.rows is not None:
        call.lengths = address("lengths", batch.lengths, (batch.size,), torch.int64)
        call.rows = address("rows", batch.rows, (batch.size,), torch.int64)
    if batch.resets is not None:
        call.resets = address("reset_mask", batch.resets, (batch.steps, batch.size), torch.bool)
    return call


def _prepared(batch: Batch, hidden: int, packed: Packed, reset_after: bool) -> Call:
    """A call for inference on plain rows, kept with the packed weights: a single step is over in microseconds."""
    key = (batch.steps, batch.size, batch.reverse, most_threads(), batch.p)
    call = packed.calls.get(key)
    if call is None:
        if len(packed.calls) >= MOST_CALLS:
            packed.calls.clear()
        call = packed.calls[key] = _call(batch, hidden, packed, reset_after, False)
    return Call.from_buffer_copy(call)  # several threads may run it at once


def forward(
    x: Tensor, h0: Tensor, w_ih: Tensor, packed: Packed, batch: Batch, *, reset_after: bool, training: bool
) -> tuple[Tensor, Tensor, Tape | None]:
    """Run the layer on x [N, D] (see `Batch.gather`) and h0 [B, H]; the arguments must be contiguous.

    Returns y [T, B, H], which is zero past each row's length, h_n [B, H], and the tape when `training`.
    """
    hidden, rows, ragged = h0.shape[1], batch.count, batch.order is not None
    if training or ragged or batch.resets is not None:
        call = _call(batch, hidden, packed, reset_after, training)
    else:
        call = _prepared(batch, hidden, packed, reset_after)
    call.h0 = address("h0", h0, (batch.size, hidden))
    gates = states = y = memory = None
    if training:
        stride = _apart(4 * hidden)
        memory = POOL.borrow(rows * stride)
        gates = memory[: rows * stride].view(rows, stride)[:, : 4 * hidden]
        states = _rows_apart(rows if ragged else rows + batch.size, hidden)
        if not ragged and batch.resets is None and states.is_contiguous():
            y = (states[: -batch.size] if batch.reverse else states[batch.size :]).view(
                batch.steps, batch.size, hidden
            )
    else:
        states = _rows_apart(2 * batch.size, hidden)
        if not reset_after:
            gates = _rows_apart(batch.size, 4 * hidden)
    if y is None:
        y = torch.empty(batch.steps, batch.size, hidden)
    h_n = torch.empty(batch.size, hidden)
    if packed.inputs:
        call.x = address("x", x, (rows, packed.inputs))
    else:
        projected = gates[:, hidden:] if training and gates is not None else torch.empty(rows, 3 * hidden)
        torch.mm(x, w_ih.t(), out=projected)
        if batch.drawn is not None:  # a gate held at its end keeps the state, and its derivative is zero
            z = projected[:, hidden : 2 * hidden]
            z.masked_fill_(batch.gather(batch.drawn), math.inf if reset_after else -math.inf)
        call.projected = projected.data_ptr()
        call.projected_stride = projected.stride(0)
    # these were made above; what came from outside goes through `address`
    call.y, call.h_n, call.states = y.data_ptr(), h_n.data_ptr(), states.data_ptr()
    call.states_stride = states.stride(0)
    if gates is not None:
        call.gates = gates.data_ptr()
        call.gates_stride = gates.stride(0)
    packed.library.forward(ctypes.byref(call))
    if gates is None or memory is None:
        return y, h_n, None
    return y, h_n, Tape(batch, packed, states, gates, memory, reset_after)


def _products_here(batch: Batch, inputs: int) -> tuple[bool, bool]:
    """Whether the kernel's own products serve for dW_hh, and for dW_ih and dx: where a library's do badly."""
    few = batch.count <= FUSED_ROWS
    return few, inputs > 0 and (few or inputs <= NARROW)


def through_time(
    tape: Tape, dy: Tensor | None, dh_n: Tensor | None, x: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor, ...]:
    """Turn the tape's gates into gradients.

    Returns dh0 [B, H], the gradients' sums over the rows [4, H], and dx [N, D], dW_ih, dW_hh where they are `needed`
    and the kernel computes them itself (else empty).
    """
    batch, hidden, inputs = tape.batch, tape.states.shape[1], tape.packed.inputs
    call = _call(batch, hidden, tape.packed, tape.reset_after, True)
    library = tape.packed.library
    dh0, dbias = torch.empty(batch.size, hidden), torch.empty(4, hidden)
    work = torch.empty(library.work_size(inputs, batch.size, hidden, call.threads))
    call.gates, call.gates_stride = tape.gates.data_ptr(), tape.gates.stride(0)
    call.states, call.states_stride = tape.states.data_ptr(), tape.states.stride(0)
    if dy is not None:
        call.dy = address("dy", dy, (batch.steps, batch.size, hidden))
    if dh_n is not None:
        call.dh_n = address("dh_n", dh_n, (batch.size, hidden))
    call.dh0, call.dbias, call.work = dh0.data_ptr(), dbias.data_ptr(), work.data_ptr()
    recurrent, input = _products_here(batch, inputs)
    dx = torch.empty(batch.count if needed[0] and input else 0, inputs)
    dw_ih = torch.empty(3 * hidden if needed[2] and input else 0, inputs)
    dw_hh = torch.empty(3 * hidden if needed[3] and recurrent else 0, hidden)
    if dx.numel():
        call.dx = dx.data_ptr()
    if dw_ih.numel():
        call.x = address("x", x, (batch.count, inputs))
        call.dw_ih = dw_ih.data_ptr()
    if dw_hh.numel():
        call.dw_hh = dw_hh.data_ptr()
    library.backward(ctypes.byref(call))
    return dh0, dbias, dx, dw_ih, dw_hh


def backward(
    tape: Tape, dy: Tensor | None, dh_n: Tensor | None, x: Tensor, w_ih: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """The gradients of (x, h0, w_ih, w_hh, b_ih, b_hh); those not `needed` may be None.

    x [N, D] is what forward got; its gradient comes back as [T, B, D].
    """
    batch, hidden = tape.batch, tape.states.shape[1]
    dh0, dbias, *products = through_time(tape, dy, dh_n, x, needed)
    recurrent, input = _products_here(batch, tape.packed.inputs)
    dx, dw_ih, dw_hh = (
        found if n else None for found, n in zip(products, (needed[0], *needed[2:4]), strict=True)
    )
    gates = tape.gates
    if not input:
        dx = torch.mm(gates[:, hidden:], w_ih) if needed[0] else None
        dw_ih = torch.mm(gates[:, hidden:].t(), x) if needed[2] else None
    if needed[3] and not recurrent:
        dw_hh = _recurrent_product(tape)
    db_ih = dbias[1:].reshape(-1) if needed[4] else None
    db_hh = torch.cat((dbias[1], dbias[2], dbias[0])) if tape.reset_after and needed[5] else None
    return None if dx is None else batch.scatter(dx), dh0, dw_ih, dw_hh, db_ih, db_hh


def _recurrent_product(tape: Tape) -> Tensor:
    """dW_hh [3H, H] by PyTorch's products."""
    batch, hidden, gates, before = tape.batch, tape.states.shape[1], tape.gates, tape.states
    if batch.order is None:
        before = before[batch.size :] if batch.reverse else before[: -batch.size]
    dw_hh = torch.empty(3 * hidden, hidden)
    torch.mm(gates[:, hidden : 3 * hidden].t(), before, out=dw_hh[: 2 * hidden])
    first = gates[:, :hidden]  # d nh, or q = r * h
    if tape.reset_after:
        torch.mm(first.t(), before, out=dw_hh[2 * hidden :])
    else:
        torch.mm(gates[:, 3 * hidden :].t(), first, out=dw_hh[2 * hidden :])
    return dw_hh
