"""Converted weights give the same function: torch.nn.GRU's both ways, and Keras' own numbers.

The Keras figures were computed by Keras 3.15.1 itself (`keras.layers.GRU`, float64, PyTorch backend) from
the weights below; Keras is not needed to run the test. With `reset_after=False` Keras rounds on the way (its
figures are 6e-9 from its own equations in float64), so there the equations themselves are the exact measure.
"""

from typing import Any

import pytest
import torch
from torch import nn

from gatelab.core.gru import GRU
from gatelab.core.weights.convert import from_keras, from_torch, to_keras, to_torch

KERNEL = [[0.375, 0.875, 0.375, -1.25, 0.875, 0.5], [-0.5, 0.625, 0.375, 0.25, 0.0, 0.5]]
RECURRENT = [[-0.75, -0.125, -0.5, 0.625, 0.0, -0.25], [-0.75, -0.25, 0.0, -0.25, 1.25, 1.0]]
BIAS = [[-2.75, -1.875, -0.125, -0.375, 0.25, 0.25], [2.125, -1.125, -0.375, 2.0, 0.625, 0.625]]
INPUT = [[[-0.5, -1.625], [0.125, 0.125], [-1.25, -0.625]]]
OUTPUT = {
    True: [
        [-0.026633698265402683, -0.2632382139667874],
        [0.2584491083620716, 0.539148021695538],
        [-0.361254094415441, 0.3493978337333619],
    ],
    False: [
        [-0.165559890732092, -0.6477389731985126],
        [0.02087038134549863, -0.0016932545292090706],
        [-0.6523292144847671, -0.5781984971287962],
    ],
}


def _double(value: Any) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _keras_equations(
    kernel: torch.Tensor, recurrent: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, reset_after: bool
) -> torch.Tensor:
    """The layer as Keras documents it, gates in its order z, r, h: x [T, D] -> [T, H]."""
    h, out = torch.zeros(len(recurrent), dtype=x.dtype), []
    input_bias, recurrent_bias = bias if reset_after else (bias, torch.zeros_like(bias))
    for row in x:
        xz, xr, xh = (row @ kernel + input_bias).chunk(3)
        hz, hr, hh = (h @ recurrent + recurrent_bias).chunk(3)
        z, r = torch.sigmoid(xz + hz), torch.sigmoid(xr + hr)
        inner = r * hh if reset_after else (r * h) @ recurrent.chunk(3, dim=1)[2]
        h = z * h + (1 - z) * torch.tanh(xh + inner)
        out.append(h)
    return torch.stack(out)


@pytest.mark.parametrize("reset_after", [True, False])
def test_keras_weights_give_the_numbers_of_keras(reset_after: bool) -> None:
    bias = BIAS if reset_after else BIAS[0]
    weights = [_double(KERNEL), _double(RECURRENT), _double(bias)]
    gru = from_keras(weights, reset_after=reset_after)
    y, h = gru(_double(INPUT))
    exact = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(y[0], _keras_equations(*weights, _double(INPUT[0]), reset_after), **exact)
    torch.testing.assert_close(
        y[0], _double(OUTPUT[reset_after]), **(exact if reset_after else {"rtol": 0, "atol": 1e-8})
    )
    torch.testing.assert_close(h[0, 0], y[0, -1])
    back = to_keras(gru)
    for got, want in zip(back, weights, strict=True):
        assert got is not None
        assert torch.equal(got, want)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reset_after", [True, False])
def test_to_keras_and_back_is_the_same_layer(reset_after: bool, bias: bool) -> None:
    gru = GRU(3, 4, 2, bias, bidirectional=True, reset_after=reset_after)
    for layer in (0, 1):
        for direction in (0, 1):
            back = from_keras(to_keras(gru, layer, direction), reset_after=reset_after)
            for got, want in zip(back.weights(0), gru.weights(layer, direction), strict=True):
                assert (got is None) == (want is None)
                assert want is None or torch.equal(got, want)


@pytest.mark.parametrize("options", [{}, {"bias": False, "batch_first": True}, {"bidirectional": True}])
def test_torch_there_and_back(options: dict[str, Any]) -> None:
    theirs = nn.GRU(3, 5, 2, dtype=torch.float64, dropout=0.5, **options).eval()
    ours = from_torch(theirs, backend="reference")
    again = to_torch(ours)
    assert repr(again) == repr(theirs)
    assert not ours.training
    x = torch.randn(4, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-14)
    for p, q in zip(again.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.data_ptr() != q.data_ptr()


def test_what_cannot_be_converted_is_refused() -> None:
    with pytest.raises(ValueError, match="only the variant reset_after=True"):
        to_torch(GRU(3, 5, reset_after=False))
    kernel, recurrent = torch.zeros(3, 15), torch.zeros(5, 15)
    with pytest.raises(ValueError, match=r"recurrent_kernel must be \[H, 3H\], got \[15, 5\]"):
        from_keras([kernel, recurrent.t()], reset_after=True)
    with pytest.raises(ValueError, match=r"kernel must be \[D, 3H\] = \[D, 15\]"):
        from_keras([kernel.t(), recurrent], reset_after=True)
    with pytest.raises(ValueError, match=r"bias must be \[15\] with reset_after=False"):
        from_keras([kernel, recurrent, torch.zeros(2, 15)], reset_after=False)
    with pytest.raises(ValueError, match="or without bias, got 1"):
        from_keras([kernel], reset_after=True)
