"""What the hand-written gradients share about sequences: ragged lengths, resets and the two forms of zoneout.

Ragged lengths cost nothing in the loop: rows run on past their length on zero input, the outputs there are
masked, and the final state is read, and its gradient put back, at the length. Nothing here knows the cell.

Dimensions: T time, B batch, H hidden.
"""

import torch
from torch import Tensor

from gatelab.core.unroll import padding


def parts(zoneout: Tensor | float | None) -> tuple[Tensor | None, float]:
    """The drawn mask, if it is one, and the probability, which is 0 if it is not."""
    return (zoneout, 0.0) if isinstance(zoneout, Tensor) else (None, zoneout or 0.0)


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
