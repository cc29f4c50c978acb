"""The `torch` backend: both GRU variants with a hand-written gradient, in plain PyTorch operations.

Where the time goes in a GRU on a CPU is the small operations of each step, so there are few of them: one
product for all inputs, the recurrent weights transposed once, every step written in place into buffers made
beforehand, and a backward pass in coefficient form: all derivatives of the gates are computed for the whole
sequence at once, a step only multiplies them by dh, and the gradients of the weights are one product over
T*B rows each.

It is not the oracle (`reference.py` is, and it serves double backward here), and it needs no compiler.

With layer normalisation the layer is `fused_norm.py`'s, which works in the same way.

Dimensions: B batch, T time, D input, H hidden.
"""

from typing import Any

import torch
from torch import Tensor

from gatelab.core.backends import fused_after, fused_before, fused_norm, reference
from gatelab.core.backends.fused_sequence import entering, outputs, parts, reaching, reset_steps
from gatelab.core.backends.spec import Backend, Spec


class _Fused(torch.autograd.Function):
    """(y, h_n) from the tensors of `spec.Run`; `fused_after` and `fused_before` hold the gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h0: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None,
        b_hh: Tensor | None,
        reset_after: bool,
        lengths: Tensor | None,
        reset_mask: Tensor | None,
        zoneout: Tensor | float | None,
    ) -> tuple[Tensor, Tensor]:
        variant = fused_after if reset_after else fused_before
        resets = reset_steps(reset_mask)
        drawn, ctx.p = parts(zoneout)
        states, saved = variant.forward(x, h0, w_ih, w_hh, b_ih, b_hh, resets, drawn, ctx.p)
        ctx.save_for_backward(x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reset_mask, drawn, states, *saved)
        ctx.reset_after, ctx.resets = reset_after, resets
        ctx.set_materialize_grads(False)
        y, final = outputs(states, lengths)
        # backward reads the states, so the caller gets a copy and may change it in place, as nn.GRU's
        return (y.clone() if lengths is None else y), final

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reset_mask, drawn, states, *saved = ctx.saved_tensors
        dy, dh = grads
        if torch.is_grad_enabled():
            inputs = (x, h0, w_ih, w_hh, b_ih, b_hh)
            found = reference.gradient(
                inputs,
                ctx.needs_input_grad,
                (dy, dh),
                reset_after=ctx.reset_after,
                lengths=lengths,
                reset_mask=reset_mask,
                zoneout=(ctx.p or None) if drawn is None else drawn,
            )
            return (*found, *[None] * 4)
        variant = fused_after if ctx.reset_after else fused_before
        outside = reaching(dy, dh, states, lengths)
        before = entering(states, reset_mask)
        needed = ctx.needs_input_grad[:6]
        found = variant.backward(outside, x, w_ih, w_hh, before, saved, ctx.resets, ctx.p, needed)
        return (*found, *[None] * 4)


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
) -> tuple[Tensor, Tensor]:
    """Run one layer in one direction; the arguments are those of `spec.Run`."""
    if g_ih is not None and g_hh is not None:
        options = (reset_after, lengths, reset_mask, zoneout)
        return fused_norm.run(x, h0, w_ih, w_hh, b_ih, b_hh, g_ih, g_hh, *options)
    tensors = (x, h0, w_ih, w_hh, b_ih, b_hh)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _Fused.apply(*tensors, reset_after, lengths, reset_mask, zoneout)
    variant = fused_after if reset_after else fused_before
    return outputs(variant.infer(*tensors, reset_steps(reset_mask), *parts(zoneout)), lengths)


def unsupported(spec: Spec) -> str | None:
    """Only real floating-point numbers: the written gradient has no complex conjugates."""
    return None if spec.dtype.is_floating_point else f"it computes in floating point, not in {spec.dtype}"


BACKEND = Backend("torch", "a hand-written gradient in plain PyTorch operations", run, unsupported)
