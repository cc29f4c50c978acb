"""What is known of the flip-flop is found in a GRU that was trained to be one."""

import pytest
import torch

from gatelab.core import GRU
from gatelab.core.dynamics import cells
from scripts.checks.dynamics import CHANGE, fed_back, flip_flop, lorenz, pulses


@pytest.mark.slow
def test_a_flip_flop_has_its_corners_and_saddles():
    assert all(fine for *_, fine in flip_flop())


def test_targets_of_the_flip_flop_hold_the_last_pulse():
    x, y = pulses(50, 4, torch.Generator().manual_seed(0))
    assert set(y.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(y[x != 0], x[x != 0])
    held = x[1:] == 0
    assert torch.equal(y[1:][held], y[:-1][held])


def test_the_lorenz_system_stays_on_its_attractor_and_a_fed_back_network_is_its_own_input():
    path = lorenz(torch.randn(8, 3, dtype=torch.float64), 250)
    assert float(path[150:].abs().max()) < 4
    assert float((path[151:] - path[150:-1]).std()) == pytest.approx(CHANGE, rel=0.5)
    core, head = GRU(3, 4), torch.nn.Linear(4, 3)
    (cell,) = cells(core)
    x = torch.randn(1, 3)
    with torch.no_grad():
        h = core(x[None])[0][0]
        expected = torch.cat((h, x + head(h)), dim=-1)
        found = fed_back(cell, head)(torch.cat((torch.zeros(1, 4), x), dim=-1).double())
    torch.testing.assert_close(found.float(), expected)
