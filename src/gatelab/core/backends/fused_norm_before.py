"""Forward and backward of the layer-normalised GRU with the reset gate before the product, without autograd.

The equations are `cells.gru_step_before`'s with a gain. G and C are `fused_before.py`'s: the gates in the order
(r, z, n) and their derivatives, here taken after the normalisation. The products are kept apart, because n's waits
for r: A [T, B, 2H] holds W_hr h and W_hz h, Q [T, B, H] holds W_hn (r * h), neither normalised.

`fused_norm.py` wraps this into an autograd function. Dimensions: B batch, T time, D input, H hidden.
"""

import math

import torch
from torch import Tensor

from gatelab.core.backends.fused_after import empty_states, transposed
from gatelab.core.backends.fused_before import coefficients
from gatelab.core.backends.fused_norm_after import empty_products, normal, statistics, through_norm


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
    """Return the states [T+1, B, H], the first of which is h0, and (G, A, Q), which are of use if `keep`.

    There is no `b_hh`. `drawn` [T, B, H] and p are zoneout's, the one in training, the other in evaluation.
    """
    steps, batch = i.shape[:2]
    hidden = h0.shape[1]
    gates = i.clone(memory_format=torch.contiguous_format)
    if drawn is not None:
        gates[..., hidden : 2 * hidden].masked_fill_(drawn, -math.inf)
    w_rz, w_n = (transposed(w, steps) for w in (w_hh[: 2 * hidden], w_hh[2 * hidden :]))
    g_rz, g_n = g_hh[: 2 * hidden], g_hh[2 * hidden :]
    states = empty_states(h0, steps)
    rz_products, n_products = (empty_products(i, n * hidden, keep) for n in (2, 1))
    rz_t = gates[..., : 2 * hidden].unbind(0)
    r_t, z_t, n_t = (block.unbind(0) for block in gates.split(hidden, dim=2))
    h_t, a_t, q_t = states.unbind(0), rz_products.unbind(0), n_products.unbind(0)
    q = i.new_empty(batch, hidden)
    mm, mul, lerp, normed = torch.mm, torch.mul, torch.lerp, (batch, 2, hidden)
    for t in range(steps):
        h = h_t[t].masked_fill(resets[t], 0) if t in resets else h_t[t]
        mm(h, w_rz, out=a_t[t])
        rz_t[t].addcmul_(normal(a_t[t].view(normed)).view(batch, 2 * hidden), g_rz).sigmoid_()
        mul(r_t[t], h, out=q)
        mm(q, w_n, out=q_t[t])
        n = n_t[t].addcmul_(normal(q_t[t]), g_n).tanh_()
        lerp(h, n, z_t[t], out=h_t[t + 1])
        if p:
            h_t[t + 1].lerp_(h, p)
    return states, (gates, rz_products, n_products)


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
    gates, rz_products, n_products = saved
    steps, batch, hidden = before.shape
    grads, r, closed = coefficients(gates, before, p)
    a = rz_products.view(steps, batch, 2, hidden)
    rz_normals, *of_a = statistics(a)
    n_normals, *of_q = statistics(n_products)
    by_rz = (grads[..., : 2 * hidden] * g_hh[: 2 * hidden]).view(steps, batch, 2, hidden)
    by_n = grads[..., 2 * hidden :] * g_hh[2 * hidden :]
    dq = torch.empty_like(before)
    in_time = (a, n_products, *of_a, *of_q, by_rz, by_rz[:, :, 0], by_rz[:, :, 1], by_n, dq, r, closed)
    a_t, q_t, mean_a, dev_a, mean_q, dev_q, rz_t, r_part, z_part, n_t, dq_t, r_t, closed_t = (
        b.unbind(0) for b in in_time
    )
    dh_t = dh.unbind(0)
    w_rz, w_n = w_hh[: 2 * hidden], w_hh[2 * hidden :]
    by_a, by_q = [], []
    for t in range(steps - 1, -1, -1):
        by_q.append(through_norm(n_t[t].mul_(dh_t[t + 1]), q_t[t], mean_q[t], dev_q[t]))
        torch.mm(by_q[-1], w_n, out=dq_t[t])
        r_part[t].mul_(dq_t[t])
        z_part[t].mul_(dh_t[t + 1])
        by_a.append(through_norm(rz_t[t], a_t[t], mean_a[t], dev_a[t]).view(batch, 2 * hidden))
        if t in resets:
            through = torch.addmm((dh_t[t + 1] * closed_t[t]).addcmul_(dq_t[t], r_t[t]), by_a[-1], w_rz)
            dh_t[t].add_(through.masked_fill_(resets[t], 0))
        else:
            dh_t[t].addcmul_(dh_t[t + 1], closed_t[t]).addcmul_(dq_t[t], r_t[t]).addmm_(by_a[-1], w_rz)
    grads[..., :hidden].mul_(dq)
    grads[..., hidden:].unflatten(2, (2, hidden)).mul_(dh[1:].unsqueeze(2))
    dw_hh = dg_hh = None
    if needed[2]:
        dw_rz = torch.cat(by_a[::-1]).t() @ before.flatten(0, 1)
        dw_hh = torch.cat((dw_rz, torch.cat(by_q[::-1]).t() @ (r * before).flatten(0, 1)))
    if needed[4]:
        normals = torch.cat((rz_normals.flatten(2), n_normals), dim=2)
        dg_hh = (grads * normals).sum((0, 1))
    return grads, dh[0] if needed[1] else None, dw_hh, None, dg_hh
