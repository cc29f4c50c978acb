"""Forward and backward of the GRU with the reset gate after the product, without autograd.

The equations are `cells.gru_step_after`'s. One buffer G [T, B, 4H] holds the gates in the order
(nh, r, z, n) with nh = W_hn h + b_hn. In backward the buffer C of the same shape starts as each gate's
derivative with respect to h' and becomes, multiplied by dh, the gradients of the four pre-activations. Its
last three blocks are then the gradient of W_ih x + b_ih and its first three that of W_hh h + b_hh (in the
order n, r, z), so neither has to be copied together.

`fused.py` wraps this into an autograd function. Dimensions: B batch, T time, D input, H hidden.
"""

import torch
from torch import Tensor


def forward(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    resets: dict[int, Tensor],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the states [T+1, B, H], the first of which is h0, and (G,)."""
    steps, batch, width = x.shape
    hidden = h0.shape[1]
    gates = x.new_empty(steps, batch, 4 * hidden)
    bias, b_n = _input_bias(b_ih, b_hh, w_ih, hidden)
    torch.addmm(
        bias, x.reshape(steps * batch, width), w_ih.t(), out=gates.view(steps * batch, -1)[:, hidden:]
    )
    w_rz, w_n = w_hh[: 2 * hidden].t().contiguous(), w_hh[2 * hidden :].t().contiguous()
    states = x.new_empty(steps + 1, batch, hidden)
    states[0] = h0
    rz_t = gates[..., hidden : 3 * hidden].unbind(0)
    nh_t, r_t, z_t, n_t = (block.unbind(0) for block in gates.split(hidden, dim=2))
    h_t = states.unbind(0)
    addmm, lerp = torch.addmm, torch.lerp
    for t in range(steps):
        h = h_t[t].masked_fill(resets[t], 0) if t in resets else h_t[t]
        rz_t[t].addmm_(h, w_rz).sigmoid_()
        nh = nh_t[t]
        addmm(b_n, h, w_n, out=nh)
        n = n_t[t].addcmul_(r_t[t], nh).tanh_()
        lerp(n, h, z_t[t], out=h_t[t + 1])
    return states, (gates,)


def _input_bias(b_ih: Tensor | None, b_hh: Tensor | None, like: Tensor, hidden: int) -> tuple[Tensor, Tensor]:
    """The bias [3H] of the input product, b_hh's r and z rows included, and b_hn [H]."""
    if b_ih is None:
        bias = like.new_zeros(3 * hidden)
    else:
        bias = b_ih.clone()
    if b_hh is None:
        return bias, like.new_zeros(hidden)
    bias[: 2 * hidden] += b_hh[: 2 * hidden]
    return bias, b_hh[2 * hidden :]


def backward(
    dy: Tensor | None,
    dh: Tensor,
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    before: Tensor,
    saved: list[Tensor],
    resets: dict[int, Tensor],
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of (x, h0, w_ih, w_hh, b_ih, b_hh), None where not `needed`.

    dy [T, B, H] or None; dh [B, H] is the gradient of the last state and is overwritten; `before` [T, B, H]
    is the state that each step started from.
    """
    (gates,) = saved
    steps, batch, hidden = before.shape
    grads, z = _coefficients(gates, before)
    by_gate = grads.view(steps, batch, 4, hidden).unbind(0)
    recurrent = grads[..., : 3 * hidden].unbind(0)
    z_t = z.unbind(0)
    dy_t = None if dy is None else dy.unbind(0)
    w_nrz = torch.cat((w_hh[2 * hidden :], w_hh[: 2 * hidden]))
    wide = dh.unsqueeze(1)
    for t in range(steps - 1, -1, -1):
        if dy_t is not None:
            dh.add_(dy_t[t])
        by_gate[t].mul_(wide)
        dh.mul_(z_t[t]).addmm_(recurrent[t], w_nrz)
        if t in resets:
            dh.masked_fill_(resets[t], 0)
    return _parameter_gradients(grads.view(steps * batch, -1), dh, x, w_ih, before, needed)


def _coefficients(gates: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """C [T, B, 4H], the derivatives of h' by the four pre-activations, and a contiguous copy of z."""
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
    return grads, z


def _parameter_gradients(
    grads: Tensor, dh: Tensor, x: Tensor, w_ih: Tensor, before: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """All gradients from those of the pre-activations, `grads` [T*B, 4H] in the order (nh, r, z, n)."""
    rows, hidden = grads.shape[0], dh.shape[1]
    by_input = grads[:, hidden:]
    states = before.reshape(rows, hidden)
    dx = (by_input @ w_ih).view(x.shape) if needed[0] else None
    dw_ih = by_input.t() @ x.reshape(rows, -1) if needed[2] else None
    dw_hh = None
    if needed[3]:
        dw_hh = states.new_empty(3 * hidden, hidden)
        torch.mm(grads[:, hidden : 3 * hidden].t(), states, out=dw_hh[: 2 * hidden])
        torch.mm(grads[:, :hidden].t(), states, out=dw_hh[2 * hidden :])
    total = grads.sum(0) if needed[4] or needed[5] else dh
    db_ih = total[hidden:] if needed[4] else None
    db_hh = torch.cat((total[hidden : 3 * hidden], total[:hidden])) if needed[5] else None
    return dx, dh if needed[1] else None, dw_ih, dw_hh, db_ih, db_hh
