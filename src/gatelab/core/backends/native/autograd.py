"""The native layer as a differentiable function of its tensors, in float32 on the CPU.

Without gradients nothing is kept per step but y. A gradient that is to be differentiated again is computed by the
plain loop of the `reference` backend.

In eager mode the layer is an autograd function. While PyTorch compiles, it is a registered operation,
`gatelab::gru_layer` with `gatelab::gru_layer_backward`, so that the graph has one node and is not broken. Such an
operation may neither keep memory of its own nor change its arguments: what backward needs leaves forward as results,
and backward works on a copy, which would cost an eager call more than the call itself.

Dimensions: T time, B batch, D input, H hidden.
"""

from typing import Any

import torch
from torch import Tensor

from gatelab.core.backends import reference
from gatelab.core.backends.native import layer
from gatelab.core.backends.native.kernel import Packed, PackedStore, Tensors, check_call, load, pack
from gatelab.core.backends.native.layer import Batch, plan
from gatelab.core.torch_internals import is_view, version

_STORE = PackedStore()


def _pack(batch: Batch, weights: Tensors, reset_after: bool, backward: bool) -> Packed:
    """Pack the weights anew for one call."""
    inputs = layer.fused_inputs(batch, weights[0].shape[1])
    return pack(load(), weights, inputs=inputs, reset_after=reset_after, backward=backward)


def _tape(
    rows: Tensor, h0: Tensor, weights: Tensors, batch: Batch, reset_after: bool
) -> tuple[Tensor, Tensor, layer.Tape]:
    """Run forward for training, with weights packed anew."""
    packed = _pack(batch, weights, reset_after, True)
    y, h_n, tape = layer.forward(rows, h0, weights[0], packed, batch, reset_after=reset_after, training=True)
    assert tape is not None
    return y, h_n, tape


