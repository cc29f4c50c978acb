"""Private names of PyTorch that the core uses are there and mean what they meant."""

import torch

from gatelab.core import torch_internals


def test_a_scan_is_the_loop() -> None:
    xs = torch.arange(6.0).view(3, 2)
    carry, ys = torch_internals.scan(lambda h, x: (0.5 * h + x, (0.5 * h + x).clone()), torch.ones(2), xs)
    h = torch.ones(2)
    for x, y in zip(xs, ys, strict=True):
        h = 0.5 * h + x
        assert torch.equal(y, h)
    assert torch.equal(carry, h)


def test_views_and_versions_are_told() -> None:
    base = torch.zeros(4, requires_grad=True).clone()
    assert torch_internals.is_view(base[1:])
    assert not torch_internals.is_view(base)
    before = torch_internals.version(base)
    base[1:].add_(1)
    assert torch_internals.version(base) == torch_internals.version(base.detach()) == before + 1


def test_the_function_behind_nn_gru_is_nn_gru() -> None:
    layer, x = torch.nn.GRU(3, 5), torch.randn(4, 2, 3)
    h0 = torch.randn(1, 2, 5)
    want = layer(x, h0)
    for training in (True, False):
        got = torch_internals.gru(x, h0, list(layer._flat_weights), True, training)
        for a, b in zip(got, want, strict=True):
            assert torch.equal(a, b)
