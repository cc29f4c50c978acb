"""The native layer as registered operations, so that `torch.compile` sees one node and its graph is not broken.

`gatelab::gru_layer` and `gatelab::gru_layer_backward` have kernels, fake kernels (shapes only) and a gradient. A
registered operation may neither keep memory of its own nor change its arguments, so what backward needs leaves
forward as results, and backward works on a copy: in eager mode `autograd.py` avoids both.

Dimensions: B batch, T time, D input, H hidden.
"""

from typing import Any

import torch
from torch import Tensor

from gatelab.core.native import layer
from gatelab.core.native.batch import Batch, plan
from gatelab.core.native.checks import check_call
from gatelab.core.native.library import load
from gatelab.core.native.weights import Packed, Tensors, pack

_TENSORS = (
    "Tensor x, Tensor h0, Tensor w_ih, Tensor w_hh, Tensor? b_ih, Tensor? b_hh, "
    "Tensor? lengths, Tensor? reset_mask, Tensor? drawn"
)
_FLAGS = "bool reset_after, bool reverse, float p"


def _prepare(
    x: Tensor,
    weights: Tensors,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    drawn: Tensor | None,
    reset_after: bool,
    reverse: bool,
    p: float,
    training: bool,
) -> tuple[Batch, Tensor, Packed]:
    """The plan of the walk, the rows [N, D] of x in its order, and the packed weights."""
    steps, size, width = x.shape
    batch = plan(steps, size, lengths, reset_mask, reverse, drawn, p)
    inputs = layer.fused_inputs(batch, width)
    packed = pack(load(), weights, inputs=inputs, reset_after=reset_after, backward=training)
    return batch, batch.gather(x).contiguous(), packed


def _tape_sizes(x: Tensor, h0: Tensor, training: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """The shapes of the states and of the gates that leave forward, for rows of any length."""
    steps, size, hidden = x.shape[0], x.shape[1], h0.shape[1]
    if not training:
        return (0, hidden), (0, 4 * hidden)
    return ((steps + 1) * size, hidden), (steps * size, 4 * hidden)


@torch.library.custom_op(
    "gatelab::gru_layer",
    mutates_args=(),
    device_types="cpu",
    schema=f"({_TENSORS}, {_FLAGS}, bool training) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _forward(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    drawn: Tensor | None,
    reset_after: bool,
    reverse: bool,
    p: float,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_call(x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reset_mask, drawn, reset_after)
    weights = (w_ih, w_hh, b_ih, b_hh)
    how = (lengths, reset_mask, drawn, reset_after, reverse, p)
    batch, rows, packed = _prepare(x, weights, *how, training)
    y, h_n, tape = layer.forward(
        rows, h0.contiguous(), w_ih, packed, batch, reset_after=reset_after, training=training
    )
    states, gates = (x.new_empty(shape) for shape in _tape_sizes(x, h0, training))
    if tape is not None:
        for kept, found in ((states, tape.states), (gates, tape.gates)):
            kept[: found.shape[0]] = found
            kept[found.shape[0] :] = 0
        y = y.clone() if y._is_view() else y
        tape.release()
    return y, h_n, states, gates


@_forward.register_fake
def _(x: Tensor, h0: Tensor, *others: Any) -> tuple[Tensor, ...]:
    states, gates = (x.new_empty(shape) for shape in _tape_sizes(x, h0, others[-1]))
    return x.new_empty(x.shape[0], *h0.shape), h0.new_empty(h0.shape), states, gates


@torch.library.custom_op(
    "gatelab::gru_layer_backward",
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor dy, Tensor dh_n, {_TENSORS}, Tensor states, Tensor gates, {_FLAGS}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward(
    dy: Tensor,
    dh_n: Tensor,
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    drawn: Tensor | None,
    states: Tensor,
    gates: Tensor,
    reset_after: bool,
    reverse: bool,
    p: float,
) -> tuple[Tensor, ...]:
    weights = (w_ih, w_hh, b_ih, b_hh)
    how = (lengths, reset_mask, drawn, reset_after, reverse, p)
    batch, rows, packed = _prepare(x, weights, *how, True)
    count = batch.count
    tape = layer.Tape(
        batch,
        packed,
        states if batch.order is None else states[:count],
        gates[:count].clone(),  # the kernel overwrites it
        gates.new_empty(0),
        reset_after,
    )
    needed = (True, True, True, True, b_ih is not None, b_hh is not None)
    grads = layer.backward(tape, dy.contiguous(), dh_n.contiguous(), rows, w_ih, needed)
    tape.release()
    return tuple(x.new_empty(0) if not n or g is None else g for n, g in zip(needed, grads, strict=True))


@_backward.register_fake
def _(dy: Tensor, dh_n: Tensor, *others: Any) -> tuple[Tensor, ...]:
    return tuple(dy.new_empty(0) if t is None else t.new_empty(t.shape) for t in others[:6])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.reset_after, ctx.reverse, ctx.p, _ = inputs
    ctx.save_for_backward(*tensors, *output[2:])


def _gradient(ctx: Any, dy: Tensor, dh_n: Tensor, *_tape: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    grads = _backward(dy, dh_n, *saved, ctx.reset_after, ctx.reverse, ctx.p)
    return (*(None if t is None else g for g, t in zip(grads, saved, strict=False)), *[None] * 7)


_forward.register_autograd(_gradient, setup_context=_save)


def call(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    drawn: Tensor | None,
    *,
    reset_after: bool,
    reverse: bool,
    p: float,
) -> tuple[Tensor, Tensor]:
    """Run one layer in one direction through the registered operations; the arguments are `autograd.run`'s.

    `drawn` and p are the two forms of its zoneout.
    """
    tensors = (x, h0, w_ih, w_hh, b_ih, b_hh)
    training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    y, h_n, _, _ = _forward(*tensors, lengths, reset_mask, drawn, reset_after, reverse, p, training)
    return y, h_n
