"""The `triton` backend: a GRU layer on a GPU, all steps of it in one launch where its weights fit on the chip, else one
launch a step.

It has both variants, ragged lengths without packing, resets, both directions and zoneout, in float32, bfloat16 and
float16 (the state and the sums stay float32), but no layer normalisation. `kernels.py` is what runs on the GPU,
`layer.py` cuts the work and launches it. Triton comes with PyTorch's builds for CUDA; with TRITON_INTERPRET=1 in the
environment it runs the kernels on the CPU, slowly, which is how they are tested without a GPU.

In eager mode the layer is an autograd function. While PyTorch compiles, it is a registered operation,
`gatelab::gru_triton` with `gatelab::gru_triton_backward`, so that the graph has one node and is not broken; such a
call costs more. A gradient that is to be differentiated again is computed by the plain loop of the `reference` backend.

Dimensions: T time, B batch, D input, H hidden.
"""

import importlib.util
import os
from typing import Any, cast

import torch
from torch import Tensor

from gatelab.core.backends import operation, reference
from gatelab.core.backends.reference import Backend, Spec
from gatelab.core.cells import Weights

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST = 2**31
"""Numbers that 32 bits count, with a sign."""
INTERPRETED = bool(os.environ.get("TRITON_INTERPRET"))
MISSING = None if importlib.util.find_spec("triton") else "Triton is not installed (pip install triton)"


class _Triton(torch.autograd.Function):
    """(y, h_n) of one layer in one direction; the tensors are x, h0, w_ih, w_hh, b_ih and b_hh."""

    @staticmethod
    def forward(
        ctx: Any, lengths: Tensor | None, reset_mask: Tensor | None, walk: Any, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        x, h0, *weights = cast(Any, tensors)
        y, h_n, states, gates = _module().forward(x, h0, Weights(*weights), walk, training=True)
        reference.save(ctx, tensors, lengths, reset_mask, states, gates)
        ctx.walk = walk
        ctx.set_materialize_grads(False)
        return y, h_n

    @staticmethod
    @reference.without_autocast
    def backward(ctx: Any, dy: Tensor | None, dh_n: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, (lengths, reset_mask, states, gates) = reference.saved(ctx)
        walk, needed = ctx.walk, ctx.needs_input_grad[3:]
        if reference.must_be_plain((dy, dh_n)):
            reference.check_unmoved(ctx, saved)
            how = {"reset_after": walk.reset_after, "lengths": lengths, "reset_mask": reset_mask}
            kept = (walk.p or None) if walk.drawn is None else walk.drawn
            found = reference.gradient(
                saved.tensors, needed, (dy, dh_n), **how, zoneout=kept, reverse=walk.reverse
            )
            return (*[None] * 3, *found)
        x, _, *weights = saved.read
        found = _module().backward(dy, dh_n, x, Weights(*weights), walk, states, gates, needed)
        return (*[None] * 3, *found)


def _module() -> Any:
    """`layer.py`, which needs Triton."""
    from gatelab.core.backends.triton_gru import layer

    return layer


def _forward(x: Tensor, h0: Tensor, *others: Any) -> tuple[Tensor, ...]:
    *weights, lengths, reset_mask, drawn, reset_after, reverse, p, training = others
    layer = _module()
    walk = layer.plan(x.shape[0], reset_after, reverse, lengths, reset_mask, drawn, p)
    return cast(tuple[Tensor, ...], layer.forward(x, h0, Weights(*weights), walk, training))


def _backward(dy: Tensor | None, dh_n: Tensor | None, x: Tensor, h0: Tensor, *others: Any) -> Any:
    *weights, lengths, reset_mask, drawn, states, gates, reset_after, reverse, p, needed = others
    layer = _module()
    walk = layer.plan(x.shape[0], reset_after, reverse, lengths, reset_mask, drawn, p)
    return layer.backward(dy, dh_n, x, Weights(*weights), walk, states, gates, needed)


def _kept(x: Tensor, h0: Tensor, reset_after: bool, training: bool) -> operation.Shapes:
    steps, batch, hidden = x.shape[0], *h0.shape
    return ((steps + 1, batch, hidden), (steps, batch, 4 * hidden)) if training else ((0,), (0,))


_layer = operation.register("gru_triton", _forward, _backward, _kept)


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
    """Run one layer in one direction; the arguments are those of `reference.Run`.

    `reverse` walks each row from its last step to its first, on tensors in the order of time: the same boundaries
    hold, so the state is zero on the way from t to t-1 where `reset_mask[t]` is set.
    """
    every = Weights(*weights)  # type: ignore[arg-type]
    if every.g_ih is not None or every.g_hh is not None:
        raise ValueError("the triton backend has no layer normalisation: g_ih and g_hh must be None")
    drawn, p = reference.split_zoneout(zoneout)
    tensors = (x, h0, *every[:4])
    training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if torch.compiler.is_compiling():
        y, h_n, _, _ = _layer(*tensors, lengths, reset_mask, drawn, reset_after, reverse, p, training)
        return y, h_n
    walk = _module().plan(x.shape[0], reset_after, reverse, lengths, reset_mask, drawn, p)
    if training:
        return _Triton.apply(lengths, reset_mask, walk, *tensors)
    y, h_n, _, _ = _module().forward(x, h0, every, walk, training=False)
    return y, h_n


def unsupported(spec: Spec) -> str | None:
    """Why it cannot serve a call: no GPU, no Triton, another dtype, more numbers than the kernels count."""
    if spec.obstacle is not None:
        return spec.obstacle
    if spec.device != "cuda" and not INTERPRETED:
        return f"the triton kernels run on a CUDA device and the input is on {spec.device}"
    if MISSING is not None:
        return MISSING
    if spec.dtype not in DTYPES:
        return f"the triton kernels compute in float32, bfloat16 and float16, not in {spec.dtype}"
    if spec.layer_norm:
        return "the triton kernels have no layer normalisation"
    if spec.batch == 0:
        return "the triton kernels need at least one row and the batch is empty"
    if 4 * spec.hidden * spec.batch >= MOST or 4 * spec.hidden**2 >= MOST:
        return "the triton kernels number weights, and the gates of a step, in 32 bits, and here are too many"
    return None if INTERPRETED else _module().unable()


def slowed(spec: Spec) -> str | None:
    """How a layer is run whose weights do not fit on the GPU's chip; None if they do."""
    return _module().slowed(spec.hidden, spec.dtype)


BACKEND = Backend(
    "triton",
    "one launch for all steps, or one a step, on a CUDA device",
    run,
    unsupported,
    walks_backward=True,
    slowed=slowed,
)
