"""Products of training in BF16: where they are used, how exact they are, and what must not change their bits."""

import native_cases as cases
import pytest
import torch

from gatelab.core.backends.native import layer, load, run
from gatelab.core.backends.native.kernel import ISAS

CLOSE = 2e-2  # of the greatest number: a factor keeps 8 bits, which is 2e-3 of it


@pytest.fixture
def medium():
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.fixture(params=ISAS)
def bf16(request, monkeypatch):
    """Every call of training multiplies in BF16 with the kernel for one instruction set, if it can run here."""
    cases.on_isa(request.param, monkeypatch)
    monkeypatch.setattr(layer, "rounds_factors", lambda library, inputs, hidden: True)


def even_case(seed):
    """A random case whose sizes BF16 can take."""
    while True:
        case = cases.random_case(seed)
        if case.tensors[0].shape[2] % 2 == 0 and case.tensors[1].shape[1] % 2 == 0:
            return case
        seed += 1000


def short(*shape):
    """Numbers that BF16 has."""
    return torch.randn(*shape).bfloat16().float()


@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 6, 34), (13, 64, 66), (24, 258, 128), (75, 8, 300)])
def test_a_product_of_numbers_that_bf16_has_is_exact(shape, bf16):
    batch, inputs, hidden = shape
    torch.manual_seed(0)
    x, h0 = short(1, batch, inputs), short(batch, hidden)
    weights = [short(3 * hidden, inputs) / 16, short(3 * hidden, hidden) / 16, short(3 * hidden), None]
    with torch.no_grad():
        plain, _ = run(x, h0, *weights, reset_after=True)
    weights[1].requires_grad_()
    y, _ = run(x, h0, *weights, reset_after=True)
    assert cases.error(y, plain) < 2e-6


def test_results_are_as_close_as_bf16_allows(bf16):
    for seed in range(12):
        case = even_case(seed)
        for exact, found in zip(cases.oracle(case), cases.results_of(run, case), strict=True):
            assert cases.error(found, exact) < CLOSE, str(case)


def test_gradients_of_many_rows_are_as_close_as_bf16_allows(bf16):
    """More rows than a stretch, an odd number of them, and more columns than a block."""
    torch.manual_seed(0)
    hidden, inputs = 130, 70
    tensors = [torch.randn(29, 11, inputs), torch.zeros(11, hidden)]
    tensors += [torch.randn(3 * hidden, n) / n**0.5 for n in (inputs, hidden)] + [None, None]
    grads = (torch.randn(29, 11, hidden), torch.zeros(11, hidden))
    case = cases.Case(tensors, {"reset_after": True, "reverse": False}, grads, 1)
    for exact, found in zip(cases.oracle(case), cases.results_of(run, case), strict=True):
        assert cases.error(found, exact) < CLOSE


def test_bits_do_not_depend_on_threads_or_on_the_rows_beside(bf16, monkeypatch, threads):
    torch.manual_seed(0)
    x, h0 = torch.randn(9, 26, 6), torch.randn(26, 100)
    weights = [torch.randn(300, 6), (torch.randn(300, 100) / 10).requires_grad_(), None, None]
    monkeypatch.setattr(layer, "ALONE", 0)
    monkeypatch.setattr(layer, "SPLIT_STEP", 0)
    found = []
    for count, split in ((1, 10**9), (2, 10**9), (2, 1)):
        threads(count)
        monkeypatch.setattr(layer, "SPLIT_WEIGHTS", split)
        y, _ = run(x, h0, *weights, reset_after=True)
        found.append((y, torch.autograd.grad(y.square().sum(), weights[1])[0]))
    for y, gradient in found[1:]:
        assert torch.equal(y, found[0][0])
        assert torch.equal(gradient, found[0][1])
    for b in range(26):
        alone, _ = run(x[:, b : b + 1], h0[b : b + 1], *weights, reset_after=True)
        assert torch.equal(alone[:, 0], found[0][0][:, b])


def test_only_training_in_medium_precision_with_even_sizes_uses_it(medium):
    has = load().isa == "avx512_bf16"
    assert layer.rounds_factors(load(), 6, 8) == has
    assert not layer.rounds_factors(load(), 7, 8)
    assert not layer.rounds_factors(load(), 6, 9)
    assert not layer.rounds_factors(load("portable"), 6, 8)
    for precision in ("high", "highest"):
        torch.set_float32_matmul_precision(precision)
        assert not layer.rounds_factors(load(), 6, 8)


def test_what_is_scored_is_in_full_precision(medium):
    torch.manual_seed(0)
    tensors = (torch.randn(5, 4, 6), torch.randn(4, 8), torch.randn(24, 6), torch.randn(24, 8), None, None)
    y, _ = run(*tensors, reset_after=True)
    torch.set_float32_matmul_precision("highest")
    assert torch.equal(y, run(*tensors, reset_after=True)[0])
