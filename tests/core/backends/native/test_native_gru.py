"""The native layer against the float64 oracle, and what must not change its bits."""

import copy
import random

import native_cases as cases
import pytest
import torch
from torch import nn

from gatelab.core.backends.native import kernel as native_kernel
from gatelab.core.backends.native import layer, run
from gatelab.core.backends.native.kernel import ISAS


@pytest.fixture
def isa(request, monkeypatch):
    cases.on_isa(request.param, monkeypatch)


def vary_paths(monkeypatch, seed):
    """Reach every way to divide the work, whatever the sizes; None keeps the real choice."""
    r = random.Random(seed)
    for name, values in {
        "ALONE": (0, None),
        "SPLIT_STEP": (0, None),
        "SPLIT_WEIGHTS": (1, None, 10**9),
        "FUSED_INPUTS": (0, None, 10**9),
        "FUSED_ROWS": (0, None),
    }.items():
        value = r.choice(values)
        if value is not None:
            monkeypatch.setattr(layer, name, value)


def check_case(seed, monkeypatch, threads):
    case = cases.random_case(seed)
    vary_paths(monkeypatch, seed)
    threads(case.threads)
    exact, plain, found = cases.oracle(case), cases.plain_float32(case), cases.results_of(run, case)
    for e, p, f in zip(exact, plain, found, strict=True):
        assert f.shape == e.shape
        assert cases.error(f, e) <= 2 * cases.error(p, e) + 1e-6, str(case)
    with torch.no_grad():
        for e, p, f in zip(exact, plain, run(*case.tensors, **case.options), strict=False):
            assert cases.error(f, e) <= 2 * cases.error(p, e) + 1e-6, str(case)


@pytest.mark.parametrize("isa", ISAS, indirect=True)
def test_error_is_at_most_twice_that_of_plain_float32(isa, monkeypatch, threads):
    for seed in range(20):
        with monkeypatch.context() as patch:
            check_case(seed, patch, threads)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # minutes on a free machine
@pytest.mark.parametrize("isa", ISAS, indirect=True)
def test_error_is_at_most_twice_that_of_plain_float32_on_500_shapes(isa, monkeypatch, threads):
    for seed in range(1000, 1500):
        with monkeypatch.context() as patch:
            check_case(seed, patch, threads)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 13, 17, 65), (5, 64, 64, 63), (23, 3, 300, 16)])
def test_error_is_at_most_twice_that_of_nn_gru(shape, threads):
    steps, batch, inputs, hidden = shape
    torch.manual_seed(0)
    gru = nn.GRU(inputs, hidden)
    exact = copy.deepcopy(gru).double()
    x, h0 = torch.randn(steps, batch, inputs), torch.randn(1, batch, hidden)
    dy = torch.randn(steps, batch, hidden)

    def all_of(call, x, h0, weights, dy):
        x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
        y, h_n = call(x, h0)
        return [y, h_n, *torch.autograd.grad((y, h_n), (x, h0, *weights), (dy, torch.ones_like(h_n)))]

    def native(x, h0):
        y, h_n = run(x, h0[0], *gru.parameters(), reset_after=True)
        return y, h_n.unsqueeze(0)

    oracle = all_of(exact, x.double(), h0.double(), list(exact.parameters()), dy.double())
    theirs = all_of(gru, x, h0, list(gru.parameters()), dy)
    for n in (1, 2):
        threads(n)
        for e, t, f in zip(oracle, theirs, all_of(native, x, h0, list(gru.parameters()), dy), strict=True):
            assert cases.error(f, e) <= 2 * cases.error(t, e) + 1e-6


def test_twenty_repeats_give_the_same_bits(monkeypatch, threads):
    for seed in (3, 14, 15, 92):
        with monkeypatch.context() as patch:
            vary_paths(patch, seed)
            case = cases.random_case(seed)
            threads(2)
            first = cases.results_of(run, case)
            for _ in range(19):
                for a, b in zip(first, cases.results_of(run, case), strict=True):
                    assert torch.equal(a, b)


def test_states_do_not_depend_on_threads_or_on_how_the_work_is_divided(monkeypatch, threads):
    torch.manual_seed(0)
    tensors = (torch.randn(9, 26, 5), torch.randn(26, 100), torch.randn(300, 5), torch.randn(300, 100) / 10)
    results = []
    for count, split in ((1, 10**9), (2, 10**9), (2, 1)):
        threads(count)
        monkeypatch.setattr(layer, "ALONE", 0)
        monkeypatch.setattr(layer, "SPLIT_STEP", 0)
        monkeypatch.setattr(layer, "SPLIT_WEIGHTS", split)
        results.append(run(*tensors, None, None, reset_after=True))
    for y, h_n in results[1:]:
        assert torch.equal(y, results[0][0])
        assert torch.equal(h_n, results[0][1])


