"""The hand-written gradient equals the plain loop's, for both variants and every kind of sequence."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gatelab.core.backends import reference, torch_gru

Measure = Callable[[Tensor, Tensor], float]
VARIANTS = pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])
SIZES = st.sampled_from([1, 2, 3, 5, 7, 13, 15, 16, 17])


def _tensors(
    steps: int, batch: int, width: int, hidden: int, reset_after: bool, bias: bool = True
) -> list[Tensor | None]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64).requires_grad_()

    tensors: list[Tensor | None] = [draw(steps, batch, width), draw(batch, hidden)]
    tensors += [draw(3 * hidden, width), draw(3 * hidden, hidden)]
    tensors += [draw(3 * hidden) if bias else None]
    return [*tensors, draw(3 * hidden) if bias and reset_after else None]


def _results(backend: Any, tensors: list[Tensor | None], **options: Any) -> Iterator[Tensor]:
    """Outputs, gradients through both outputs, and gradients through the final state alone."""
    leaves = [t for t in tensors if t is not None]
    y, h = backend.run(*tensors, **options)
    yield from (y, h)
    dy = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    dh = torch.linspace(-2, 1, h.numel(), dtype=h.dtype).view(h.shape)
    yield from torch.autograd.grad((y, h), leaves, (dy, dh), retain_graph=True)
    yield from torch.autograd.grad((y,), leaves, (dy,), retain_graph=True)
    yield from torch.autograd.grad((h,), leaves, (dh,))


def _exact(
    tensors: list[Tensor | None], reset_after: bool, lengths: Tensor | None, reset_mask: Tensor | None
) -> Iterator[Tensor]:
    """What `_results` yields, written out in extended precision.

    Large random weights amplify rounding so much that in float64 the plain loop itself is up to twice the bar away from
    it (17 steps of 17 units: 1.92, where the written gradient is 0.16), by the processor.
    """
    wide = [None if t is None else t.detach().numpy().astype(np.longdouble) for t in tensors]
    x, h, w_ih, w_hh, *biases = wide
    b_ih, b_hh = (np.zeros(len(w_ih), np.longdouble) if b is None else b for b in biases)
    n, (steps, batch, _) = h.shape[1], x.shape
    every = np.full(batch, steps) if lengths is None else lengths.numpy()
    resets = np.zeros((steps, batch), bool) if reset_mask is None else reset_mask.numpy()
    y, tape = np.zeros((steps, *h.shape), np.longdouble), []
    for t in range(steps):
        on = (t < every)[:, None]
        before = np.where(on & resets[t][:, None], 0, h)
        a, u = x[t] @ w_ih.T + b_ih, before @ w_hh.T + b_hh
        r, z = (1 / (1 + np.exp(-(a + u)[:, k * n : (k + 1) * n])) for k in range(2))
        read = before if reset_after else r * before
        m = u[:, 2 * n :] if reset_after else read @ w_hh[2 * n :].T
        new = np.tanh(a[:, 2 * n :] + (r * m if reset_after else m))
        keep = z if reset_after else 1 - z
        h = np.where(on, (1 - keep) * new + keep * before, h)
        y[t] = np.where(on, h, 0)
        tape.append((on, before, r, z, m, new, keep))
    yield from (torch.from_numpy(part.astype(np.float64)) for part in (y, h))

    dy, dh = (
        torch.linspace(low, 1, part.size, dtype=torch.float64).view(part.shape).numpy().astype(np.longdouble)
        for low, part in ((-1, y), (-2, h))
    )
    for by_y, by_h in ((dy, dh), (dy, 0 * dh), (0 * dy, dh)):
        d, gradients = by_h, [np.zeros_like(part) for part in (x, w_ih, w_hh, b_ih, b_hh)]
        dx, *sums = gradients
        for t in reversed(range(steps)):
            on, before, r, z, m, new, keep = tape[t]
            d = d + np.where(on, by_y[t], 0)
            now = np.where(on, d, 0)
            by_new = now * (1 - keep) * (1 - new * new)
            by_z = now * (before - new) * z * (1 - z) * (1 if reset_after else -1)
            by_read = by_new @ w_hh[2 * n :]  # of the variant that resets before the product
            by_r = (by_new * m if reset_after else by_read * before) * r * (1 - r)
            inside = np.concatenate((by_r, by_z, by_new), 1)
            beside = np.concatenate((by_r, by_z, by_new * r), 1) if reset_after else inside
            read = np.concatenate((before, before if reset_after else r * before), 1)
            dx[t] = inside @ w_ih
            by_gates = np.concatenate(
                (beside[:, : 2 * n].T @ read[:, :n], beside[:, 2 * n :].T @ read[:, n:])
            )
            for total, part in zip(
                sums, (inside.T @ x[t], by_gates, inside.sum(0), beside.sum(0)), strict=True
            ):
                total += part
            back = now * keep + (
                beside @ w_hh if reset_after else by_read * r + beside[:, : 2 * n] @ w_hh[: 2 * n]
            )
            d = np.where(on, np.where(resets[t][:, None], 0, back), d)
        found = (dx, d, *sums)
        yield from (
            torch.from_numpy(part.astype(np.float64))
            for part, tensor in zip(found, tensors, strict=True)
            if tensor is not None
        )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), reset_after=st.booleans(), bias=st.booleans(), steps=SIZES, batch=SIZES)
@pytest.mark.ci
def test_it_is_exact_on_every_shape(
    data: st.DataObject, reset_after: bool, bias: bool, steps: int, batch: int
) -> None:
    torch.manual_seed(0)
    width, hidden = data.draw(SIZES, "width"), data.draw(SIZES, "hidden")
    lengths = mask = None
    if data.draw(st.booleans(), "ragged"):
        lengths = torch.tensor(data.draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch)))
    if data.draw(st.booleans(), "resets"):
        mask = torch.rand(steps, batch) < data.draw(st.sampled_from([0.1, 0.5, 1.0]))
    options = {"reset_after": reset_after, "lengths": lengths, "reset_mask": mask}
    tensors = _tensors(steps, batch, width, hidden, reset_after, bias)
    pairs = zip(_results(torch_gru, tensors, **options), _exact(tensors, **options), strict=True)
    for got, want in pairs:
        torch.testing.assert_close(got.detach(), want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("hidden", [63, 64, 65])
@VARIANTS
def test_it_equals_the_reference_around_vector_widths(reset_after: bool, hidden: int, error: Measure) -> None:
    tensors = _tensors(3, 33, 31, hidden, reset_after)
    options = {"reset_after": reset_after, "lengths": None, "reset_mask": None}
    for got, want in zip(
        _results(torch_gru, tensors, **options), _results(reference, tensors, **options), strict=True
    ):
        assert error(got, want) <= 1e-12


@pytest.mark.parametrize(
    ("ragged", "resets"), [(False, False), (True, True)], ids=["whole", "ragged, resets"]
)
@VARIANTS
@pytest.mark.quick(2)
@pytest.mark.quick(1, rest="ci")
def test_first_and_second_derivatives_pass_gradcheck(reset_after: bool, ragged: bool, resets: bool) -> None:
    tensors = [t for t in _tensors(4, 3, 2, 2, reset_after) if t is not None]
    lengths = torch.tensor([2, 4, 0]) if ragged else None
    mask = torch.rand(4, 3) < 0.4 if resets else None

    def run(*given: Tensor) -> Any:
        full = given if reset_after else (*given, None)
        return torch_gru.run(*full, reset_after=reset_after, lengths=lengths, reset_mask=mask)

    assert torch.autograd.gradcheck(run, tensors)
    assert torch.autograd.gradgradcheck(run, tensors)


@VARIANTS
def test_inputs_may_be_strided_or_expanded(reset_after: bool) -> None:
    _, _, w_ih, w_hh, b_ih, b_hh = _tensors(5, 4, 6, 3, reset_after)
    assert w_ih is not None
    assert w_hh is not None
    x = torch.randn(4, 6, 10, dtype=torch.float64)[:, :, ::2].permute(2, 0, 1)
    h0 = torch.randn(1, 3, dtype=torch.float64).expand(4, 3)
    weights = (w_ih.detach().t().contiguous().t(), w_hh.detach().t().contiguous().t(), b_ih, b_hh)
    assert not x.is_contiguous()
    results = []
    for backend in (torch_gru, reference):
        leaves = [x.detach().requires_grad_(), h0.detach().requires_grad_()]
        y, h = backend.run(*leaves, *weights, reset_after=reset_after, lengths=None, reset_mask=None)
        total = y.sum()  # its gradient is an expanded scalar
        results.append((y, h, *torch.autograd.grad(total, leaves)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-13)


@VARIANTS
def test_every_buffer_is_written_before_it_is_read(reset_after: bool) -> None:
    tensors = _tensors(5, 3, 2, 4, reset_after)
    mask = torch.rand(5, 3) < 0.3
    options = {"reset_after": reset_after, "lengths": torch.tensor([5, 0, 2]), "reset_mask": mask}
    want = [t.clone() for t in _results(torch_gru, tensors, **options)]
    with torch.no_grad():
        quiet = torch_gru.run(*tensors, **options)
    torch.use_deterministic_algorithms(True)  # fills uninitialised memory with NaN
    try:
        got = list(_results(torch_gru, tensors, **options))
        with torch.no_grad():
            poisoned = torch_gru.run(*tensors, **options)
    finally:
        torch.use_deterministic_algorithms(False)
    for a, b in zip((*got, *poisoned), (*want, *quiet), strict=True):
        assert torch.equal(a, b)


@VARIANTS
def test_without_gradients_the_result_is_the_same(reset_after: bool) -> None:
    for steps in (1, 3, 20):
        tensors = _tensors(steps, 3, 2, 4, reset_after)
        options = {"reset_after": reset_after, "lengths": None, "reset_mask": torch.rand(steps, 3) < 0.2}
        y, h = torch_gru.run(*tensors, **options)
        with torch.no_grad():
            quiet_y, quiet_h = torch_gru.run(*tensors, **options)
        torch.testing.assert_close(quiet_y, y, rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(quiet_h, h, rtol=1e-13, atol=1e-14)


@VARIANTS
def test_only_the_gradients_that_are_asked_for_are_computed(reset_after: bool) -> None:
    tensors = [t if t is None else t.detach() for t in _tensors(4, 3, 2, 5, reset_after)]
    options = {"reset_after": reset_after, "lengths": None, "reset_mask": None}
    for wanted in range(6 if reset_after else 5):
        leaf = tensors[wanted]
        assert leaf is not None
        results = []
        for backend in (torch_gru, reference):
            leaf.requires_grad_()
            results.append(torch.autograd.grad(backend.run(*tensors, **options)[0].sum(), leaf)[0])
            leaf.requires_grad_(False)
        torch.testing.assert_close(*results, rtol=1e-11, atol=1e-12)


@VARIANTS
def test_a_second_backward_through_the_same_graph_is_the_same(reset_after: bool) -> None:
    tensors = _tensors(4, 3, 2, 5, reset_after)
    leaves = [t for t in tensors if t is not None]
    y, h = torch_gru.run(*tensors, reset_after=reset_after, lengths=None, reset_mask=None)
    loss = y.square().sum() + h.sum()
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, leaves), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("steps", [1, 2, 9])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("zoneout", ["none", "expected", "drawn"])
@VARIANTS
def test_no_pass_changes_what_another_reads(reset_after: bool, zoneout: str, batch: int, steps: int) -> None:
    tensors = _tensors(steps, batch, 2, 5, reset_after)
    leaves = [t for t in tensors if t is not None]
    kept = {"none": None, "expected": 0.3, "drawn": torch.rand(steps, batch, 5) < 0.3}[zoneout]
    copies = [t.detach().clone() for t in leaves]
    y, h = torch_gru.run(*tensors, reset_after=reset_after, zoneout=kept)
    loss = y.square().sum() + h.sum()
    first, second = (torch.autograd.grad(loss, leaves, retain_graph=True) for _ in range(2))
    for a, b in zip((*first, *leaves), (*second, *copies), strict=True):
        assert torch.equal(a, b)
