"""Cross-entropy of a linear output layer, for vocabularies whose logits are the largest thing of a training step.

The plain way holds the logits, their log-softmax and their gradient at once, three times [N, V]. Here the rows are
taken a part at a time in two buffers that stay in the processor's cache, and the gradients, which are small, are
computed on the way forward. It is neither a module nor a choice of the objective.

    a   = x W' + b                                                        logits [N, V]
    l_i = lse(a_i) - a_i[t_i]                                             nats of row i
    o_i = (1-s) l_i + s (lse(a_i) - mean_j a_ij)                          with label smoothing s
    da  = softmax(a_i) - s/V - (1-s) onehot(t_i)                          d o_i / d a_i

Dimensions: N rows, F features, V vocabulary.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 1 << 22
"""Elements of a buffer: 16 MiB in float32."""
LARGE = 1000
"""From this V on it is faster than the plain way on a CPU."""

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


class Loss(NamedTuple):
    """Sums over the rows that count.

    objective: scalar of x's dtype, differentiable. nll: scalar float64, nats without label smoothing, detached.
    """

    objective: Tensor
    nll: Tensor


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Loss:
    """Sum the cross-entropy of `softmax(x W' + b)` over the rows whose target is not `ignore_index`.

    Args:
        x: [N, F]; weight: [V, F]; bias: [V] or None; targets: [N] int64, 0 ... V-1 or `ignore_index`.
        label_smoothing: share of a target's probability that is spread evenly over the vocabulary.

    A gradient that is to be differentiated again, or asked for twice, is computed the plain way.

    Raises:
        ValueError: shapes that do not fit.
        IndexError: a target outside the vocabulary.
    """
    rows, features = (x.shape[0], x.shape[1]) if x.dim() == 2 else (-1, -1)
    vocabulary = weight.shape[0]
    if targets.shape != (rows,) or weight.shape != (vocabulary, features):
        raise ValueError(
            f"x, weight and targets must be [N, F], [V, F] and [N], got {list(x.shape)}, {list(weight.shape)} "
            f"and {list(targets.shape)}"
        )
    counted = targets != ignore_index
    at = torch.where(counted, targets, 0)
    if rows and not 0 <= int(at.min()) <= int(at.max()) < vocabulary:
        raise IndexError(f"targets must lie in 0 ... {vocabulary - 1} or be {ignore_index}")
    objective, nll = _Loss.apply(x, weight, bias, at, counted, label_smoothing)
    return Loss(objective, nll)


def _plain(
    x: Tensor, weight: Tensor, bias: Tensor | None, at: Tensor, counted: Tensor, smoothing: float
) -> Tensor:
    """The objective, by PyTorch's operations."""
    logits = F.linear(x, weight, bias)
    return (F.cross_entropy(logits, at, reduction="none", label_smoothing=smoothing) * counted).sum()


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        at: Tensor,
        counted: Tensor,
        smoothing: float,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weight, bias, at, counted)
        ctx.smoothing = smoothing
        ctx.set_materialize_grads(False)
        objective, nll, ctx.grads = _forward(
            x, weight, bias, at, counted, smoothing, ctx.needs_input_grad[:3]
        )
        ctx.mark_non_differentiable(nll)
        return objective, nll

    @staticmethod
    def backward(ctx: Any, outer: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if outer is None:
            return (None,) * 6
        # handed over: whoever takes them may write into them, so a second backward pass computes them again
        grads, ctx.grads = ctx.grads, None
        again = torch.is_grad_enabled()
        if grads is None or again:
            *inputs, at, counted = ctx.saved_tensors
            wanted = [t for t, n in zip(inputs, ctx.needs_input_grad, strict=False) if n]
            with torch.enable_grad():
                found = iter(
                    torch.autograd.grad(
                        _plain(*inputs, at, counted, ctx.smoothing), wanted, outer, create_graph=again
                    )
                )
            grads = tuple(next(found) if n else None for n in ctx.needs_input_grad[:3])
        else:
            for grad in grads:
                if grad is not None:
                    grad.mul_(outer)
        return (*grads, None, None, None)


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    at: Tensor,
    counted: Tensor,
    smoothing: float,
    needed: tuple[bool, ...],
) -> tuple[Tensor, Tensor, Gradients]:
    """The objective, the NLL, and those gradients of (x, weight, bias) that are `needed`."""
    rows, vocabulary = len(x), len(weight)
    dx = torch.empty_like(x) if needed[0] else None
    dw = torch.zeros_like(weight) if needed[1] else None
    db = torch.zeros_like(weight[:, 0]) if needed[2] else None
    objective = nll = torch.zeros((), dtype=torch.float64, device=x.device)
    parts = max(1, -(-rows * vocabulary // CHUNK))
    size = max(1, -(-rows // parts))
    logits, logp = (x.new_empty(min(size, rows), vocabulary) for _ in range(2))
    for start in range(0, rows, size):
        part = slice(start, min(start + size, rows))
        count = part.stop - start
        a, p, x_part, t, c = logits[:count], logp[:count], x[part], at[part, None], counted[part]
        if bias is None:
            torch.mm(x_part, weight.t(), out=a)
        else:
            torch.addmm(bias, x_part, weight.t(), out=a)
        torch.log_softmax(a, dim=1, out=p)
        each = -p.gather(1, t).squeeze(1).double()
        nll = nll + torch.where(c, each, 0).sum()
        if smoothing:
            even = -p.sum(1).double() / vocabulary
            each = (1 - smoothing) * each + smoothing * even
        objective = objective + torch.where(c, each, 0).sum()
        if not any(needed):
            continue
        p.exp_()
        if smoothing:
            p.sub_(smoothing / vocabulary)
        p.scatter_add_(1, t, p.new_full((count, 1), smoothing - 1))
        if not bool(c.all()):
            p.masked_fill_(~c[:, None], 0)
        if dx is not None:
            torch.mm(p, weight, out=dx[part])
        if dw is not None:
            torch.addmm(dw, p.t(), x_part, out=dw)
        if db is not None:
            db += p.sum(0)
    return objective.to(x.dtype), nll, (dx, dw, db)
