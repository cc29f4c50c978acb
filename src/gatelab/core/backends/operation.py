"""A GRU layer as a registered operation: what a backend is while PyTorch compiles.

A compiled graph holds such a layer as one node, without a break and for any number of steps, and knows its shapes
without running it. The operation may neither keep memory of its own nor change its arguments: what backward needs
leaves forward as results. A gradient that is to be differentiated again is computed by the plain loop of the
`reference` backend.

Dimensions: T time, B batch, D input, H hidden.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gatelab.core.backends import reference
from gatelab.core.torch_internals import is_transformed

_TENSORS = (
    "Tensor x, Tensor h0, Tensor w_ih, Tensor w_hh, Tensor? b_ih, Tensor? b_hh, "
    "Tensor? lengths, Tensor? reset_mask, Tensor? drawn"
)
_FLAGS = "bool reset_after, bool reverse, float p"
Shapes = tuple[tuple[int, ...], tuple[int, ...]]


def register(
    name: str,
    forward: Callable[..., tuple[Tensor, ...]],
    backward: Callable[..., Sequence[Tensor | None]],
    kept: Callable[..., Shapes],
) -> Callable[..., tuple[Tensor, ...]]:
    """Register the operation `gatelab::NAME` and return it.

    It takes x [T, B, D], h0 [B, H], w_ih, w_hh, b_ih, b_hh, lengths, reset_mask and drawn as in `reference.Run`,
    `reset_after`, `reverse`, zoneout's probability p and whether a gradient will be asked for (`training`), and
    returns y [T, B, H], h_n [B, H], the states and the gates. No two of them share memory, nor one with an argument.

    Args:
        forward: computes it, of the same arguments.
        backward: of dy, dh_n (either may be None), the nine tensors, states, gates, the three flags and which of the
            first six tensors need a gradient: their gradients, None where it is not needed.
        kept: the shapes of states and gates, of x, h0, `reset_after` and `training`.
    """

    @torch.library.custom_op(
        f"gatelab::{name}",
        mutates_args=(),
        schema=f"({_TENSORS}, {_FLAGS}, bool training) -> (Tensor, Tensor, Tensor, Tensor)",
    )
    @reference.without_autocast
    def layer(*arguments: Any) -> tuple[Tensor, ...]:
        return forward(*arguments)

    @layer.register_fake
    def _(x: Tensor, h0: Tensor, *others: Any) -> tuple[Tensor, ...]:
        reset_after, *_, training = others[-4:]
        made = [x.new_empty(shape) for shape in kept(x, h0, reset_after, training)]
        return x.new_empty(x.shape[0], *h0.shape), h0.new_empty(h0.shape), *made

    @torch.library.custom_op(
        f"gatelab::{name}_backward",
        mutates_args=(),
        schema=f"(Tensor? dy, Tensor? dh_n, {_TENSORS}, Tensor states, Tensor gates, {_FLAGS}, bool[] needed) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    )
    @reference.without_autocast
    def layer_backward(dy: Tensor | None, dh_n: Tensor | None, x: Tensor, *others: Any) -> Any:
        found = backward(dy, dh_n, x, *others)
        return tuple(x.new_empty(0) if g is None else g for g in found)

    @layer_backward.register_fake
    def _(dy: Tensor | None, dh_n: Tensor | None, *others: Any) -> Any:
        needed = others[-1]
        return tuple(
            others[0].new_empty(t.shape if n else 0) for t, n in zip(others[:6], needed, strict=True)
        )

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.reset_after, ctx.reverse, ctx.p, _ = inputs
        ctx.save_for_backward(*tensors, *output[2:])
        ctx.set_materialize_grads(False)

    @reference.without_autocast
    def gradient(ctx: Any, dy: Tensor | None, dh_n: Tensor | None, *_kept: Any) -> tuple[Tensor | None, ...]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[:6]
        if torch.is_grad_enabled() or is_transformed():
            *tensors, lengths, reset_mask, drawn = saved[:9]
            how = {"reset_after": ctx.reset_after, "lengths": lengths, "reset_mask": reset_mask}
            zoneout = (ctx.p or None) if drawn is None else drawn
            found = reference.gradient(
                tensors, needed, (dy, dh_n), **how, zoneout=zoneout, reverse=ctx.reverse
            )
            return (*found, *[None] * 7)
        guarded = reference.guarded(needed, saved[0])
        read = [t if t is None or guard else _like(t) for t, guard in zip(saved[:6], guarded, strict=True)]
        grads = layer_backward(dy, dh_n, *read, *saved[6:], ctx.reset_after, ctx.reverse, ctx.p, list(needed))
        return (*(g if n else None for g, n in zip(grads, needed, strict=True)), *[None] * 7)

    layer.register_autograd(gradient, setup_context=save)
    return layer


def _like(tensor: Tensor) -> Tensor:
    """In place of a tensor whose values backward does not read: a graph keeps and guards only what it reads."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
