"""Forward and backward of the GRU with the reset gate after the product, without autograd.

The equations are `cells.gru_step_after`'s. One buffer G [T, B, 4H] holds the gates in the order
(nh, r, z, n) with nh = W_hn h + b_hn. In backward the buffer C of the same shape starts as each gate's
derivative with respect to h' and becomes, multiplied by dh, the gradients of the four pre-activations. Its
last three blocks are then the gradient of W_ih x + b_ih and its first three that of W_hh h + b_hh (in the
order n, r, z), so neither has to be copied together.

Zoneout changes the update gate only. Where a unit keeps its state z is 1, and it becomes that, with a derivative
of 0, when infinity is added before the sigmoid: no step does anything more. With the probability p instead of a
drawn mask each step averages h' with h, and backward has the factor 1 - p.

`fused.py` wraps this into an autograd function. Dimensions: B batch, T time, D input, H hidden.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

COPY_PAYS = 8  # steps; measured at H = 200 and 256, where transposing costs what it saves in about six


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
    """Return the states [T+1, B, H], the first of which is h0, and (G,).

    `drawn` [T, B, H] and p are zoneout's, the one in training, the other in evaluation.
    """
    steps, batch = x.shape[:2]
    hidden = h0.shape[1]
    gates = x.new_empty(steps, batch, 4 * hidden)
    bias, b_n = _input_bias(b_ih, b_hh, w_ih, hidden)
    flat = gates.flatten(0, 1)
    torch.addmm(bias, x.flatten(0, 1), w_ih.t(), out=flat[:, hidden:])
    gates[..., :hidden] = b_n  # so that one product a step adds to all three recurrent blocks
    if drawn is not None:
        gates[..., 2 * hidden : 3 * hidden].masked_fill_(drawn, math.inf)
    weight = transposed(_nrz(w_hh), steps)
    states = empty_states(h0, steps)
    nrz_t, rz_t = gates[..., : 3 * hidden].unbind(0), gates[..., hidden : 3 * hidden].unbind(0)
    nh_t, r_t, z_t, n_t = (block.unbind(0) for block in gates.split(hidden, dim=2))
    h_t = states.unbind(0)
    lerp = torch.lerp
    for t in range(steps):
        h = h_t[t].masked_fill(resets[t], 0) if t in resets else h_t[t]
        nrz_t[t].addmm_(h, weight)
        rz_t[t].sigmoid_()
        n = n_t[t].addcmul_(r_t[t], nh_t[t]).tanh_()
        lerp(n, h, z_t[t], out=h_t[t + 1])
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
    """Return the states [T+1, B, H] and keep nothing for a gradient."""
    steps, batch = x.shape[:2]
    hidden = h0.shape[1]
    gates = F.linear(x.flatten(0, 1), w_ih, b_ih).view(steps, batch, 3 * hidden)
    if drawn is not None:
        gates[..., hidden : 2 * hidden].masked_fill_(drawn, math.inf)
    bias = w_hh.new_zeros(3 * hidden) if b_hh is None else b_hh
    weight = transposed(w_hh, steps)
    states = empty_states(h0, steps)
    rz_t = gates[..., : 2 * hidden].unbind(0)
    r_t, z_t, n_t = (block.unbind(0) for block in gates.split(hidden, dim=2))
    recurrent = x.new_empty(batch, 3 * hidden)
    by_rz, by_n = recurrent[:, : 2 * hidden], recurrent[:, 2 * hidden :]
    h_t = states.unbind(0)
    addmm, lerp = torch.addmm, torch.lerp
    for t in range(steps):
        h = h_t[t].masked_fill(resets[t], 0) if t in resets else h_t[t]
        addmm(bias, h, weight, out=recurrent)
        rz_t[t].add_(by_rz).sigmoid_()
        n = n_t[t].addcmul_(r_t[t], by_n).tanh_()
        lerp(n, h, z_t[t], out=h_t[t + 1])
        if p:
            h_t[t + 1].lerp_(h, p)
    return states


def _nrz(w_hh: Tensor) -> Tensor:
    """The recurrent weights with their rows in the order of G's first three blocks."""
    hidden = w_hh.shape[1]
    return torch.cat((w_hh[2 * hidden :], w_hh[: 2 * hidden]))


