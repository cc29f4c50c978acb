"""Output layer and cross-entropy as one operation on a CPU: no tensor of all logits lives through a training step.

With 700 positions and 10,000 words the logits are 28 MB, and plain PyTorch writes as much three times over (logits,
log-probabilities, their gradient), into memory that the system has to clear each time. Here a chunk of rows at a time
goes all the way, in one buffer that the next step uses again:

    z    = x W^T + b                     logits [R, V]
    l    = log softmax(z)                in place; the NLL is -l[y]
    dz   = exp(l) - (1 - s) [y] - s/V    in place; s is the label smoothing, [y] the target's one-hot row
    dx   = dz W,   dW += dz^T x,   db += sum of dz over the rows

So the gradients are there when forward is done (they are of a sum: no other row matters), and backward multiplies
them by the number that reaches it. The values are those of `F.linear` and `F.cross_entropy`, in another order of
summation; where PyTorch's setting allows it, the factors of the three products are rounded to BF16 (`products.py`). A
gradient of the NLL beside the objective's, a second pass backward through a kept graph and a second derivative are
computed by the plain operations.

Dimensions: N positions, F features, V vocabulary, R rows of a chunk.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.backends.native import UNAVAILABLE
from gatelab.core.backends.native.kernel import POOL, load, most_threads
from gatelab.core.backends.native.products import Products, products_of
from gatelab.core.backends.reference import must_be_plain
from gatelab.core.torch_internals import is_hooked, obstacle

CHUNK = 1 << 23
"""Logits held at once (32 MiB). Fewer would stay in a nearer cache, but the threads meet more often then, and on a
machine that others use as well each meeting waits for the one that is not running."""


def unsupported(head: nn.Linear, x: Tensor, targets: Tensor) -> str | None:
    """Why the plain operations have to serve this head on features [N, F] and targets [N]; None if they need not."""
    if torch.compiler.is_compiling():
        return "torch.compile sees the plain operations only"
    tensors = [t for t in (x, head.weight, head.bias) if t is not None]
    if type(head) is not nn.Linear or is_hooked(head):
        return "the head is not a plain nn.Linear (a subclass, a parametrization, hooks)"
    if (found := obstacle("cpu", [*tensors, targets])) is not None:
        return found
    if any(t.dtype != torch.float32 for t in tensors) or torch.is_autocast_enabled("cpu"):
        return "it computes in torch.float32"
    if targets.dtype != torch.int64:
        return "it reads targets in torch.int64"
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in tensors):
        return "no gradient is asked for"
    return None


def plain(
    x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """(objective, NLL) as `fused` returns them, in plain operations."""
    logits = F.linear(x, weight, bias)
    nll = F.cross_entropy(logits, targets, reduction="sum")
    if not label_smoothing:
        return nll, nll
    return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing), nll


def fused(
    x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The objective and the NLL (nats), both summed over N, of features [N, F], weight [V, F], bias [V], targets [N].

    There has to be a target, every one counts, and `unsupported` must have nothing against it.
    Raises IndexError where a target is not in 0 ... V-1.
    """
    least, most = (int(t) for t in targets.aminmax())
    if least < 0 or most >= len(weight):
        raise IndexError(
            f"target {least if least < 0 else most} is out of bounds: tokens are 0 ... {len(weight) - 1}"
        )
    total, nll = _Fused.apply(label_smoothing, targets, x, weight, bias)
    return (total, nll) if label_smoothing else (total, total)


