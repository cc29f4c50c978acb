"""What is found in a cell is what its equations say: Jacobians, fixed points, exponents, time constants, reach."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gatelab.core import GRU, LSTM, RNN, MinGRU, TorchGRU
from gatelab.core.dynamics import (
    cells,
    driven,
    fixed_points,
    has_cells,
    jacobians,
    kaplan_yorke,
    lyapunov_exponents,
    reach,
    repeat,
)
from gatelab.core.gates import gates, time_constants
from gatelab.core.stack import Stack

D, H = 3, 5
CORES: dict[str, Any] = {
    "gru": lambda: GRU(D, H, num_layers=2),
    "before": lambda: GRU(D, H, reset_after=False),
    "normalised": lambda: GRU(D, H, layer_norm=True),
    "zoneout": lambda: GRU(D, H, zoneout=0.3).eval(),
    "nn.GRU": lambda: nn.GRU(D, H, bidirectional=True),
    "torch": lambda: TorchGRU(D, H),
    "lstm": lambda: LSTM(D, H),
    "nn.LSTM": lambda: nn.LSTM(D, H),
    "rnn": lambda: RNN(D, H),
    "nn.RNN": lambda: nn.RNN(D, H, nonlinearity="relu"),
    "mingru": lambda: MinGRU(D, H),
    "stack": lambda: Stack([GRU(D, H), GRU(H, 4)]),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", CORES)
def test_a_cell_is_the_step_of_its_layer(name: str) -> None:
    core = CORES[name]().double()
    x = torch.randn(1, 4, D, dtype=torch.float64)
    y, _ = core(x)
    h, outputs = x[0], []
    for cell in cells(core):
        state = torch.zeros(4, cell.state_size, dtype=torch.float64)
        outputs.append(cell.step(h, state)[:, : cell.hidden_size])
        h = outputs[-1] if not cell.layer.endswith("reverse") and "bi" not in name else h
        if getattr(core, "bidirectional", False):
            h = x[0]
    shown = torch.cat(outputs, -1) if getattr(core, "bidirectional", False) else outputs[-1]
    torch.testing.assert_close(shown, y[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CORES)
def test_jacobians_are_the_finite_differences(name: str) -> None:
    for cell in cells(CORES[name]()):
        f = cell.under(torch.randn(cell.input_size))
        points, e = torch.randn(3, cell.state_size, dtype=torch.float64) * 0.5, 1e-6
        shift = e * torch.eye(cell.state_size, dtype=torch.float64)
        differences = torch.stack([(f(points + one) - f(points - one)) / (2 * e) for one in shift], dim=-1)
        assert float((jacobians(f, points) - differences).abs().max()) <= 1e-6


def test_what_has_no_known_cell_is_refused() -> None:
    assert not has_cells(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="Linear has no cell"):
        next(cells(nn.Linear(2, 2)))


def doubled_well(s: Tensor) -> Tensor:
    """Each number by itself: stable at -1 and 1, unstable at 0."""
    return s + 0.2 * (s - s**3)


def test_all_fixed_points_are_found_with_the_saddles_between_them() -> None:
    starts = torch.rand(400, 3, dtype=torch.float64) * 2.4 - 1.2
    found = fixed_points(doubled_well, starts)
    known = torch.tensor(list(product((-1.0, 0.0, 1.0), repeat=3)), dtype=torch.float64)
    assert len(found.points) == 27
    assert float(torch.cdist(known, found.points).amin(1).max()) < 1e-6
    assert found.unstable.tolist() == [0] * 8 + [1] * 12 + [2] * 6 + [3]
    # at a corner the map is 1 - .4 times the deviation
    torch.testing.assert_close(found.eigenvalues[0].abs(), torch.full((3,), 0.6, dtype=torch.float64))
    torch.testing.assert_close(
        found.time_constants[0], torch.full((3,), -1 / torch.tensor(0.6).log()).double()
    )


def test_a_map_without_a_fixed_point_has_none() -> None:
    found = fixed_points(lambda s: s + 1, torch.zeros(3, 2))
    assert (len(found.points), found.found, found.starts) == (0, 0, 3)


def test_exponents_of_a_linear_map_are_the_logarithms_of_its_singular_growth() -> None:
    rates = torch.tensor([1.5, 0.9, 0.5], dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    matrix = turn @ torch.diag(rates) @ turn.T
    found = lyapunov_exponents(repeat(lambda s: s @ matrix.T, 80), torch.zeros(2, 3), 3, skipped=40)
    torch.testing.assert_close(found, rates.log().expand(2, 3), rtol=1e-6, atol=1e-6)


def test_exponents_of_the_henon_map_are_those_of_the_literature() -> None:
    """Largest .419, sum ln .3, dimension 1.258 (Sprott 2003)."""

    def henon(s: Tensor) -> Tensor:
        return torch.stack((1 - 1.4 * s[:, 0] ** 2 + s[:, 1], 0.3 * s[:, 0]), dim=-1)

    starts = torch.rand(100, 2, dtype=torch.float64) * 0.1
    found = lyapunov_exponents(repeat(henon, 160), starts, 2, skipped=40, every=10).mean(0)
    assert float(found[0]) == pytest.approx(0.419, abs=0.015)
    assert float(found.sum()) == pytest.approx(-1.204, abs=1e-3)
    assert kaplan_yorke(found) == pytest.approx(1.258, abs=0.02)


def test_the_dimension_of_a_stable_point_is_zero_and_without_enough_exponents_it_is_not_known() -> None:
    assert kaplan_yorke(torch.tensor([-0.1, -0.2])) == 0
    assert kaplan_yorke(torch.tensor([0.1, 0.0])) != kaplan_yorke(torch.tensor([0.1, 0.0]))
    assert kaplan_yorke(torch.tensor([0.9, 0.0, -14.5])) == pytest.approx(2 + 0.9 / 14.5)


def planted(tau: Tensor) -> GRU:
    """A GRU whose units keep exp(-1 / tau) of their state at every step, whatever they read."""
    core = GRU(D, len(tau))
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_hh_l0"):
            getattr(core, name)[len(tau) : 2 * len(tau)] = 0
        core.weight_hh_l0[2 * len(tau) :] = 0
        core.bias_hh_l0[:] = 0
        keep = (-1 / tau).exp()
        core.bias_ih_l0[len(tau) : 2 * len(tau)] = keep.logit()
    return core


def test_a_planted_time_constant_is_read_back() -> None:
    tau = torch.tensor([1.0, 4.0, 30.0, 200.0])
    core = planted(tau)
    (shown,) = gates(core, torch.randn(20, 2, D))
    torch.testing.assert_close(time_constants(shown.log_keep), tau, rtol=1e-3, atol=0)
    (cell,) = cells(core)
    found = fixed_points(cell.under(torch.zeros(D)), torch.zeros(1, 4))
    torch.testing.assert_close(found.time_constants[0].float(), tau.flip(0), rtol=1e-3, atol=0)
    exponents = lyapunov_exponents(driven(cell, torch.randn(30, 2, D)), torch.zeros(2, 4), 4)
    torch.testing.assert_close(exponents.sum(-1).float(), -(1 / tau).sum().expand(2))


def test_reach_is_the_norm_of_the_jacobian() -> None:
    core, x = GRU(D, H), torch.randn(6, 1, D)
    full = torch.autograd.functional.jacobian(lambda v: core(v)[0][-1], x)  # [1, H, T, 1, D]
    known = full.square().sum(dim=(0, 1, 3, 4)).sqrt().flip(0)
    found = reach(core, x, range(6), probes=600)
    torch.testing.assert_close(found.float(), known, rtol=0.15, atol=1e-4)
    with pytest.raises(ValueError, match=r"0 \.\.\. 5"):
        reach(core, x, [6])