class _Native(torch.autograd.Function):
    """(y, h_n) of one layer in one direction."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h0: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None,
        b_hh: Tensor | None,
        lengths: Tensor | None,
        reset_mask: Tensor | None,
        batch: Batch,
        reset_after: bool,
    ) -> tuple[Tensor, Tensor]:
        weights = (w_ih, w_hh, b_ih, b_hh)
        ctx.rows = batch.gather(x).contiguous()
        y, h_n, ctx.tape = _tape(ctx.rows, h0.contiguous(), weights, batch, reset_after)
        ctx.save_for_backward(x, h0, *weights, lengths, reset_mask)
        ctx.batch, ctx.reset_after = batch, reset_after
        ctx.set_materialize_grads(False)
        ctx.seen = None
        if is_view(y):  # of the states, which backward reads
            y = _as_itself(y)
            ctx.seen = y.detach()  # its version counter is y's, and it does not keep the graph alive
            ctx.version = version(y)
        return y, h_n

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dh_n: Tensor | None) -> tuple[Tensor | None, ...]:
        *inputs, lengths, reset_mask = ctx.saved_tensors
        batch, after = ctx.batch, ctx.reset_after
        if torch.is_grad_enabled():
            found = reference.gradient(
                inputs,
                ctx.needs_input_grad,
                (dy, dh_n),
                reset_after=after,
                lengths=lengths,
                reset_mask=reset_mask,
                zoneout=(batch.p or None) if batch.drawn is None else batch.drawn,
                reverse=batch.reverse,
            )
            return (*found, *[None] * 4)
        rows, h0, weights = ctx.rows, inputs[1].contiguous(), tuple(inputs[2:])
        tape, ctx.tape = ctx.tape, None
        # an earlier backward pass (retain_graph) has overwritten the gates, or the caller has overwritten y
        if tape is None or (ctx.seen is not None and version(ctx.seen) != ctx.version):
            _, _, tape = _tape(rows, h0, weights, batch, after)
        dy = None if dy is None else dy.contiguous()
        dh_n = None if dh_n is None else dh_n.contiguous()
        grads = layer.backward(tape, dy, dh_n, rows, weights[0], ctx.needs_input_grad[:6])
        tape.release()
        return (*grads, *[None] * 4)


def _as_itself(y: Tensor) -> Tensor:
    """The same memory as a tensor that is no view, because autograd lets nobody change a view in place."""
    return torch.empty(0).set_(y.untyped_storage(), y.storage_offset(), y.shape, y.stride())


_TENSORS = (
    "Tensor x, Tensor h0, Tensor w_ih, Tensor w_hh, Tensor? b_ih, Tensor? b_hh, "
    "Tensor? lengths, Tensor? reset_mask, Tensor? drawn"
)
_FLAGS = "bool reset_after, bool reverse, float p"


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
def _layer(
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
    batch = plan(x.shape[0], x.shape[1], lengths, reset_mask, reverse, drawn, p)
    packed = _pack(batch, (w_ih, w_hh, b_ih, b_hh), reset_after, training)
    rows = batch.gather(x).contiguous()
    y, h_n, tape = layer.forward(
        rows, h0.contiguous(), w_ih, packed, batch, reset_after=reset_after, training=training
    )
    states, gates = (x.new_empty(shape) for shape in _tape_sizes(x, h0, training))
    if tape is not None:
        for kept, found in ((states, tape.states), (gates, tape.gates)):
            kept[: found.shape[0]] = found
            kept[found.shape[0] :] = 0
        y = y.clone() if is_view(y) else y
        tape.release()
    return y, h_n, states, gates


@_layer.register_fake
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
def _layer_backward(
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
    batch = plan(x.shape[0], x.shape[1], lengths, reset_mask, reverse, drawn, p)
    packed = _pack(batch, (w_ih, w_hh, b_ih, b_hh), reset_after, True)
    rows, count = batch.gather(x).contiguous(), batch.count
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


@_layer_backward.register_fake
def _(dy: Tensor, dh_n: Tensor, *others: Any) -> tuple[Tensor, ...]:
    return tuple(dy.new_empty(0) if t is None else t.new_empty(t.shape) for t in others[:6])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.reset_after, ctx.reverse, ctx.p, _ = inputs
    ctx.save_for_backward(*tensors, *output[2:])


def _gradient(ctx: Any, dy: Tensor, dh_n: Tensor, *_tape: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    grads = _layer_backward(dy, dh_n, *saved, ctx.reset_after, ctx.reverse, ctx.p)
    return (*(None if t is None else g for g, t in zip(grads, saved, strict=False)), *[None] * 7)


_layer.register_autograd(_gradient, setup_context=_save)


def run(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    g_ih: Tensor | None = None,
    g_hh: Tensor | None = None,
    *,
    reset_after: bool,
    lengths: Tensor | None = None,
    reset_mask: Tensor | None = None,
    zoneout: Tensor | float | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run one layer in one direction.

    Args:
        x: [T, B, D] float32; h0: [B, H]; w_ih: [3H, D]; w_hh: [3H, H]; b_ih, b_hh: [3H] or None, all rows in
            the order (r, z, n).
        reset_after: True for `nn.GRU`'s variant, False for the reset gate before the product (no b_hh then).
        lengths: [B] int64, in any order; row b runs for lengths[b] steps.
        reset_mask: [T, B] bool, True where the state is zero before step t (walking backward the same
            boundaries hold: the state is zero on the way from t to t-1).
        zoneout: [T, B, H] bool in the order of time, True where a unit keeps its state; or the probability, for
            the expectation.
        reverse: walk each row from its last step to its first.

    Returns:
        y [T, B, H], zero past each length, and h_n [B, H], the state after each row's last step.

    Raises:
        TypeError, ValueError: a tensor that does not fit, by name.
        NativeError: the kernel cannot be had here.
    """
    if g_ih is not None or g_hh is not None:
        raise ValueError("the kernel has no layer normalisation: g_ih and g_hh must be None")
    drawn, p = (zoneout, 0.0) if isinstance(zoneout, Tensor) else (None, zoneout or 0.0)
    weights = (w_ih, w_hh, b_ih, b_hh)
    training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, h0, *weights))
    if torch.compiler.is_compiling():
        how = (reset_after, reverse, p, training)
        y, h_n, _, _ = _layer(x, h0, *weights, lengths, reset_mask, drawn, *how)
        return y, h_n
    check_call(x, h0, *weights, lengths, reset_mask, drawn, reset_after)
    steps, size, inputs = x.shape
    batch = plan(steps, size, lengths, reset_mask, reverse, drawn, p)
    if training:
        y, h_n = _Native.apply(x, h0, *weights, lengths, reset_mask, batch, reset_after)
        return y, h_n
    packed = _STORE.get(load(), weights, inputs=layer.fused_inputs(batch, inputs), reset_after=reset_after)
    rows = batch.gather(x).contiguous()
    y, h_n, _ = layer.forward(
        rows, h0.contiguous(), w_ih, packed, batch, reset_after=reset_after, training=False
    )
    return y, h_n