class _Fused(torch.autograd.Function):
    """(objective, NLL) with the gradients computed beside them."""

    @staticmethod
    def forward(
        ctx: Any, label_smoothing: float, targets: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        ctx.label_smoothing = label_smoothing
        ctx.save_for_backward(targets, x, weight, bias)
        ctx.set_materialize_grads(False)
        total, nll, ctx.grads = _walk(label_smoothing, targets, x, weight, bias, ctx.needs_input_grad[2:])
        return total, nll

    @staticmethod
    def backward(ctx: Any, d_total: Tensor | None, d_nll: Tensor | None) -> tuple[Tensor | None, ...]:
        targets, *tensors = ctx.saved_tensors
        grads, ctx.grads = ctx.grads, None
        if grads is None or d_total is None or d_nll is not None or must_be_plain((d_total,)):
            needed = ctx.needs_input_grad[2:]
            return None, None, *_again(ctx.label_smoothing, targets, tensors, needed, (d_total, d_nll))
        return None, None, *(None if grad is None else grad.mul_(d_total) for grad in grads)


def _walk(
    label_smoothing: float,
    targets: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Objective, NLL, and the gradients of x, weight and bias that are needed."""
    positions, vocabulary = len(x), len(weight)
    chunks = -(-positions * vocabulary // CHUNK)
    rows = -(-positions // chunks)
    products = Products(weight) if UNAVAILABLE else products_of(weight, positions)
    apart = products.apart(vocabulary)
    buffer = POOL.borrow(rows * apart)
    x = x.contiguous()
    dx = x.new_empty(positions, products.apart(x.shape[1]))[:, : x.shape[1]] if needed[0] else None
    dw = torch.empty_like(weight, memory_format=torch.contiguous_format) if needed[1] else None
    totals = x.new_zeros(most_threads(), vocabulary)
    nll, uniform = x.new_empty(positions), x.new_empty(positions)
    step = _rows_in_torch if UNAVAILABLE else _rows_in_c
    for begin in range(0, positions, rows):
        here = slice(begin, begin + rows)
        part = x[here]
        z = buffer[: len(part) * apart].view(len(part), apart)[:, :vocabulary]
        products.outputs(part, out=z)
        nll[here], uniform[here] = step(z, bias, targets[here], label_smoothing, totals)
        if dx is not None:
            products.input_gradient(z, out=dx[here])
        if dw is not None:
            products.weight_gradient(z, part, out=dw, adds=begin > 0)
    products.release()
    POOL.release(buffer)
    summed = nll.sum(dtype=torch.float64)
    total = (1 - label_smoothing) * summed + label_smoothing * uniform.sum(dtype=torch.float64)
    db = None
    if needed[2]:  # from whole counts: a row's -1 among probabilities would cost these their last digits
        uniform_share = positions * label_smoothing / vocabulary
        counts = targets.bincount(minlength=vocabulary)
        db = totals.sum(0) - (1 - label_smoothing) * counts - uniform_share
    return total.float(), summed.float(), [dx, dw, db]


def _rows_in_torch(
    z: Tensor, bias: Tensor | None, targets: Tensor, label_smoothing: float, totals: Tensor
) -> tuple[Tensor, Tensor]:
    """The NLL [R] and that of uniform targets [R]; z [R, V] becomes dz; probabilities are summed in totals[0]."""
    if bias is not None:
        z += bias
    torch.log_softmax(z, 1, out=z)
    target = targets.unsqueeze(1)
    nll, uniform = -z.gather(1, target).squeeze(1), -z.mean(1)
    totals[0] += z.exp_().sum(0)
    z.scatter_add_(1, target, z.new_full((1, 1), label_smoothing - 1).expand_as(target))
    if label_smoothing:
        z -= label_smoothing / z.shape[1]
    return nll, uniform


def _rows_in_c(
    z: Tensor, bias: Tensor | None, targets: Tensor, label_smoothing: float, totals: Tensor
) -> tuple[Tensor, Tensor]:
    """The same by the native kernel: one pass, where the threads meet once. Each has its own row of totals."""
    bias = None if bias is None else bias.contiguous()
    targets, found = targets.contiguous(), z.new_empty(len(z), 3)
    load().head(
        z.data_ptr(),
        z.stride(0),
        None if bias is None else bias.data_ptr(),
        targets.data_ptr(),
        *z.shape,
        label_smoothing,
        len(totals),
        found.data_ptr(),
        totals.data_ptr(),
    )
    log_mass = found[:, 1].log()
    return found[:, 0] + log_mass, found[:, 2] + log_mass


def _again(
    label_smoothing: float,
    targets: Tensor,
    tensors: Sequence[Tensor | None],
    needed: Sequence[bool],
    outer: tuple[Tensor | None, Tensor | None],
) -> list[Tensor | None]:
    """The gradients of x, weight and bias in plain operations, which can be differentiated again."""
    differentiable = torch.is_grad_enabled()
    x, weight, bias = tensors
    assert x is not None
    assert weight is not None
    with torch.enable_grad():
        results = plain(x, weight, bias, targets, label_smoothing)
    pairs = [(y, g) for y, g in zip(results, outer, strict=True) if g is not None]
    wanted = [t for t, n in zip(tensors, needed, strict=True) if t is not None and n]
    found = iter(
        torch.autograd.grad([y for y, _ in pairs], wanted, [g for _, g in pairs], create_graph=differentiable)
    )
    return [next(found) if n else None for n in needed]
