"""Random calls of the GRU layer, and what the reference backend makes of them in any precision."""

import random
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from gatelab.core.backends import reference
from gatelab.core.backends.native.kernel import ISAS, load
from gatelab.core.unroll import reverse, reverse_reset

SIZES = (1, 2, 3, 7, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65)


def on_isa(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with the kernel for one instruction set, or skip where this processor has it not."""
    if ISAS.index(isa) > ISAS.index(load("portable").processor):
        pytest.skip(f"this processor cannot run {isa}")
    for module in ("layer", "products"):
        monkeypatch.setattr(f"gatelab.core.backends.native.{module}.load", lambda: load(isa))


@dataclass
class Case:
    """One call: tensors (x, h0, w_ih, w_hh, b_ih, b_hh), options, and the gradients of its two results."""

    tensors: list[Tensor | None]
    options: dict[str, object]
    grads: tuple[Tensor, Tensor]
    threads: int

    def leaves(self, dtype: torch.dtype) -> list[Tensor | None]:
        return [None if t is None else t.detach().clone().to(dtype).requires_grad_() for t in self.tensors]

    def __str__(self) -> str:
        shapes = [None if t is None else list(t.shape) for t in self.tensors]
        has = {k: v if isinstance(v, bool) else v is not None for k, v in self.options.items()}
        return f"{shapes} {has} threads={self.threads}"


def random_case(seed: int) -> Case:
    r = random.Random(seed)
    torch.manual_seed(seed)
    steps, batch = r.choice((1, 2, 3, 5, 11, 23)), r.choice((*SIZES[:11], 48))
    inputs, hidden = r.choice((*SIZES, 100)), r.choice((*SIZES, 96, 129))
    after = r.random() < 0.5
    lengths = torch.randint(0, steps + 1, (batch,)) if r.random() < 0.5 else None
    resets = torch.rand(steps, batch) < 0.25 if r.random() < 0.5 else None
    x = torch.randn(steps, batch, inputs)
    if lengths is not None:
        x = x.masked_fill((torch.arange(steps).unsqueeze(1) >= lengths).unsqueeze(-1), 0)
    bias = r.random() < 0.8
    tensors = [
        x,
        torch.randn(batch, hidden),
        torch.randn(3 * hidden, inputs) / inputs**0.5,
        torch.randn(3 * hidden, hidden) / hidden**0.5,
        torch.randn(3 * hidden) if bias else None,
        torch.randn(3 * hidden) if bias and after else None,
    ]
    options = {
        "reset_after": after,
        "lengths": lengths,
        "reset_mask": resets,
        "reverse": r.random() < 0.5,
    }
    grads = (torch.randn(steps, batch, hidden), torch.randn(batch, hidden))
    return Case(tensors, options, grads, r.choice((1, 2)))


def expected(x, h0, *weights, reset_after, lengths=None, reset_mask=None, reverse_time=False):
    if reverse_time:
        x = reverse(x, lengths)
        reset_mask = None if reset_mask is None else reverse_reset(reset_mask, lengths)
    y, h_n = reference.run(x, h0, *weights, reset_after=reset_after, lengths=lengths, reset_mask=reset_mask)
    return (reverse(y, lengths) if reverse_time else y), h_n


def oracle(case: Case) -> list[Tensor]:
    """y, h_n and the gradients of every tensor, in float64."""
    return _results(_reference, case, torch.float64)


def _reference(*tensors, reverse, **options):
    return expected(*tensors, reverse_time=reverse, **options)


def _results(run, case: Case, dtype: torch.dtype) -> list[Tensor]:
    leaves = case.leaves(dtype)
    results = run(*leaves, **case.options)
    wanted = [t for t in leaves if t is not None]
    grads = torch.autograd.grad(results, wanted, [g.to(dtype) for g in case.grads], allow_unused=True)
    pairs = zip(grads, wanted, strict=True)
    filled = [torch.zeros_like(t) if g is None else g for g, t in pairs]
    return [t.detach() for t in (*results, *filled)]


def results_of(run, case: Case) -> list[Tensor]:
    """y, h_n and the gradients of every tensor, in float32, by a run function like the backend's."""
    return _results(run, case, torch.float32)


def plain_float32(case: Case) -> list[Tensor]:
    """The same in float32 by the plain loop: the arithmetic of `nn.GRU`, for every option."""
    return _results(_reference, case, torch.float32)


def error(found: Tensor, exact: Tensor) -> float:
    """The greatest difference, relative to the greatest number."""
    found, exact = found.detach(), exact.detach()
    return (
        float((found.double() - exact).abs().max() / exact.abs().max().clamp(min=1)) if exact.numel() else 0.0
    )
