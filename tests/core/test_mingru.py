"""minGRU: the scan over time equals the recurrence step by step, and stays exact over long sequences."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gatelab.core import baselines
from gatelab.core.baselines import MinGRU


@pytest.fixture(autouse=True, params=["walked", "doubled"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to compute the scan; which is faster depends on the size of a step."""
    monkeypatch.setattr(baselines, "WALKED", 0 if request.param == "walked" else 10**9)


def _loop(layer: MinGRU, x: Tensor, h: Tensor) -> Tensor:
    """The paper's recurrence for one layer, a step at a time."""
    k, c = F.linear(x, layer.weight_ih_l0, layer.weights(0).b_ih).chunk(2, dim=-1)
    z, states = torch.sigmoid(k), []
    for t in range(x.shape[0]):
        h = (1 - z[t]) * h + z[t] * c[t]
        states.append(h)
    return torch.stack(states)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 13])
def test_the_scan_equals_the_loop_and_its_gradients(steps: int) -> None:
    layer = MinGRU(3, 5, dtype=torch.float64)
    x = torch.randn(steps, 4, 3, dtype=torch.float64, requires_grad=True)
    h = torch.randn(1, 4, 5, dtype=torch.float64, requires_grad=True)
    leaves = [x, h, *layer.parameters()]
    y, final = layer(x, h)
    want = _loop(layer, x, h[0])
    assert torch.equal(final[0], y[-1])
    got_grads = torch.autograd.grad(y.square().sum(), leaves)
    want_grads = torch.autograd.grad(want.square().sum(), leaves)
    torch.testing.assert_close((y, *got_grads), (want, *want_grads), rtol=1e-12, atol=1e-13)


def test_float32_keeps_its_digits_over_ten_thousand_steps() -> None:
    # a scan in log space would be off by the size of its cumulative sums, here thousands of epsilons
    layer = MinGRU(4, 8)
    exact = MinGRU(4, 8, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(10_000, 1, 4)
    with torch.no_grad():
        deviation = (layer(x)[0] - exact(x.double())[0]).abs().max()
    assert deviation < 20 * torch.finfo(torch.float32).eps


def test_lengths_and_resets_mean_what_running_the_pieces_means() -> None:
    layer = MinGRU(3, 5, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    y, final = layer(x, lengths=[4, 6, 1])
    for b, n in enumerate((4, 6, 1)):
        alone, last = layer(x[:n, b : b + 1])
        torch.testing.assert_close(y[:n, b], alone[:, 0], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(final[:, b], last[:, 0], rtol=1e-12, atol=1e-14)
        assert not y[n:, b].any()
    mask = torch.zeros(6, 3, dtype=torch.bool)
    mask[2] = True
    want = torch.cat((layer(x[:2])[0], layer(x[2:])[0]))
    torch.testing.assert_close(layer(x, reset_mask=mask)[0], want, rtol=1e-12, atol=1e-14)


def test_first_and_second_derivatives_pass_gradcheck() -> None:
    layer = MinGRU(2, 2, dtype=torch.float64)
    x = torch.randn(5, 2, 2, dtype=torch.float64, requires_grad=True)
    h = torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, h: layer(x, h), (x, h))
    assert torch.autograd.gradgradcheck(lambda x, h: layer(x, h)[0], (x, h))


def test_a_state_in_another_precision_gives_the_wider_one() -> None:
    a, b = torch.rand(3, 2, 4), torch.randn(3, 2, 4)
    h = baselines.linear_scan(a, b, torch.zeros(2, 4, dtype=torch.float64))
    assert h.dtype == torch.float64
    torch.testing.assert_close(h, baselines.linear_scan(a.double(), b.double(), torch.zeros(2, 4).double()))


def test_wide_steps_are_walked_and_narrow_ones_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    seen: list[int] = []
    monkeypatch.setattr(baselines, "_walk", lambda a, b, h0: seen.append(h0.numel()) or b)
    for size in (baselines.WALKED - 1, baselines.WALKED):
        baselines.linear_scan(torch.rand(3, 1, size), torch.rand(3, 1, size), torch.rand(1, size))
    assert seen == [baselines.WALKED]
