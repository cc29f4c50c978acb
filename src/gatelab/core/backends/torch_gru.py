"""The `torch` backend: both GRU variants with a hand-written gradient, in plain PyTorch operations.

Where the time goes in a GRU on a CPU is the small operations of each step, so there are few of them: one
product for all inputs, the recurrent weights transposed once, every step written in place into buffers made
beforehand, and a backward pass in coefficient form: all derivatives of the gates are computed for the whole
sequence at once, a step only multiplies them by dh, and the gradients of the weights are one product over
T*B rows each. It is not the oracle (`reference.py` is, and it serves double backward here), and it needs no compiler.

**Reset after the product** (`cells.gru_step_after`). One buffer G [T, B, 4H] holds the gates in the order
(nh, r, z, n) with nh = W_hn h + b_hn. In backward the buffer C of the same shape starts as each gate's
derivative with respect to h' and becomes, multiplied by dh, the gradients of the four pre-activations. Its
last three blocks are then the gradient of W_ih x + b_ih and its first three that of W_hh h + b_hh (in the
order n, r, z), so neither has to be copied together.

**Reset before the product** (`cells.gru_step_before`). G [T, B, 3H] holds (r, z, n). A step needs two products
instead of one, because n reads W_hn (r * h); so its backward has two phases as well: first n's and z's gradients
from dh, then r's from that of q = r * h.

**Zoneout** changes the update gate only. Where a unit keeps its state z is 1 (0 where the reset is before), and it
becomes that, with a derivative of 0, when infinity is added before the sigmoid: no step does anything more. With the
probability p instead of a drawn mask each step averages h' with h, and backward has the factor 1 - p.

**While PyTorch compiles** the layer is a registered operation (`operation.py`), `gatelab::gru_torch`: the loop that
writes in place would break the graph, and make one for each number of steps. `torch.export` alone records the loop.

**Ragged lengths** cost nothing in the loop: rows run on past their length on zero input, the outputs there are
masked, and the final state is read, and its gradient put back, at the length.

Dimensions: B batch, T time, D input, H hidden.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from gatelab.core.backends import operation, reference
from gatelab.core.backends.reference import Backend, Spec
from gatelab.core.cells import Weights
from gatelab.core.torch_internals import ONLY_REFERENCE, is_exporting
from gatelab.core.unroll import padding

COPY_PAYS = 8  # steps; measured at H = 200 and 256, where transposing costs what it saves in about six


class _TorchGRU(torch.autograd.Function):
    """(y, h_n) of one layer in one direction, from the tensors of `reference.Run`."""

    @staticmethod
    def forward(
        ctx: Any,
        reset_after: bool,
        lengths: Tensor | None,
        reset_mask: Tensor | None,
        zoneout: Tensor | float | None,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        x, h0, *weights = cast(Any, tensors)
        forward = _forward_after if reset_after else _forward_before
        ctx.reset_after, ctx.resets = reset_after, _reset_steps(reset_mask)
        drawn, ctx.p = reference.split_zoneout(zoneout)
        states, gates = forward(x, h0, Weights(*weights), ctx.resets, drawn, ctx.p)
        reference.save(ctx, tensors, lengths, reset_mask, drawn, states, gates)
        ctx.set_materialize_grads(False)
        return _outputs(states, lengths)

    @staticmethod
    @reference.without_autocast
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        found, (lengths, reset_mask, drawn, states, gates) = reference.saved(ctx)
        dy, dh = grads
        needed = ctx.needs_input_grad[4:]
        if reference.must_be_plain(grads):
            reference.check_unmoved(ctx, found)
            twice = reference.gradient(
                found.tensors,
                needed,
                (dy, dh),
                reset_after=ctx.reset_after,
                lengths=lengths,
                reset_mask=reset_mask,
                zoneout=(ctx.p or None) if drawn is None else drawn,
            )
            return (*[None] * 4, *twice)
        how = (ctx.resets, reset_mask, ctx.reset_after, ctx.p, needed)
        return (*[None] * 4, *_gradients(dy, dh, found.read, lengths, states, gates, *how))


def _gradients(
    dy: Tensor | None,
    dh: Tensor | None,
    tensors: Sequence[Any],
    lengths: Tensor | None,
    states: Tensor,
    gates: Tensor,
    resets: dict[int, Tensor],
    reset_mask: Tensor | None,
    reset_after: bool,
    p: float,
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The gradients of the first six `tensors` of a call, from the states and gates of its forward pass."""
    x, h0, w_ih, w_hh, *_ = tensors
    outside = _seed_gradients(dy, dh, states, lengths)
    before = states[:-1]  # the state that each step started from: the one before it, or zero after a reset
    read = torch.cat((h0.unsqueeze(0), before[1:]))  # as `nn.GRU`: by the product, h0's memory as it is now
    if reset_mask is not None:
        before, read = (s.masked_fill(reset_mask.unsqueeze(-1), 0) for s in (before, read))
    backward = _backward_after if reset_after else _backward_before
    return backward(outside, x, w_ih, w_hh, before, read, gates, resets, p, needed)


