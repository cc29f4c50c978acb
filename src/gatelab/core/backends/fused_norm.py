"""The layer-normalised GRU of the `torch` backend: both variants with a hand-written gradient.

The normalised input products are made, and differentiated, for the whole sequence at once by PyTorch itself;
written by hand is what runs from step to step. A step has one or two normalisations more than in `fused.py`, each
a single operation, and backward has the same: the derivatives of the gates, times the gains, are computed for the
whole sequence, a step multiplies them by dh and takes them through the normalisation. Kept are the gates and the
raw products W_hh h; their means and deviations are found again in one operation.

`fused_norm_after.py` and `fused_norm_before.py` hold the two variants.

Dimensions: B batch, T time, D input, H hidden.
"""

from typing import Any

import torch
from torch import Tensor

from gatelab.core.backends import fused_norm_after, fused_norm_before, reference
from gatelab.core.backends.fused_sequence import entering, outputs, parts, reaching, reset_steps
from gatelab.core.cells import linear


class _Normalized(torch.autograd.Function):
    """(y, h_n) from i = LN(W_ih x) + b_ih [T, B, 3H], h0 [B, H], w_hh, b_hh and g_hh."""

    @staticmethod
    def forward(
        ctx: Any,
        i: Tensor,
        h0: Tensor,
        w_hh: Tensor,
        b_hh: Tensor | None,
        g_hh: Tensor,
        reset_after: bool,
        lengths: Tensor | None,
        reset_mask: Tensor | None,
        zoneout: Tensor | float | None,
    ) -> tuple[Tensor, Tensor]:
        variant = fused_norm_after if reset_after else fused_norm_before
        resets = reset_steps(reset_mask)
        drawn, ctx.p = parts(zoneout)
        states, saved = variant.forward(i, h0, w_hh, b_hh, g_hh, resets, drawn, ctx.p, keep=True)
        ctx.save_for_backward(i, h0, w_hh, b_hh, g_hh, lengths, reset_mask, drawn, states, *saved)
        ctx.reset_after, ctx.resets = reset_after, resets
        ctx.set_materialize_grads(False)
        y, final = outputs(states, lengths)
        # backward reads the states, so the caller gets a copy and may change it in place, as nn.GRU's
        return (y.clone() if lengths is None else y), final

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        i, h0, w_hh, b_hh, g_hh, lengths, reset_mask, drawn, states, *saved = ctx.saved_tensors
        dy, dh = grads
        if torch.is_grad_enabled():
            results = reference.recur(
                i,
                h0,
                w_hh,
                b_hh,
                g_hh,
                reset_after=ctx.reset_after,
                lengths=lengths,
                reset_mask=reset_mask,
                zoneout=(ctx.p or None) if drawn is None else drawn,
            )
            inputs = (i, h0, w_hh, b_hh, g_hh)
            found = reference.differentiate(results, inputs, ctx.needs_input_grad, (dy, dh))
            return (*found, *[None] * 4)
        variant = fused_norm_after if ctx.reset_after else fused_norm_before
        outside = reaching(dy, dh, states, lengths)
        before = entering(states, reset_mask)
        needed = ctx.needs_input_grad[:5]
        return (*variant.backward(outside, w_hh, g_hh, before, saved, ctx.resets, ctx.p, needed), *[None] * 4)


def run(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    g_ih: Tensor,
    g_hh: Tensor,
    reset_after: bool,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    zoneout: Tensor | float | None,
) -> tuple[Tensor, Tensor]:
    """Run one layer in one direction; the arguments are those of `spec.Run`."""
    i = linear(x, w_ih, b_ih, g_ih, h0.shape[1])
    tensors = (i, h0, w_hh, b_hh, g_hh)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _Normalized.apply(*tensors, reset_after, lengths, reset_mask, zoneout)
    variant = fused_norm_after if reset_after else fused_norm_before
    states, _ = variant.forward(*tensors, reset_steps(reset_mask), *parts(zoneout), keep=False)
    return outputs(states, lengths)
