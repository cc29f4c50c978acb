"""The interface of a backend, and the `reference` one: the equations of `cells.py` in a plain autograd loop.

A backend computes one layer in one direction and says why it cannot serve a call, if so; the registry and the choice
are in `__init__.py`. `reference` is the oracle for every other backend and it runs wherever PyTorch does, double
backward included. It is not fast: each step is a dozen small operations, each of them recorded. `gradient` gives the
backends with a hand-written gradient one that can be differentiated again.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from gatelab.core.cells import Weights, gru_step_after, gru_step_before, linear
from gatelab.core.torch_internals import gru, is_tracing, obstacle
from gatelab.core.unroll import reverse as turned
from gatelab.core.unroll import reverse_reset, unroll


class Spec(NamedTuple):
    """What a call asks for, as far as a backend's ability and its speed depend on it."""

    device: str
    dtype: torch.dtype
    reset_after: bool
    has_lengths: bool
    has_reset_mask: bool
    hidden: int
    batch: int
    steps: int
    training: bool = False  # a gradient will be asked for
    zoneout: bool = False
    layer_norm: bool = False
    obstacle: str | None = None  # why only operations of PyTorch may be used; see `torch_internals.obstacle`


class Run(Protocol):
    """One GRU layer in one direction, forward in time.

    Shapes: x [T, B, D] with T >= 1, h0 [B, H]; the `weights` are the tensors of `cells.Weights` in their order, w_ih
    [3H, D], w_hh [3H, H], b_ih and b_hh [3H] or None, and with layer normalisation its gains g_ih and g_hh [3H];
    lengths [B] int64 on x's device, in any order, reset_mask [T, B] bool, True where the state is zero before step t.
    x is zero past each length. Returns y [T, B, H], zero past each length, and the state [B, H] at each length. No
    result shares memory with an argument.

    `zoneout` is the drawn mask [T, B, H] bool in training, True where a unit keeps its state; the probability in
    evaluation; None without it. A backend raises for what it cannot serve.
    """

    def __call__(
        self,
        x: Tensor,
        h0: Tensor,
        *weights: Tensor | None,
        reset_after: bool,
        lengths: Tensor | None,
        reset_mask: Tensor | None,
        zoneout: Tensor | float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the layer."""
        ...


def unslowed(spec: Spec) -> str | None:
    """No call is served in a slower way than others."""
    return None


@dataclass(frozen=True)
class Backend:
    """One way to compute a GRU layer.

    If it `walks_backward`, `run` takes `reverse=True` to walk the rows from their last step to their first on tensors
    in the order of time, the mask of zoneout among them, with `reset_mask` marking the same boundaries between steps;
    else the caller turns the sequence round before and after `run`.
    """

    name: str
    summary: str
    run: Run
    unsupported: Callable[[Spec], str | None]  # why it cannot serve a call, or None when it can
    walks_backward: bool = False
    slowed: Callable[[Spec], str | None] = (
        unslowed  # how a call that it can serve is slowed down, and why; or None
    )


def run(
    x: Tensor,
    h0: Tensor,
    *weights: Tensor | None,
    reset_after: bool,
    lengths: Tensor | None = None,
    reset_mask: Tensor | None = None,
    zoneout: Tensor | float | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one layer in one direction; the arguments are those of `Run`."""
    w_ih, w_hh, b_ih, b_hh, g_ih, g_hh = Weights(*weights)  # type: ignore[arg-type]
    plain = reset_after and lengths is None and reset_mask is None and zoneout is None and g_ih is None
    if (
        plain and is_tracing()
    ):  # a loop would be recorded for this number of steps, this is one operation for any
        y, h = gru(x, h0.unsqueeze(0), [w for w in weights if w is not None], b_ih is not None, True)
        return y, h.squeeze(0)
    if not w_hh.requires_grad:
        h0 = h0.clone()  # as with `nn.GRU`, only the gradient of W_hh reads h0 again: else it may be edited
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


def split_zoneout(zoneout: Tensor | float | None) -> tuple[Tensor | None, float]:
    """The drawn mask, if it is one, and the probability, which is 0 if it is not."""
    return (zoneout, 0.0) if isinstance(zoneout, Tensor) else (None, zoneout or 0.0)


def run_either_way(
    x: Tensor,
    h0: Tensor,
    *weights: Tensor | None,
    reset_after: bool,
    lengths: Tensor | None,
    reset_mask: Tensor | None,
    zoneout: Tensor | float | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """`run`, which takes `reverse` as a backend that `walks_backward`."""
    if reverse:
        x = turned(x, lengths)
        reset_mask = None if reset_mask is None else reverse_reset(reset_mask, lengths)
        zoneout = turned(zoneout, lengths) if isinstance(zoneout, Tensor) else zoneout
    y, h_n = run(
        x, h0, *weights, reset_after=reset_after, lengths=lengths, reset_mask=reset_mask, zoneout=zoneout
    )
    return turned(y, lengths) if reverse else y, h_n


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
    """The gradient of a layer in plain operations: the sequence is computed again by the plain loop.

    It can be differentiated again where gradients are enabled, and it is what serves a batch of gradients
    (`is_grads_batched`), which no kernel can read.

    Takes the tensors of `run`, which of their gradients are `needed`, the gradients (dy, dh_n) that reach the
    results, and whether the rows were walked backward; returns a gradient or None for each tensor.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        how = {"reset_after": reset_after, "lengths": lengths, "reset_mask": reset_mask, "zoneout": zoneout}
        results = run_either_way(*inputs, **how, reverse=reverse)  # type: ignore[arg-type]
    pairs = [(y, g) for y, g in zip(results, outer, strict=True) if g is not None and y.requires_grad]
    wanted = [(i, t) for i, t in enumerate(inputs) if t is not None and needed[i]]
    found = torch.autograd.grad(
        [y for y, _ in pairs],
        [t for _, t in wanted],
        [g for _, g in pairs],
        create_graph=again,
        allow_unused=True,
    )
    by_index = {i: g for (i, _), g in zip(wanted, found, strict=True)}
    return [by_index.get(i) for i in range(len(inputs))]


class Saved(NamedTuple):
    """The six tensors of a call, x, h0, w_ih, w_hh, b_ih and b_hh, for its backward pass."""

    read: list[Any]  # with the memory that forward read, also where `.data` gave them another one since
    tensors: list[Any]  # themselves, for a gradient that is differentiated again


def guarded(needed: Sequence[bool], x: Tensor | None) -> tuple[bool, ...]:
    """Which of the six tensors the `needed` gradients read again: x for that of W_ih, W_ih for that of x, h0 for that
    of W_hh, and W_hh for that of an earlier state.
    """
    of_x, of_h0, of_w_ih, of_w_hh = needed[:4]
    several = cast(Tensor, x).shape[0] > 1
    return (of_w_ih, of_w_hh, of_x, of_h0 or several, False, False)


def save(ctx: Any, tensors: Sequence[Tensor | None], *others: Tensor | None) -> None:
    """Keep the six tensors of a call, and what else its backward pass reads, in an autograd function's context.

    Autograd refuses a backward pass after an edit in place of what it keeps. It keeps, as for `nn.GRU`, only what is
    `guarded`. What may be edited is kept beside, with its version.
    """
    read = [None if t is None else t.detach() for t in tensors]
    both = [*zip((*read, *tensors), guarded(ctx.needs_input_grad[-6:], tensors[0]) * 2, strict=True)]
    ctx.save_for_backward(*others, *(t if guard else None for t, guard in both))
    ctx.beside = [None if guard else t for t, guard in both]
    ctx.versions = [None if t is None or t.is_inference() else t._version for t in read]


def saved(ctx: Any) -> tuple[Saved, Sequence[Any]]:
    """What `save` kept: the six tensors, and the others."""
    every = ctx.saved_tensors
    both = [one if other is None else other for one, other in zip(every[-12:], ctx.beside, strict=True)]
    return Saved(both[:6], both[6:]), every[:-12]


def check_unmoved(ctx: Any, found: Saved) -> None:
    """Raise RuntimeError if a tensor is not what forward read: a gradient that is computed from the tensors again
    would be that of another function.
    """
    for tensor, read, version in zip(found.tensors, found.read, ctx.versions, strict=True):
        if tensor is None or read is None:
            continue
        if tensor.data_ptr() != read.data_ptr():
            raise RuntimeError(
                "a tensor that the GRU reads was given other memory through .data (by .to, .double, ...) between the "
                "forward pass and a backward pass that is differentiated again: change it after both"
            )
        if version is not None and read._version != version:
            raise RuntimeError(
                "a tensor that the GRU reads was modified by an inplace operation between the forward pass and a "
                "backward pass that is differentiated again: change it after both"
            )


def without_autocast(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Keep autocast out of a computation that is called under a caller's: a written backward pass, an operation."""

    @functools.wraps(compute)
    def run_in_own_precision(*arguments: Any) -> Any:
        device = next((a.device.type for a in arguments if isinstance(a, Tensor)), "cpu")
        if device == "meta" or not torch.is_autocast_enabled(device):
            return compute(*arguments)
        with torch.autocast(device, enabled=False):
            return compute(*arguments)

    return run_in_own_precision


def must_be_plain(grads: Sequence[Tensor | None]) -> bool:
    """Whether the gradients that reach a backward pass ask for `gradient` instead of the written one."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return True
    device = next((g.device.type for g in grads if g is not None), "cpu")
    return obstacle(device, grads) is not None


def unsupported(spec: Spec) -> str | None:
    """Nothing is out of reach of the plain loop."""
    return None


BACKEND = Backend("reference", "the equations in a plain autograd loop", run, unsupported)
