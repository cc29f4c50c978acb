"""minGRU: a GRU whose gate and candidate do not see the state, so that time is a parallel scan.

Feng et al. 2024, "Were RNNs All We Needed?" (arXiv:2410.01201), section 3.1:

    z_t = sigmoid(W_z x_t + b_z)
    c_t = W_h x_t + b_h                       (the paper's h~; no tanh)
    h_t = (1 - z_t) * h_{t-1} + z_t * c_t

The paper trains in log space, which needs c_t > 0; `linear_scan` is stable without logarithms, so the candidate
keeps its sign. No fast kernel, no state-dependent gate: it is a baseline beside the GRU.

The scan: composition of two steps of a linear recurrence h_t = a_t * h_{t-1} + b_t is again such a step, (a2, b2)
after (a1, b1) = (a2 a1, a2 b1 + b2), and is associative, so all prefixes come from about log2(T) doublings (Hillis and
Steele 1986; Blelloch 1990). With 0 <= a <= 1 every intermediate value is bounded by the result's own terms: nothing is
divided and no logarithm is taken. The paper's scan subtracts cumulative sums, and loses digits in proportion to T.

Dimensions: T time, B batch, H hidden.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gatelab.core.recurrent import Recurrent, Weights
from gatelab.core.unroll import State, padding, time_is_free, unroll


class MinGRU(Recurrent):
    """minGRU over a sequence; `layer(x, state=None) -> (y, state)`, with the call of the other cores.

    Parameters of layer l: `weight_ih_l{l}` [2H, D] and `bias_ih_l{l}` [2H], rows (z, h).
    """

    gates = 2

    def _parameter_names(self) -> tuple[str, ...]:
        return "weight_ih", "bias_ih"

    def _run(
        self, x: Tensor, state: State, weights: Weights, lengths: Tensor | None, reset_mask: Tensor | None
    ) -> tuple[Tensor, State]:
        k, c = F.linear(x, weights.w_ih, weights.b_ih).chunk(2, dim=-1)
        keep, value = torch.sigmoid(-k), torch.sigmoid(k) * c
        if reset_mask is not None:
            keep = keep.masked_fill(reset_mask.unsqueeze(-1), 0)
        if lengths is None:
            y = linear_scan(keep, value, state[0])
            return y, (y[-1],)
        over = padding(lengths, x.shape[0]).unsqueeze(-1)
        # past its length a row copies its state, so the last step holds the state at the length
        y = linear_scan(keep.masked_fill(over, 1), value.masked_fill(over, 0), state[0])
        return y.masked_fill(over, 0), (y[-1],)


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