@pytest.mark.parametrize("after", [True, False])
def test_a_row_does_not_depend_on_the_rows_beside_it(after):
    torch.manual_seed(0)
    x, h0 = torch.randn(9, 26, 5), torch.randn(26, 70)
    weights = (torch.randn(210, 5), torch.randn(210, 70) / 8, None, None)
    lengths = torch.randint(0, 10, (26,))
    y, h_n = run(x, h0, *weights, reset_after=after, lengths=lengths)
    for b in range(26):
        n = int(lengths[b])
        if n:
            alone, last = run(x[:n, b : b + 1], h0[b : b + 1], *weights, reset_after=after)
            assert torch.equal(y[:n, b], alone[:, 0])
            assert torch.equal(h_n[b], last[0])
        assert not y[n:, b].any()


def test_poisoned_memory_never_reaches_a_result(monkeypatch, threads):
    def poisoned(*shape, dtype=None, device=None):
        return torch.full(shape, float("nan") if dtype in (None, torch.float32) else -7, dtype=dtype)

    class PoisonedTorch:
        def __getattr__(self, name):
            return poisoned if name == "empty" else getattr(torch, name)

    for seed in range(200, 230):
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "new_empty", lambda like, *shape: poisoned(*shape, dtype=like.dtype))
            patch.setattr(native_kernel, "torch", PoisonedTorch())
            vary_paths(patch, seed)
            case = cases.random_case(seed)
            for found in cases.results_of(run, case):
                assert torch.isfinite(found).all(), str(case)


def test_a_nan_shows_in_its_row_only():
    torch.manual_seed(0)
    x, h0 = torch.randn(4, 5, 3), torch.zeros(5, 20)
    x[1, 2, 0] = float("nan")
    y, _ = run(x, h0, torch.randn(60, 3), torch.randn(60, 20), None, None, reset_after=True)
    assert y[1:, 2].isnan().all()
    assert torch.isfinite(y[:, [0, 1, 3, 4]]).all()
    assert torch.isfinite(y[0]).all()


def test_gates_saturate_without_overflow():
    x = torch.tensor([1e30, -1e30, 100.0, -100.0]).view(1, 4, 1).repeat(3, 1, 1)
    y, _ = run(x, torch.zeros(4, 3), torch.ones(9, 1), torch.ones(9, 3), None, None, reset_after=False)
    assert torch.equal(y, torch.sign(x).expand_as(y) * y.abs())
    assert torch.isfinite(y).all()


def test_gradient_through_the_final_state_only():
    torch.manual_seed(0)
    case = cases.random_case(5)
    leaves, exact = case.leaves(torch.float32), case.leaves(torch.float64)
    options = dict(case.options)
    _, h_n = run(*leaves, **options)
    h_n.sum().backward()
    options["reverse_time"] = options.pop("reverse")
    _, h_n = cases.expected(*exact, **options)
    h_n.sum().backward()
    for found, e in zip(leaves, exact, strict=True):
        if found is not None:
            assert cases.error(found.grad, e.grad) < 1e-5


def test_a_second_backward_pass_gives_the_same_gradients():
    case = cases.random_case(8)
    leaves = case.leaves(torch.float32)
    results = run(*leaves, **case.options)
    wanted = [t for t in leaves if t is not None]
    first = torch.autograd.grad(results, wanted, case.grads, retain_graph=True)
    second = torch.autograd.grad(results, wanted, case.grads)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_memory_that_is_not_contiguous_gives_the_same_result():
    torch.manual_seed(0)
    x, h0 = torch.randn(6, 4, 10), torch.randn(4, 12)
    weights = [torch.randn(36, 10), torch.randn(36, 12), torch.randn(36), torch.randn(36)]
    y, _ = run(x, h0, *weights, reset_after=True)
    strange = [torch.stack((w, w), -1)[..., 0] for w in (x.transpose(0, 1).contiguous(), h0, *weights)]
    z, _ = run(strange[0].transpose(0, 1), *strange[1:], reset_after=True)
    assert torch.equal(y, z)
    one = h0[:1].expand(4, 12)
    assert torch.equal(
        run(x, one, *weights, reset_after=True)[0], run(x, one.clone(), *weights, reset_after=True)[0]
    )
