"""The loop over time: one unroller for every cell, with ragged lengths and resets inside a sequence.

It is the plain autograd loop, readable and slow; it is not a layer (`recurrent.py` adds layers, directions
and packing) and it always runs forward in time: `reverse` turns a sequence round for the other direction.

Dimensions: T time, B batch, H hidden.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gatelab.core.cells import zone_out
from gatelab.core.torch_internals import is_exporting, scan

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], State]


def unroll(
    step: Step,
    inputs: Tensor,
    state: State,
    *,
    lengths: Tensor | None = None,
    reset_mask: Tensor | None = None,
    zoneout: Tensor | float | None = None,
) -> tuple[Tensor, State]:
    """Apply `step(inputs[t], state) -> state` for t = 0 ... T-1 and collect the first tensor of each state.

    Args:
        step: one step of a cell.
        inputs: [T, B, *].
        state: tensors [B, H]; the state before step 0.
        lengths: [B] integers; at t >= lengths[b] row b keeps its state and its output is zero.
        reset_mask: [T, B] bool; where True the state is set to zero before step t is computed.
        zoneout: [T, B, H] bool, True where a unit keeps the state that entered step t (after a reset: zero);
            or the probability, for the expectation. See `cells.zone_out`.

    Returns:
        outputs [T, B, H] and the state at each row's length.
    """
    if time_is_free(inputs) and lengths is None and reset_mask is None and not isinstance(zoneout, Tensor):
        return _scanned(step, inputs, state, zoneout)
    outputs = []
    for t, x in enumerate(inputs.unbind(0)):
        previous = state
        if reset_mask is not None:
            ends = reset_mask[t].unsqueeze(-1)
            state = tuple(s.masked_fill(ends, 0) for s in state)
        entering, state = state, step(x, state)
        if zoneout is not None:
            kept = zoneout[t] if isinstance(zoneout, Tensor) else zoneout
            state = tuple(zone_out(new, old, kept) for new, old in zip(state, entering, strict=True))
        y = state[0]
        if lengths is not None:
            over = (t >= lengths).unsqueeze(-1)
            state = tuple(torch.where(over, old, new) for old, new in zip(previous, state, strict=True))
            y = y.masked_fill(over, 0)
        outputs.append(y)
    return torch.stack(outputs), state


def time_is_free(inputs: Tensor) -> bool:
    """Whether `torch.export` is making a graph for any number of steps of `inputs` [T, B, *] now."""
    return is_exporting() and not isinstance(inputs.shape[0], int)


def _scanned(step: Step, inputs: Tensor, state: State, zoneout: float | None) -> tuple[Tensor, State]:
    """The loop as one operation of the graph, which holds a step once instead of one for each moment."""

    def combine(entering: State, x: Tensor) -> tuple[State, Tensor]:
        after = step(x, entering)
        if zoneout is not None:
            after = tuple(zone_out(new, old, zoneout) for new, old in zip(after, entering, strict=True))
        return after, after[0].clone()  # what it returns may not share memory

    final, y = scan(combine, tuple(s.clone() for s in state), inputs)  # nor may it begin in a part of another
    return y, tuple(final)


def padding(lengths: Tensor, steps: int) -> Tensor:
    """The mask [T, B] that is True where t >= lengths[b]."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) >= lengths


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Turn x [T, B, *] round in time, each row within its own length; the padding stays where it is."""
    if lengths is None:
        return x.flip(0)
    t = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    source = torch.where(t < lengths, lengths - 1 - t, t)
    return x[source, torch.arange(x.shape[1], device=x.device)]


def reverse_reset(reset_mask: Tensor, lengths: Tensor | None) -> Tensor:
    """The reset mask of the reverse pass, in reversed time: the boundaries between segments stay the same.

    `reset_mask[t]` puts a boundary between t-1 and t. Going backward, that boundary is crossed on the way
    into t-1, so in reversed time it belongs one step later than its own place. A boundary before step 0
    concerns the forward pass only, and nothing in the sequence marks one after the last step.
    """
    moved = torch.cat((reset_mask[1:], torch.zeros_like(reset_mask[:1])))
    if lengths is not None:
        # the boundary after a row's last step is outside the row: it must not erase the initial state
        last = torch.arange(moved.shape[0], device=moved.device).unsqueeze(1) == lengths - 1
        moved = moved & ~last
    return reverse(moved, lengths)
