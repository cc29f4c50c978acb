"""The `torch` backend: both GRU variants with a hand-written gradient, in plain PyTorch operations.

Where the time goes in a GRU on a CPU is the small operations of each step, so there are few of them: one
product for all inputs, the recurrent weights transposed once, every step written in place into buffers made
beforehand, and a backward pass in coefficient form: all derivatives of the gates are computed for the whole
sequence at once, a step only multiplies them by dh, and the gradients of the weights are one product over
T*B rows each.

It is not the oracle (`reference.py` is, and it serves double backward here), and it needs no compiler.

Ragged lengths cost nothing in the loop: rows run on past their length on zero input, the outputs there are
masked, and the final state is read, and its gradient put back, at the length.

Dimensions: B batch, T time, D input, H hidden.
"""

from typing import Any

import torch
from torch import Tensor

from gatelab.core.backends import fused_after, fused_before, reference
from gatelab.core.backends.spec import Backend, Spec
from gatelab.core.unroll import padding


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
    ) -> tuple[Tensor, Tensor]:
        variant = fused_after if reset_after else fused_before
        resets = reset_steps(reset_mask)
        states, saved = variant.forward(x, h0, w_ih, w_hh, b_ih, b_hh, resets)
        ctx.save_for_backward(x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reset_mask, states, *saved)
        ctx.reset_after, ctx.resets = reset_after, resets
        ctx.set_materialize_grads(False)
        y, final = outputs(states, lengths)
        # backward reads the states, so the caller gets a copy and may change it in place, as nn.GRU's
        return (y.clone() if lengths is None else y), final

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, h0, w_ih, w_hh, b_ih, b_hh, lengths, reset_mask, states, *saved = ctx.saved_tensors
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
            )
            return (*found, None, None, None)
        variant = fused_after if ctx.reset_after else fused_before
        outside = reaching(dy, dh, states, lengths)
        before = entering(states, reset_mask)
        found = variant.backward(outside, x, w_ih, w_hh, before, saved, ctx.resets, ctx.needs_input_grad[:6])
        return (*found, None, None, None)


def reset_steps(reset_mask: Tensor | None) -> dict[int, Tensor]:
    """The steps at which any row resets, each with its mask [B, 1]; most steps of most batches have none."""
    if reset_mask is None:
        return {}
    return {t: reset_mask[t].unsqueeze(-1) for t in reset_mask.any(1).nonzero().flatten().tolist()}


def entering(states: Tensor, reset_mask: Tensor | None) -> Tensor:
    """The state [T, B, H] that each step started from: the one before it, or zero after a reset."""
    before = states[:-1]
    return before if reset_mask is None else before.masked_fill(reset_mask.unsqueeze(-1), 0)


def outputs(states: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """y [T, B, H] and h_n [B, H] from states [T+1, B, H]; h_n is a copy and keeps nothing else alive."""
    y = states[1:]
    if lengths is None:
        return y, states[-1].clone()
    final = states.gather(0, lengths.view(1, -1, 1).expand(1, -1, states.shape[2]))[0]
    return y.masked_fill(padding(lengths, y.shape[0]).unsqueeze(-1), 0), final


def reaching(dy: Tensor | None, dh: Tensor | None, states: Tensor, lengths: Tensor | None) -> Tensor:
    """The gradient [T+1, B, H] that reaches each state from outside: dy after each step, dh at the length."""
    total = torch.zeros_like(states)
    if dy is not None:
        total[1:] = dy
    if lengths is not None:
        total[1:].masked_fill_(padding(lengths, states.shape[0] - 1).unsqueeze(-1), 0)
    if dh is not None:
        if lengths is None:
            total[-1] += dh
        else:
            total.scatter_add_(0, lengths.view(1, -1, 1).expand(1, -1, states.shape[2]), dh.unsqueeze(0))
    return total


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
) -> tuple[Tensor, Tensor]:
    """Run one layer in one direction; the arguments are those of `spec.Run`."""
    tensors = (x, h0, w_ih, w_hh, b_ih, b_hh)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _Fused.apply(x, h0, w_ih, w_hh, b_ih, b_hh, reset_after, lengths, reset_mask)
    variant = fused_after if reset_after else fused_before
    return outputs(variant.infer(x, h0, w_ih, w_hh, b_ih, b_hh, reset_steps(reset_mask)), lengths)


def unsupported(spec: Spec) -> str | None:
    """Only real floating-point numbers: the written gradient has no complex conjugates."""
    return None if spec.dtype.is_floating_point else f"it computes in floating point, not in {spec.dtype}"


BACKEND = Backend("torch", "a hand-written gradient in plain PyTorch operations", run, unsupported)
