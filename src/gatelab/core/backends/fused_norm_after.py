"""Forward and backward of the layer-normalised GRU with the reset gate after the product, without autograd.

The equations are `cells.gru_step_after`'s with a gain. The buffers G and C are `fused_after.py`'s: the gates in
the order (nh, r, z, n), and in backward the derivatives of the new state by the four pre-activations, here taken
after the normalisation. A [T, B, 3H] holds the products W_hh h in the order (n, r, z), not normalised.

`fused_norm.py` wraps this into an autograd function. Dimensions: B batch, T time, D input, H hidden.
"""

import math

import torch
from torch import Tensor

from gatelab.core.backends.fused_after import coefficients, empty_states, transposed
from gatelab.core.cells import EPSILON

_backward_of_norm = torch.ops.aten.native_layer_norm_backward.default


def forward(
    i: Tensor,
    h0: Tensor,
    w_hh: Tensor,
    b_hh: Tensor | None,
    g_hh: Tensor,
    resets: dict[int, Tensor],
    drawn: Tensor | None,
    p: float,
    *,
    keep: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the states [T+1, B, H], the first of which is h0, and (G, A); A is of use if `keep`.

    `drawn` [T, B, H] and p are zoneout's, the one in training, the other in evaluation.
    """
    steps, batch = i.shape[:2]
    hidden = h0.shape[1]
    gates = i.new_empty(steps, batch, 4 * hidden)
    gates[..., :hidden] = 0 if b_hh is None else b_hh[2 * hidden :]
    gates[..., hidden:] = i
    if b_hh is not None:
        gates[..., hidden : 3 * hidden] += b_hh[: 2 * hidden]
    if drawn is not None:
        gates[..., 2 * hidden : 3 * hidden].masked_fill_(drawn, math.inf)
    weight, gain = transposed(to_nrz(w_hh), steps), to_nrz(g_hh)
    states, products = empty_states(h0, steps), empty_products(i, 3 * hidden, keep)
    nrz_t, rz_t = gates[..., : 3 * hidden].unbind(0), gates[..., hidden : 3 * hidden].unbind(0)
    nh_t, r_t, z_t, n_t = (block.unbind(0) for block in gates.split(hidden, dim=2))
    h_t, a_t = states.unbind(0), products.unbind(0)
    mm, lerp, normed = torch.mm, torch.lerp, (batch, 3, hidden)
    for t in range(steps):
        h = h_t[t].masked_fill(resets[t], 0) if t in resets else h_t[t]
        mm(h, weight, out=a_t[t])
        nrz_t[t].addcmul_(normal(a_t[t].view(normed)).view(batch, 3 * hidden), gain)
        rz_t[t].sigmoid_()
        n = n_t[t].addcmul_(r_t[t], nh_t[t]).tanh_()
        lerp(n, h, z_t[t], out=h_t[t + 1])
        if p:
            h_t[t + 1].lerp_(h, p)
    return states, (gates, products)


def to_nrz(rows: Tensor) -> Tensor:
    """Rows (r, z, n) of weights or gains in the order (n, r, z)."""
    r, z, n = rows.chunk(3)
    return torch.cat((n, r, z))


def to_rzn(rows: Tensor) -> Tensor:
    """The inverse of `to_nrz`."""
    n, r, z = rows.chunk(3)
    return torch.cat((r, z, n))


def empty_products(like: Tensor, width: int, keep: bool) -> Tensor:
    """A buffer [T, B, width]; where nothing is kept all of its steps are the same memory."""
    steps, batch = like.shape[:2]
    return like.new_empty(steps if keep else 1, batch, width).expand(steps, batch, width)


def normal(a: Tensor) -> Tensor:
    """Blocks of a [*, H] with mean 0 and variance 1."""
    return torch.native_layer_norm(a, (a.shape[-1],), None, None, EPSILON)[0]


def statistics(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`normal(a)`, and the means and the reciprocal deviations that backward needs, [*, 1]."""
    return torch.native_layer_norm(a, (a.shape[-1],), None, None, EPSILON)


def through_norm(grad: Tensor, a: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """The gradient of a from that of `normal(a)`, both [*, H] and contiguous."""
    shape = (a.shape[-1],)
    return _backward_of_norm(grad, a, shape, mean, deviation, None, None, [True, False, False])[0]


def backward(
    dh: Tensor,
    w_hh: Tensor,
    g_hh: Tensor,
    before: Tensor,
    saved: list[Tensor],
    resets: dict[int, Tensor],
    p: float,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of (i, h0, w_hh, b_hh, g_hh), None where not `needed`.

    dh [T+1, B, H] holds what reaches each state from outside and is completed in place; `before` [T, B, H]
    is the state that each step started from; p is forward's.
    """
    gates, products = saved
    steps, batch, hidden = before.shape
    grads, z = coefficients(gates, before, p)
    a = products.view(steps, batch, 3, hidden)
    normals, mean, deviation = statistics(a)
    by_norm = (grads[..., : 3 * hidden] * to_nrz(g_hh)).view(steps, batch, 3, hidden)
    by_norm_t, a_t, mean_t, deviation_t = (b.unbind(0) for b in (by_norm, a, mean, deviation))
    z_t, dh_t, wide_t = z.unbind(0), dh.unbind(0), dh.unsqueeze(2).unbind(0)
    weight, by_product = to_nrz(w_hh), []
    for t in range(steps - 1, -1, -1):
        arrived = by_norm_t[t].mul_(wide_t[t + 1])
        by_a = through_norm(arrived, a_t[t], mean_t[t], deviation_t[t]).view(batch, 3 * hidden)
        by_product.append(by_a)
        if t in resets:
            through = torch.addmm(dh_t[t + 1] * z_t[t], by_a, weight)
            dh_t[t].add_(through.masked_fill_(resets[t], 0))
        else:
            dh_t[t].addcmul_(dh_t[t + 1], z_t[t]).addmm_(by_a, weight)
    grads.view(steps, batch, 4, hidden).mul_(dh[1:].unsqueeze(2))
    return _parameter_gradients(grads, dh[0], before, by_product, normals, needed)


def _parameter_gradients(
    grads: Tensor,
    dh0: Tensor,
    before: Tensor,
    by_product: list[Tensor],
    normals: Tensor,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """All gradients from those of the pre-activations, `grads` [T, B, 4H], and of the products, last step first."""
    hidden = dh0.shape[1]
    recurrent = grads[..., : 3 * hidden]
    dw_hh = db_hh = dg_hh = None
    if needed[2]:
        dw_hh = to_rzn(torch.cat(by_product[::-1]).t() @ before.flatten(0, 1))
    if needed[3]:
        db_hh = to_rzn(recurrent.sum((0, 1)))
    if needed[4]:
        dg_hh = to_rzn((recurrent * normals.flatten(2)).sum((0, 1)))
    return grads[..., hidden:], dh0 if needed[1] else None, dw_hh, db_hh, dg_hh
