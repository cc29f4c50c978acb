"""The cells' equations: against torch.nn's cells, and written out number by number."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gatelab.core.cells import GRUCell, LSTMCell, RNNCell, gru_step_before


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (GRUCell, nn.GRUCell, {}),
        (LSTMCell, nn.LSTMCell, {}),
        (RNNCell, nn.RNNCell, {}),
        (RNNCell, nn.RNNCell, {"nonlinearity": "relu"}),
    ],
)
def test_cell_equals_its_namesake(ours: Any, theirs: Any, options: dict[str, str], bias: bool) -> None:
    cell = ours(4, 5, bias=bias, dtype=torch.float64, **options)
    other = theirs(4, 5, bias=bias, dtype=torch.float64, **options)
    other.load_state_dict(cell.state_dict())
    cell.load_state_dict(other.state_dict())
    x, h, c = (torch.randn(3, n, dtype=torch.float64) for n in (4, 5, 5))
    state: Any = (h, c) if ours is LSTMCell else h
    torch.testing.assert_close(cell(x, state), other(x, state), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(cell(x), other(x), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(cell(x[0]), other(x[0]), rtol=1e-13, atol=1e-14)
    assert repr(cell).startswith(repr(other).split("nonlinearity")[0].rstrip(", )"))


def _sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


def test_reset_before_equals_the_equation_written_out_in_scalars() -> None:
    cell = GRUCell(2, 3, dtype=torch.float64, reset_after=False)
    assert set(cell.state_dict()) == {"weight_ih", "weight_hh", "bias_ih"}
    x, h = torch.randn(2, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    w, u = cell.weight_ih.tolist(), cell.weight_hh.tolist()
    assert isinstance(cell.bias_ih, Tensor)
    b, xs, hs = cell.bias_ih.tolist(), x.tolist(), h.tolist()

    def affine(row: int, state: list[float]) -> float:
        inputs = sum(w[row][i] * xs[i] for i in range(2))
        return inputs + sum(u[row][i] * state[i] for i in range(3)) + b[row]

    r = [_sigmoid(affine(j, hs)) for j in range(3)]
    z = [_sigmoid(affine(3 + j, hs)) for j in range(3)]
    n = [math.tanh(affine(6 + j, [r[i] * hs[i] for i in range(3)])) for j in range(3)]
    want = [(1 - z[j]) * hs[j] + z[j] * n[j] for j in range(3)]
    assert cell(x, h).tolist() == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize("reset_after", [True, False])
def test_an_open_update_gate_keeps_in_one_variant_and_replaces_in_the_other(reset_after: bool) -> None:
    cell = GRUCell(2, 3, dtype=torch.float64, reset_after=reset_after)
    x, h = torch.randn(1, 2, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
    with torch.no_grad():
        assert isinstance(cell.bias_ih, Tensor)
        cell.bias_ih[3:6] = 100.0
        opened = cell(x, h)
        cell.bias_ih[3:6] = -100.0
        closed = cell(x, h)
    kept, replaced = (opened, closed) if reset_after else (closed, opened)
    assert torch.equal(kept, h)
    assert (replaced - h).abs().min() > 1e-3


def test_the_variant_with_one_bias_refuses_a_second() -> None:
    with pytest.raises(ValueError, match="one bias per gate"):
        gru_step_before(torch.zeros(1, 3), torch.zeros(1, 1), torch.zeros(3, 1), torch.zeros(3))


def test_shapes_that_do_not_fit_are_named() -> None:
    cell = GRUCell(4, 5)
    with pytest.raises(ValueError, match=r"input must be \[B, 4\]"):
        cell(torch.zeros(3, 7))
    with pytest.raises(ValueError, match=r"hx must be \[3, 5\]"):
        cell(torch.zeros(3, 4), torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"c must be \[3, 5\]"):
        LSTMCell(4, 5)(torch.zeros(3, 4), (torch.zeros(3, 5), torch.zeros(2, 5)))
