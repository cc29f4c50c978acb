"""The `native` backend: a GRU layer in C, for float32 on a CPU, as a differentiable function of its tensors.

It has both variants, ragged lengths, resets, both directions and zoneout, but no layer normalisation. The kernel is
built when the package is installed (`compile.py`). Why it cannot be had here is settled once, when this module is
imported: building it later shows in the next process.

Without gradients nothing is kept per step but y. A gradient that is to be differentiated again is computed by the
plain loop of the `reference` backend.

In eager mode the layer is an autograd function. While PyTorch compiles, it is a registered operation (`operation.py`),
`gatelab::gru_native`, whose backward pass works on a copy: that would cost an eager call more than the call itself.

Dimensions: T time, B batch, D input, H hidden.
"""

from typing import Any, cast

import torch
from torch import Tensor

from gatelab.core.backends import operation, reference
from gatelab.core.backends.native import layer
from gatelab.core.backends.native.kernel import NativeError, Tensors, check_call, load, unavailable
from gatelab.core.backends.native.layer import Batch, plan
from gatelab.core.backends.reference import Backend, Spec
from gatelab.core.cells import Weights
from gatelab.core.torch_internals import keeps_graph

__all__ = ["BACKEND", "NativeError", "load", "run", "unavailable"]

UNAVAILABLE = unavailable()


class _Native(torch.autograd.Function):
    """(y, h_n) of one layer in one direction; the tensors are x, h0, w_ih, w_hh, b_ih and b_hh."""

    @staticmethod
    def forward(
        ctx: Any,
        batch: Batch,
        reset_after: bool,
        lengths: Tensor | None,
        reset_mask: Tensor | None,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        x, h0, *weights = cast(Any, tensors)
        y, h_n, ctx.tape = layer.forward(x, h0, weights, batch, reset_after=reset_after, training=True)
        reference.save(ctx, tensors, lengths, reset_mask)
        ctx.batch, ctx.reset_after = batch, reset_after
        ctx.set_materialize_grads(False)
        return y, h_n

    @staticmethod
    @reference.without_autocast
    def backward(ctx: Any, dy: Tensor | None, dh_n: Tensor | None) -> tuple[Tensor | None, ...]:
        found, (lengths, reset_mask) = reference.saved(ctx)
        batch, needed = ctx.batch, ctx.needs_input_grad[4:]
        if reference.must_be_plain((dy, dh_n)):
            reference.check_unmoved(ctx, found)
            plain = reference.gradient(
                found.tensors,
                needed,
                (dy, dh_n),
                reset_after=ctx.reset_after,
                lengths=lengths,
                reset_mask=reset_mask,
                zoneout=(batch.p or None) if batch.drawn is None else batch.drawn,
                reverse=batch.reverse,
            )
            return (*[None] * 4, *plain)
        if keeps_graph():  # for another backward pass: this one overwrites the gates
            tape = ctx.tape.copied()
        else:
            tape, ctx.tape = ctx.tape, None
        _, h0, *weights = found.read
        grads = layer.backward(tape, dy, dh_n, h0, cast(Tensors, weights), needed)
        tape.release()
        return (*[None] * 4, *grads)


def _layer_forward(x: Tensor, h0: Tensor, *others: Any) -> tuple[Tensor, ...]:
    """The registered operation's forward pass; see `operation.register`."""
    *found, lengths, reset_mask, drawn, reset_after, reverse, p, training = others
    weights = cast(Tensors, found)
    check_call(x, h0, weights, lengths, reset_mask, drawn, reset_after)
    batch = plan(x.shape[0], x.shape[1], lengths, reset_mask, reverse, drawn, p)
    y, h_n, tape = layer.forward(x, h0, weights, batch, reset_after=reset_after, training=training)
    states, gates = (x.new_empty(shape) for shape in _kept(x, h0, reset_after, training))
    if tape is not None:
        for kept, made in ((states, tape.states), (gates, tape.gates)):
            kept[: made.shape[0]] = made
            kept[made.shape[0] :] = 0
        tape.release()
    return y, h_n, states, gates


def _layer_backward(
    dy: Tensor | None, dh_n: Tensor | None, x: Tensor, h0: Tensor, *others: Any
) -> tuple[Tensor | None, ...]:
    """Its backward pass, on a copy of the gates, which the kernel overwrites."""
    *found, lengths, reset_mask, drawn, states, gates, reset_after, reverse, p, needed = others
    batch = plan(x.shape[0], x.shape[1], lengths, reset_mask, reverse, drawn, p)
    states, gates = states if batch.order is None else states[: batch.count], gates[: batch.count]
    tape = layer.Tape(batch, batch.gather(x), states, gates.clone(), gates.new_empty(0), reset_after)
    return layer.backward(tape, dy, dh_n, h0, cast(Tensors, found), needed)


def _kept(x: Tensor, h0: Tensor, reset_after: bool, training: bool) -> operation.Shapes:
    """The shapes of the states and of the gates, for rows of any length."""
    steps, size, hidden = x.shape[0], x.shape[1], h0.shape[1]
    if not training:
        return (0, hidden), (0, 4 * hidden)
    return ((steps + 1) * size, hidden), (steps * size, 4 * hidden)


_layer = operation.register("gru_native", _layer_forward, _layer_backward, _kept)


def run(
    x: Tensor,
    h0: Tensor,
    *weights: Tensor | None,
    reset_after: bool,
    lengths: Tensor | None = None,
    reset_mask: Tensor | None = None,
    zoneout: Tensor | float | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run one layer in one direction; the arguments are those of `reference.Run`, in float32.

    `reverse` walks each row from its last step to its first, on tensors in the order of time: the same boundaries
    hold, so the state is zero on the way from t to t-1 where `reset_mask[t]` is set.

    Raises:
        TypeError, ValueError: a tensor that does not fit, by name.
        NativeError: the kernel cannot be had here.
    """
    every = Weights(*weights)  # type: ignore[arg-type]
    if every.g_ih is not None or every.g_hh is not None:
        raise ValueError("the kernel has no layer normalisation: g_ih and g_hh must be None")
    drawn, p = reference.split_zoneout(zoneout)
    tensors = (x, h0, *every[:4])
    training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if torch.compiler.is_compiling():
        y, h_n, _, _ = _layer(*tensors, lengths, reset_mask, drawn, reset_after, reverse, p, training)
        return y, h_n
    check_call(x, h0, every[:4], lengths, reset_mask, drawn, reset_after)
    batch = plan(x.shape[0], x.shape[1], lengths, reset_mask, reverse, drawn, p)
    if training:
        y, h_n = _Native.apply(batch, reset_after, lengths, reset_mask, *tensors)
    else:
        y, h_n, _ = layer.forward(x, h0, every[:4], batch, reset_after=reset_after, training=False)
    return y, h_n


def unsupported(spec: Spec) -> str | None:
    """The kernel computes in float32 on a CPU, on at least one row."""
    if spec.obstacle is not None:
        return spec.obstacle
    if spec.device != "cpu":
        return f"the native kernel runs on the CPU and the input is on {spec.device}"
    if spec.dtype != torch.float32:
        return f"the native kernel computes in torch.float32, not in {spec.dtype}"
    if spec.layer_norm:
        return "the kernel has no layer normalisation"
    if spec.batch == 0:
        return "the native kernel needs at least one row and the batch is empty"
    return UNAVAILABLE


BACKEND = Backend("native", "the kernel in C on a CPU", run, unsupported, walks_backward=True)
