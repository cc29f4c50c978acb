"""Forward and backward of the GRU with the reset gate before the product, without autograd.

The equations are `cells.gru_step_before`'s. One buffer G [T, B, 3H] holds the gates (r, z, n). A step needs
two products instead of one, because n reads W_hn (r * h); so its backward has two phases as well: first n's
and z's gradients from dh, then r's from that of q = r * h. Zoneout is as in `fused_after.py`, but here z = 0 keeps.

`fused.py` wraps this into an autograd function. Dimensions: B batch, T time, D input, H hidden.
"""

import math

import torch
from torch import Tensor

from gatelab.core.backends.fused_after import empty_states, transposed


def forward(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    resets: dict[int, Tensor],
    drawn: Tensor | None,
    p: float,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the states [T+1, B, H], the first of which is h0, and (G,). There is no `b_hh`."""
    steps, batch = x.shape[:2]
    hidden = h0.shape[1]
    gates = x.new_empty(steps, batch, 3 * hidden)
    flat = gates.flatten(0, 1)
    if b_ih is None:
        torch.mm(x.flatten(0, 1), w_ih.t(), out=flat)
    else:
        torch.addmm(b_ih, x.flatten(0, 1), w_ih.t(), out=flat)
    if drawn is not None:
        gates[..., hidden : 2 * hidden].masked_fill_(drawn, -math.inf)
    w_rz, w_n = (transposed(w, steps) for w in (w_hh[: 2 * hidden], w_hh[2 * hidden :]))
    states = empty_states(h0, steps)
    rz_t = gates[..., : 2 * hidden].unbind(0)
    r_t, z_t, n_t = (block.unbind(0) for block in gates.split(hidden, dim=2))
    h_t = states.unbind(0)
    q = x.new_empty(batch, hidden)
    mul, lerp = torch.mul, torch.lerp
    for t in range(steps):
        h = h_t[t].masked_fill(resets[t], 0) if t in resets else h_t[t]
        rz_t[t].addmm_(h, w_rz).sigmoid_()
        mul(r_t[t], h, out=q)
        n = n_t[t].addmm_(q, w_n).tanh_()
        lerp(h, n, z_t[t], out=h_t[t + 1])
        if p:
            h_t[t + 1].lerp_(h, p)
    return states, (gates,)


def infer(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    resets: dict[int, Tensor],
    drawn: Tensor | None,
    p: float,
) -> Tensor:
    """Return the states [T+1, B, H]; nothing of G can be left out here, so this is `forward` without G."""
    return forward(x, h0, w_ih, w_hh, b_ih, b_hh, resets, drawn, p)[0]


def backward(
    dh: Tensor,
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    before: Tensor,
    saved: list[Tensor],
    resets: dict[int, Tensor],
    p: float,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of (x, h0, w_ih, w_hh, b_ih, b_hh), None where not `needed`.

    dh [T+1, B, H] holds what reaches each state from outside and is completed in place; `before` [T, B, H]
    is the state that each step started from; p is forward's.
    """
    (gates,) = saved
    steps, batch, hidden = before.shape
    grads, r, closed = coefficients(gates, before, p)
    d_r, _, d_n = grads.split(hidden, dim=2)
    zn_t = grads.view(steps, batch, 3, hidden)[:, :, 1:].unbind(0)
    rz_t = grads[..., : 2 * hidden].unbind(0)
    d_r_t, d_n_t, r_t, closed_t = d_r.unbind(0), d_n.unbind(0), r.unbind(0), closed.unbind(0)
    dh_t, wide_t = dh.unbind(0), dh.unsqueeze(2).unbind(0)
    w_rz, w_n = w_hh[: 2 * hidden], w_hh[2 * hidden :]
    dq = torch.empty_like(dh[0])
    for t in range(steps - 1, -1, -1):
        zn_t[t].mul_(wide_t[t + 1])
        torch.mm(d_n_t[t], w_n, out=dq)
        d_r_t[t].mul_(dq)
        if t in resets:
            through = torch.addmm((dh_t[t + 1] * closed_t[t]).addcmul_(dq, r_t[t]), rz_t[t], w_rz)
            dh_t[t].add_(through.masked_fill_(resets[t], 0))
        else:
            dh_t[t].addcmul_(dh_t[t + 1], closed_t[t]).addcmul_(dq, r_t[t]).addmm_(rz_t[t], w_rz)
    return _parameter_gradients(grads.flatten(0, 1), dh[0], x, w_ih, before, r, needed)


def coefficients(gates: Tensor, before: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor]:
    """C [T, B, 3H], the derivatives by the pre-activations (of the new state; for r of q), r, and that by h."""
    r, z, n = gates.split(before.shape[2], dim=2)
    r, closed = r.contiguous(), 1 - z
    grads = torch.empty_like(gates)
    d_r, d_z, d_n = grads.split(before.shape[2], dim=2)
    torch.mul(before, torch.addcmul(r, r, r, value=-1), out=d_r)  # h r (1 - r)
    torch.mul(n - before, z * closed, out=d_z)
    torch.addcmul(z, z * n, n, value=-1, out=d_n)  # z (1 - n^2)
    if p:
        d_z.mul_(1 - p)
        d_n.mul_(1 - p)
        closed.mul_(1 - p).add_(p)
    return grads, r, closed


def _parameter_gradients(
    grads: Tensor,
    dh0: Tensor,
    x: Tensor,
    w_ih: Tensor,
    before: Tensor,
    r: Tensor,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """All gradients from those of the pre-activations, `grads` [T*B, 3H] in the order (r, z, n)."""
    hidden = dh0.shape[1]
    dx = (grads @ w_ih).view(x.shape) if needed[0] else None
    dw_ih = grads.t() @ x.flatten(0, 1) if needed[2] else None
    dw_hh = None
    if needed[3]:
        dw_hh = grads.new_empty(3 * hidden, hidden)
        torch.mm(grads[:, : 2 * hidden].t(), before.flatten(0, 1), out=dw_hh[: 2 * hidden])
        torch.mm(grads[:, 2 * hidden :].t(), (r * before).flatten(0, 1), out=dw_hh[2 * hidden :])
    db_ih = grads.sum(0) if needed[4] else None
    return dx, dh0 if needed[1] else None, dw_ih, dw_hh, db_ih, None
