"""The native layer as a differentiable function of its tensors.

Float32 on the CPU only, once differentiable. Without gradients nothing is kept per step but y.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gatelab.core.native import layer
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
        batch: Batch,
        reset_after: bool,
    ) -> tuple[Tensor, Tensor]:
        weights = (w_ih, w_hh, b_ih, b_hh)
        rows, h0 = batch.gather(x).contiguous(), h0.contiguous()
        y, h_n, ctx.tape = _tape(rows, h0, weights, batch, reset_after)
        ctx.save_for_backward(rows, h0, *weights, y)
        ctx.batch, ctx.reset_after = batch, reset_after
        ctx.set_materialize_grads(False)
        return y, h_n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor | None, dh_n: Tensor | None) -> tuple[Tensor | None, ...]:
        rows, h0, *weights, _ = ctx.saved_tensors
        tape, ctx.tape = ctx.tape, None
        if tape is None:  # an earlier backward pass (retain_graph) has overwritten the gates
            _, _, tape = _tape(rows, h0, tuple(weights), ctx.batch, ctx.reset_after)
        dy = None if dy is None else dy.contiguous()
        dh_n = None if dh_n is None else dh_n.contiguous()
        grads = layer.backward(tape, dy, dh_n, rows, weights[0], ctx.needs_input_grad[:6])
        tape.release()
        return (*grads, None, None)


def run(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    *,
    reset_after: bool,
    lengths: Tensor | None = None,
    reset_mask: Tensor | None = None,
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
        reverse: walk each row from its last step to its first.

    Returns:
        y [T, B, H], zero past each length, and h_n [B, H], the state after each row's last step.

    Raises:
        TypeError, ValueError: a tensor that does not fit, by name.
        NativeError: the kernel cannot be had here.
    """
    check_call(x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reset_mask, reset_after)
    steps, size, inputs = x.shape
    batch = plan(steps, size, lengths, reset_mask, reverse)
    weights = (w_ih, w_hh, b_ih, b_hh)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, h0, *weights)):
        y, h_n = _Native.apply(x, h0, *weights, batch, reset_after)
        return y, h_n
    packed = _STORE.get(load(), weights, inputs=layer.fused_inputs(batch, inputs), reset_after=reset_after)
    rows = batch.gather(x.detach()).contiguous()
    y, h_n, _ = layer.forward(
        rows, h0.detach().contiguous(), w_ih.detach(), packed, batch, reset_after=reset_after, training=False
    )
    return y, h_n
