"""The `reference` backend: the equations of `cells.py` in a plain autograd loop.

It is the oracle for every other backend and it runs wherever PyTorch does, double backward included. It is not
fast: each step is a dozen small operations, each of them recorded. `gradient` gives the backends with a
hand-written gradient one that can be differentiated again.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gatelab.core.backends.spec import Backend, Spec
from gatelab.core.cells import gru_step_after, gru_step_before, linear
from gatelab.core.unroll import reverse as turned
from gatelab.core.unroll import reverse_reset, unroll


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
    step = gru_step_after if reset_after else gru_step_before
    y, (h,) = unroll(
        lambda i_t, state: (step(i_t, state[0], w_hh, b_hh, g_hh),),
        linear(x, w_ih, b_ih, g_ih, h0.shape[1]),
        (h0,),
        lengths=lengths,
        reset_mask=reset_mask,
        zoneout=zoneout,
    )
    return y, h


def gradient(
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    outer: tuple[Tensor | None, Tensor | None],
    *,
    reset_after: bool,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    zoneout: Tensor | float | None = None,
    reverse: bool = False,
) -> list[Tensor | None]:
    """The gradient of a layer as a differentiable function: the sequence is computed again by the plain loop.

    Takes the tensors of `run`, which of their gradients are `needed`, the gradients (dy, dh_n) that reach the
    results, and whether the rows were walked backward; returns a gradient or None for each tensor.
    """
    x, *others = inputs
    assert x is not None
    if reverse:
        x = turned(x, lengths)
        reset_mask = None if reset_mask is None else reverse_reset(reset_mask, lengths)
        zoneout = turned(zoneout, lengths) if isinstance(zoneout, Tensor) else zoneout
    arguments: list[Any] = [x, *others]
    y, h_n = run(*arguments, reset_after=reset_after, lengths=lengths, reset_mask=reset_mask, zoneout=zoneout)
    results = (turned(y, lengths) if reverse else y, h_n)
    pairs = [(y, g) for y, g in zip(results, outer, strict=True) if g is not None and y.requires_grad]
    wanted = [(i, t) for i, t in enumerate(inputs) if t is not None and needed[i]]
    found = torch.autograd.grad(
        [y for y, _ in pairs],
        [t for _, t in wanted],
        [g for _, g in pairs],
        create_graph=True,
        allow_unused=True,
    )
    by_index = {i: g for (i, _), g in zip(wanted, found, strict=True)}
    return [by_index.get(i) for i in range(len(inputs))]


def unsupported(spec: Spec) -> str | None:
    """Nothing is out of reach of the plain loop."""
    return None


BACKEND = Backend("reference", "the equations in a plain autograd loop", run, unsupported)