def _layer_forward(x: Tensor, h0: Tensor, *others: Any) -> tuple[Tensor, ...]:
    """The registered operation's forward pass; see `operation.register`."""
    *weights, lengths, reset_mask, drawn, reset_after, _, p, training = others
    options = (x, h0, Weights(*weights), _reset_steps(reset_mask), drawn, p)
    if training:
        states, gates = (_forward_after if reset_after else _forward_before)(*options)
    else:
        states, gates = _infer_after(*options) if reset_after else _forward_before(*options)[0], None
    y, h_n = _outputs(states, lengths)
    return y, h_n, *((states, gates) if gates is not None else (x.new_empty(0), x.new_empty(0)))


def _layer_backward(dy: Tensor | None, dh_n: Tensor | None, *others: Any) -> list[Tensor | None]:
    """Its backward pass. Results are copied where they are parts: a graph counts on an aligned beginning."""
    *tensors, lengths, reset_mask, _, states, gates, reset_after, _, p, needed = others
    how = (_reset_steps(reset_mask), reset_mask, reset_after, p, needed)
    found = _gradients(dy, dh_n, tensors, lengths, states, gates, *how)
    return [g.clone() if n and g is not None else None for g, n in zip(found, needed, strict=True)]


def _kept(x: Tensor, h0: Tensor, reset_after: bool, training: bool) -> operation.Shapes:
    """The shapes of the states and of G."""
    steps, batch, hidden = x.shape[0], *h0.shape
    blocks = 4 if reset_after else 3
    return ((steps + 1, batch, hidden), (steps, batch, blocks * hidden)) if training else ((0,), (0,))


_layer = operation.register("gru_torch", _layer_forward, _layer_backward, _kept)


