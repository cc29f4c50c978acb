"""The linear recurrence h_t = a_t * h_{t-1} + b_t over a whole sequence, in about log2(T) vectorised sweeps.

Composition of two steps is again such a step, (a2, b2) after (a1, b1) = (a2 a1, a2 b1 + b2), and is
associative, so all prefixes come from doubling (Hillis and Steele 1986; Blelloch 1990). With 0 <= a <= 1
every intermediate value is bounded by the result's own terms: nothing is divided and no logarithm is taken.
The scan in log space of the minGRU paper subtracts cumulative sums instead, and loses digits in proportion
to T.

Dimensions: T time, B batch, H hidden.
"""

from typing import Any

import torch
from torch import Tensor

from gatelab.core.unroll import time_is_free, unroll


class _Scan(torch.autograd.Function):
    """h from (a, b, h0). The gradient is the same recurrence run backward, so it differentiates again."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
        h = _doubling(a, torch.cat((torch.addcmul(b[:1], a[:1], h0.unsqueeze(0)), b[1:])))
        ctx.save_for_backward(a, h0, h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h0, h = ctx.saved_tensors
        (dy,) = grads
        # dh_t = dy_t + a_{t+1} dh_{t+1}: in reversed time, with a moved one step and nothing before the end
        moved = torch.cat((torch.zeros_like(a[:1]), a[1:].flip(0)))
        db = _Scan.apply(moved, dy.flip(0), torch.zeros_like(h0)).flip(0)
        da = db * torch.cat((h0.unsqueeze(0), h[:-1]))
        return da, db, a[0] * db[0]


def _doubling(a: Tensor, b: Tensor) -> Tensor:
    """All prefixes of the recurrence with h_{-1} = 0; after k sweeps each step spans 2^k originals."""
    span = 1
    while span < a.shape[0]:
        b = torch.cat((b[:span], torch.addcmul(b[span:], a[span:], b[:-span])))
        a = torch.cat((a[:span], a[span:] * a[:-span]))
        span *= 2
    return b


def linear_scan(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """Return h [T, B, H] with h_t = a_t * h_{t-1} + b_t and h_{-1} = h0.

    Shapes: a and b [T, B, H], h0 [B, H]. Meant for 0 <= a <= 1; a = 0 forgets everything before that step.
    """
    if time_is_free(a):
        y, _ = unroll(lambda ab, state: (ab[0] * state[0] + ab[1],), torch.stack((a, b), dim=1), (h0,))
        return y
    return _Scan.apply(a, b, h0)
