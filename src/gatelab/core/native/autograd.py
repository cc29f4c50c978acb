"""The native layer as a differentiable function of its tensors, in float32 on the CPU.

Without gradients nothing is kept per step but y. A gradient that is to be differentiated again is computed by the
plain loop of the `reference` backend. While PyTorch compiles, the layer is one operation (`operator.py`); when it
does not, that would cost more than the call itself, and the layer is an autograd function.
"""

from typing import Any

import torch
from torch import Tensor

from gatelab.core.native import layer, operator
from gatelab.core.native.batch import Batch, plan
from gatelab.core.native.checks import check_call
from gatelab.core.native.library import load
from gatelab.core.native.weights import Store, Tensors, pack

_STORE = Store()


def _tape(
    rows: Tensor, h0: Tensor, weights: Tensors, batch: Batch, reset_after: bool
) -> tuple[Tensor, Tensor, layer.Tape]:
    """Run forward for training, with weights packed anew."""
    inputs = layer.fused_inputs(batch, rows.shape[1])
    packed = pack(load(), weights, inputs=inputs, reset_after=reset_after, backward=True)
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
        if y._is_view():  # of the states, which backward reads
            y = _as_itself(y)
            ctx.seen = y.detach()  # its version counter is y's, and it does not keep the graph alive
            ctx.version = y._version
        return y, h_n

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dh_n: Tensor | None) -> tuple[Tensor | None, ...]:
        *inputs, lengths, reset_mask = ctx.saved_tensors
        batch, after = ctx.batch, ctx.reset_after
        if torch.is_grad_enabled():
            outer = (dy, dh_n)
            found = _twice_differentiable(
                inputs, ctx.needs_input_grad, outer, after, lengths, reset_mask, batch
            )
            return (*found, *[None] * 4)
        rows, h0, weights = ctx.rows, inputs[1].contiguous(), tuple(inputs[2:])
        tape, ctx.tape = ctx.tape, None
        # an earlier backward pass (retain_graph) has overwritten the gates, or the caller has overwritten y
        if tape is None or (ctx.seen is not None and ctx.seen._version != ctx.version):
            _, _, tape = _tape(rows, h0, weights, batch, after)
        dy = None if dy is None else dy.contiguous()
        dh_n = None if dh_n is None else dh_n.contiguous()
        grads = layer.backward(tape, dy, dh_n, rows, weights[0], ctx.needs_input_grad[:6])
        tape.release()
        return (*grads, *[None] * 4)


def _as_itself(y: Tensor) -> Tensor:
    """The same memory as a tensor that is no view, because autograd lets nobody change a view in place."""
    return torch.empty(0).set_(y.untyped_storage(), y.storage_offset(), y.shape, y.stride())


def _twice_differentiable(
    inputs: list[Tensor | None],
    needed: tuple[bool, ...],
    outer: tuple[Tensor | None, Tensor | None],
    reset_after: bool,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    batch: Batch,
) -> list[Tensor | None]:
    from gatelab.core.backends import reference  # the backends import this module

    return reference.gradient(
        inputs,
        needed,
        outer,
        reset_after=reset_after,
        lengths=lengths,
        reset_mask=reset_mask,
        zoneout=(batch.p or None) if batch.drawn is None else batch.drawn,
        reverse=batch.reverse,
    )


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
    if torch.compiler.is_compiling():
        return operator.call(
            x, h0, *weights, lengths, reset_mask, drawn, reset_after=reset_after, reverse=reverse, p=p
        )
    check_call(x, h0, *weights, lengths, reset_mask, drawn, reset_after)
    steps, size, inputs = x.shape
    batch = plan(steps, size, lengths, reset_mask, reverse, drawn, p)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, h0, *weights)):
        y, h_n = _Native.apply(x, h0, *weights, lengths, reset_mask, batch, reset_after)
        return y, h_n
    packed = _STORE.get(load(), weights, inputs=layer.fused_inputs(batch, inputs), reset_after=reset_after)
    rows = batch.gather(x).contiguous()
    y, h_n, _ = layer.forward(
        rows, h0.contiguous(), w_ih, packed, batch, reset_after=reset_after, training=False
    )
    return y, h_n