def transposed(weight: Tensor, steps: int) -> Tensor:
    """The transpose, copied when enough steps will read it to pay for the copy."""
    return weight.t().contiguous() if steps >= COPY_PAYS else weight.t()


def empty_states(h0: Tensor, steps: int) -> Tensor:
    """The buffer of the states [T+1, B, H], h0 in its first place."""
    states = h0.new_empty(steps + 1, *h0.shape)
    states[0] = h0
    return states


def _input_bias(b_ih: Tensor | None, b_hh: Tensor | None, like: Tensor, hidden: int) -> tuple[Tensor, Tensor]:
    """The bias [3H] of the input product, b_hh's r and z rows included, and b_hn [H]."""
    bias = like.new_zeros(3 * hidden) if b_ih is None else b_ih.clone()
    if b_hh is None:
        return bias, like.new_zeros(hidden)
    bias[: 2 * hidden] += b_hh[: 2 * hidden]
    return bias, b_hh[2 * hidden :]


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
    grads, z = coefficients(gates, before, p)
    by_gate = grads.view(steps, batch, 4, hidden).unbind(0)
    recurrent = grads[..., : 3 * hidden].unbind(0)
    z_t, dh_t, wide_t = z.unbind(0), dh.unbind(0), dh.unsqueeze(2).unbind(0)
    weight = _nrz(w_hh)
    for t in range(steps - 1, -1, -1):
        by_gate[t].mul_(wide_t[t + 1])
        if t in resets:
            through = torch.addmm(dh_t[t + 1] * z_t[t], recurrent[t], weight)
            dh_t[t].add_(through.masked_fill_(resets[t], 0))
        else:
            dh_t[t].addcmul_(dh_t[t + 1], z_t[t]).addmm_(recurrent[t], weight)
    return _parameter_gradients(grads.flatten(0, 1), dh[0], x, w_ih, before, needed)


def coefficients(gates: Tensor, before: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """C [T, B, 4H], the derivatives of the new state by the four pre-activations, and that by h, [T, B, H]."""
    nh, r, z, n = gates.split(before.shape[2], dim=2)
    z = z.contiguous()
    closed = 1 - z
    by_n = torch.addcmul(closed, closed * n, n, value=-1)  # (1 - z)(1 - n^2)
    grads = torch.empty_like(gates)
    d_nh, d_r, d_z, d_n = grads.split(before.shape[2], dim=2)
    d_n.copy_(by_n)
    torch.mul(by_n, r, out=d_nh)
    torch.mul(by_n.mul_(nh), torch.addcmul(r, r, r, value=-1), out=d_r)
    torch.mul(before - n, closed.mul_(z), out=d_z)
    if p:
        grads.mul_(1 - p)
        z.mul_(1 - p).add_(p)
    return grads, z


def _parameter_gradients(
    grads: Tensor, dh0: Tensor, x: Tensor, w_ih: Tensor, before: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """All gradients from those of the pre-activations, `grads` [T*B, 4H] in the order (nh, r, z, n)."""
    hidden = dh0.shape[1]
    by_input = grads[:, hidden:]
    states = before.flatten(0, 1)
    dx = (by_input @ w_ih).view(x.shape) if needed[0] else None
    dw_ih = by_input.t() @ x.flatten(0, 1) if needed[2] else None
    dw_hh = None
    if needed[3]:
        dw_hh = states.new_empty(3 * hidden, hidden)
        torch.mm(grads[:, hidden : 3 * hidden].t(), states, out=dw_hh[: 2 * hidden])
        torch.mm(grads[:, :hidden].t(), states, out=dw_hh[2 * hidden :])
    total = grads.sum(0) if needed[4] or needed[5] else grads[0]
    db_ih = total[hidden:] if needed[4] else None
    db_hh = torch.cat((total[hidden : 3 * hidden], total[:hidden])) if needed[5] else None
    return dx, dh0 if needed[1] else None, dw_ih, dw_hh, db_ih, db_hh