def run(
    x: Tensor,
    h0: Tensor,
    *weights: Tensor | None,
    reset_after: bool,
    lengths: Tensor | None = None,
    reset_mask: Tensor | None = None,
    zoneout: Tensor | float | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one layer in one direction; the arguments are those of `reference.Run`."""
    every = Weights(*weights)  # type: ignore[arg-type]
    if every.g_ih is not None or every.g_hh is not None:
        raise ValueError("the torch backend has no layer normalisation: g_ih and g_hh must be None")
    tensors = (x, h0, *every[:4])
    training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    drawn, p = reference.split_zoneout(zoneout)
    if torch.compiler.is_compiling() and not is_exporting():
        y, h_n, _, _ = _layer(*tensors, lengths, reset_mask, drawn, reset_after, False, p, training)
        return y, h_n
    if training:
        return _TorchGRU.apply(reset_after, lengths, reset_mask, zoneout, *tensors)
    options = (x, h0, every, _reset_steps(reset_mask), drawn, p)
    if reset_after:
        return _outputs(_infer_after(*options), lengths)
    return _outputs(_forward_before(*options)[0], lengths)  # nothing of G can be left out here


def unsupported(spec: Spec) -> str | None:
    """Return why not: only real numbers (the written gradient has no conjugates), and no layer normalisation."""
    if spec.obstacle is not None:
        return spec.obstacle
    if is_exporting() and (spec.training or spec.has_reset_mask):
        return f"torch.export can record neither its gradient nor resets {ONLY_REFERENCE}"
    if spec.layer_norm:
        return "its hand-written gradient has no layer normalisation"
    return None if spec.dtype.is_floating_point else f"it computes in floating point, not in {spec.dtype}"


def _forward_after(
    x: Tensor, h0: Tensor, w: Weights, resets: dict[int, Tensor], drawn: Tensor | None, p: float
) -> tuple[Tensor, Tensor]:
    """Return the states [T+1, B, H], the first of which is h0, and G.

    `drawn` [T, B, H] and p are zoneout's, the one in training, the other in evaluation.
    """
    steps, batch = x.shape[:2]
    hidden = h0.shape[1]
    gates = x.new_empty(steps, batch, 4 * hidden)
    bias = x.new_zeros(3 * hidden) if w.b_ih is None else w.b_ih.clone()
    if w.b_hh is not None:
        bias[: 2 * hidden] += w.b_hh[: 2 * hidden]
    torch.addmm(bias, x.flatten(0, 1), w.w_ih.t(), out=gates.flatten(0, 1)[:, hidden:])
    # so that one product a step adds to all three recurrent blocks
    gates[..., :hidden] = 0 if w.b_hh is None else w.b_hh[2 * hidden :]
    if drawn is not None:
        gates[..., 2 * hidden : 3 * hidden].masked_fill_(drawn, math.inf)
    weight = _transposed(_nrz(w.w_hh), steps)
    states = _empty_states(h0, steps)
    nrz_t, rz_t = gates[..., : 3 * hidden].unbind(0), gates[..., hidden : 3 * hidden].unbind(0)
    nh_t, r_t, z_t, n_t = (block.unbind(0) for block in gates.split(hidden, dim=2))
    h_t = states.unbind(0)
    for t in range(steps):
        h = h_t[t].masked_fill(resets[t], 0) if t in resets else h_t[t]
        nrz_t[t].addmm_(h, weight)
        rz_t[t].sigmoid_()
        n = n_t[t].addcmul_(r_t[t], nh_t[t]).tanh_()
        _blend(n, h, z_t[t], p, h_t[t + 1])
    return states, gates


def _infer_after(
    x: Tensor, h0: Tensor, w: Weights, resets: dict[int, Tensor], drawn: Tensor | None, p: float
) -> Tensor:
    """Return the states [T+1, B, H] and keep nothing for a gradient."""
    steps, batch = x.shape[:2]
    hidden = h0.shape[1]
    gates = F.linear(x.flatten(0, 1), w.w_ih, w.b_ih).view(steps, batch, 3 * hidden)
    if drawn is not None:
        gates[..., hidden : 2 * hidden].masked_fill_(drawn, math.inf)
    bias = x.new_zeros(3 * hidden) if w.b_hh is None else w.b_hh
    weight = _transposed(w.w_hh, steps)
    states = _empty_states(h0, steps)
    rz_t = gates[..., : 2 * hidden].unbind(0)
    r_t, z_t, n_t = (block.unbind(0) for block in gates.split(hidden, dim=2))
    recurrent = x.new_empty(batch, 3 * hidden)
    by_rz, by_n = recurrent[:, : 2 * hidden], recurrent[:, 2 * hidden :]
    h_t = states.unbind(0)
    addmm = torch.addmm
    for t in range(steps):
        h = h_t[t].masked_fill(resets[t], 0) if t in resets else h_t[t]
        addmm(bias, h, weight, out=recurrent)
        rz_t[t].add_(by_rz).sigmoid_()
        n = n_t[t].addcmul_(r_t[t], by_n).tanh_()
        _blend(n, h, z_t[t], p, h_t[t + 1])
    return states


def _blend(n: Tensor, h: Tensor, z: Tensor, p: float, out: Tensor) -> None:
    """out = n + z (h - n), then zoneout's average with h; `lerp` is another sum, NaN where a state is infinite."""
    torch.addcmul(n, z, torch.sub(h, n, out=out), out=out)
    if p:
        out.mul_(1 - p).add_(h, alpha=p)


def _nrz(w_hh: Tensor) -> Tensor:
    """The recurrent weights with their rows in the order of G's first three blocks."""
    hidden = w_hh.shape[1]
    return torch.cat((w_hh[2 * hidden :], w_hh[: 2 * hidden]))


def _backward_after(
    dh: Tensor,
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    before: Tensor,
    read: Tensor,
    gates: Tensor,
    resets: dict[int, Tensor],
    p: float,
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of (x, h0, w_ih, w_hh, b_ih, b_hh), None where not `needed`.

    dh [T+1, B, H] holds what reaches each state from outside and is completed in place; `before` [T, B, H]
    is the state that each step started from and `read` the one that dW_hh is made of; p is forward's.
    """
    steps, batch, hidden = before.shape
    grads, z = _coefficients_after(gates, before, p)
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
    flat = grads.flatten(0, 1)
    dx, dw_ih = input_gradients(flat[:, hidden:], x, w_ih, needed)
    dw_hh = recurrent_gradient(flat[:, hidden:], flat[:, :hidden], read, read) if needed[3] else None
    total = flat.sum(0) if needed[4] or needed[5] else None
    db_ih = total[hidden:] if total is not None and needed[4] else None
    db_hh = (
        torch.cat((total[hidden : 3 * hidden], total[:hidden])) if total is not None and needed[5] else None
    )
    return dx, dh[0], dw_ih, dw_hh, db_ih, db_hh


def _coefficients_after(gates: Tensor, before: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """C [T, B, 4H], the derivatives of the new state by the four pre-activations, and that by h, [T, B, H]."""
    nh, r, z, n = gates.split(before.shape[2], dim=2)
    z = z.clone(memory_format=torch.contiguous_format)  # it is changed below, and a second pass reads G
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


def input_gradients(
    grads: Tensor, x: Tensor, w_ih: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of x and w_ih, products over all rows, None where not `needed`.

    `grads` [T*B, 3H] are those of the pre-activations (r, z, n).
    """
    dx = (grads @ w_ih).view(x.shape) if needed[0] else None
    return dx, grads.t() @ x.flatten(0, 1) if needed[2] else None


def recurrent_gradient(grads: Tensor, of_n: Tensor, read: Tensor, before: Tensor) -> Tensor:
    """The gradient of w_hh: `of_n` [T*B, H] is that of W_hn's product, which `read` [T, B, H].

    What it read are the states `before`, or r times them.
    """
    hidden = before.shape[2]
    dw_hh = grads.new_empty(3 * hidden, hidden)
    torch.mm(grads[:, : 2 * hidden].t(), before.flatten(0, 1), out=dw_hh[: 2 * hidden])
    torch.mm(of_n.t(), read.flatten(0, 1), out=dw_hh[2 * hidden :])
    return dw_hh


def _forward_before(
    x: Tensor, h0: Tensor, w: Weights, resets: dict[int, Tensor], drawn: Tensor | None, p: float
) -> tuple[Tensor, Tensor]:
    """Return the states [T+1, B, H], the first of which is h0, and G. There is no `b_hh`."""
    steps, batch = x.shape[:2]
    hidden = h0.shape[1]
    gates = x.new_empty(steps, batch, 3 * hidden)
    flat = gates.flatten(0, 1)
    if w.b_ih is None:
        torch.mm(x.flatten(0, 1), w.w_ih.t(), out=flat)
    else:
        torch.addmm(w.b_ih, x.flatten(0, 1), w.w_ih.t(), out=flat)
    if drawn is not None:
        gates[..., hidden : 2 * hidden].masked_fill_(drawn, -math.inf)
    w_rz, w_n = (_transposed(part, steps) for part in (w.w_hh[: 2 * hidden], w.w_hh[2 * hidden :]))
    states = _empty_states(h0, steps)
    rz_t = gates[..., : 2 * hidden].unbind(0)
    r_t, z_t, n_t = (block.unbind(0) for block in gates.split(hidden, dim=2))
    h_t = states.unbind(0)
    q = x.new_empty(batch, hidden)
    mul = torch.mul
    for t in range(steps):
        h = h_t[t].masked_fill(resets[t], 0) if t in resets else h_t[t]
        rz_t[t].addmm_(h, w_rz).sigmoid_()
        mul(r_t[t], h, out=q)
        n = n_t[t].addmm_(q, w_n).tanh_()
        # not h + z (n - h): a large state would swallow n
        mul(1 - z_t[t], h, out=h_t[t + 1]).addcmul_(z_t[t], n)
        if p:
            h_t[t + 1].mul_(1 - p).add_(h, alpha=p)
    return states, gates


def _backward_before(
    dh: Tensor,
    x: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    before: Tensor,
    read: Tensor,
    gates: Tensor,
    resets: dict[int, Tensor],
    p: float,
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Return the gradients; the arguments are those of `_backward_after`."""
    steps, batch, hidden = before.shape
    grads, r, closed = _coefficients_before(gates, before, p)
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
    flat, q = grads.flatten(0, 1), r * before
    dx, dw_ih = input_gradients(flat, x, w_ih, needed)
    dw_hh = recurrent_gradient(flat, flat[:, 2 * hidden :], q, read) if needed[3] else None
    return dx, dh[0], dw_ih, dw_hh, flat.sum(0) if needed[4] else None, None


def _coefficients_before(gates: Tensor, before: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor]:
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


def _transposed(weight: Tensor, steps: int) -> Tensor:
    """The transpose, copied when enough steps will read it to pay for the copy."""
    return weight.t().contiguous() if steps >= COPY_PAYS else weight.t()


def _empty_states(h0: Tensor, steps: int) -> Tensor:
    """The buffer of the states [T+1, B, H], h0 in its first place."""
    states = h0.new_empty(steps + 1, *h0.shape)
    states[0] = h0
    return states


def _reset_steps(reset_mask: Tensor | None) -> dict[int, Tensor]:
    """The steps at which any row resets, each with its mask [B, 1]; most steps of most batches have none."""
    if reset_mask is None:
        return {}
    return {t: reset_mask[t].unsqueeze(-1) for t in reset_mask.any(1).nonzero().flatten().tolist()}


def _outputs(states: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """y [T, B, H] and h_n [B, H] from states [T+1, B, H], as copies.

    Backward reads the states, and a caller may change y in place.
    """
    y = states[1:]
    if lengths is None:
        return y.clone(), states[-1].clone()
    final = states.gather(0, lengths.view(1, -1, 1).expand(1, -1, states.shape[2]))[0]
    return y.masked_fill(padding(lengths, y.shape[0]).unsqueeze(-1), 0), final


def _seed_gradients(dy: Tensor | None, dh: Tensor | None, states: Tensor, lengths: Tensor | None) -> Tensor:
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


BACKEND = Backend("torch", "a hand-written gradient in plain PyTorch operations", run, unsupported)
