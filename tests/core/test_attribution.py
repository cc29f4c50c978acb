"""Attributions sum up to the score, an input that is not read has none, and an ablated unit carries nothing."""

from typing import Any

import pytest
import torch
from torch import nn

from gatelab.core import GRU, LSTM, RNN, LanguageModel, MinGRU, TorchGRU
from gatelab.core.ablation import ablated
from gatelab.core.attribution import integrated_gradients, replaced
from gatelab.core.stack import Stack

D, H = 3, 5


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_attributions_of_a_linear_score_are_weight_times_input() -> None:
    w, x = torch.randn(4), torch.randn(4)
    found = integrated_gradients(lambda v: (w * v).sum(), x, torch.zeros(4), steps=1)
    torch.testing.assert_close(found.values.float(), w * x)
    assert found.error < 1e-6


def test_attributions_sum_up_to_the_score() -> None:
    core, x = GRU(D, H), 3 * torch.randn(30, 1, D)
    found = integrated_gradients(lambda v: core(v)[0][-1, 0, 0], x, torch.zeros_like(x), steps=64)
    assert found.error <= 0.01
    assert float(found.values.sum()) == pytest.approx(found.score - found.baseline, rel=0.01)


def test_a_dead_input_has_no_attribution() -> None:
    core, x = GRU(D, H), torch.randn(9, 1, D)
    with torch.no_grad():
        core.weight_ih_l0[:, 1] = 0
    values = integrated_gradients(lambda v: core(v)[0][-1].sum(), x, torch.zeros_like(x)).values
    assert (values[..., 1] == 0).all()
    assert (values[..., 0] != 0).all()


def test_a_layer_is_replaced_inside_and_no_longer_after() -> None:
    net = LanguageModel(7, lambda input_size: GRU(input_size, H)).eval()
    tokens = torch.arange(4)[:, None]
    before = net(tokens)[0]
    with replaced(net.embedding, torch.zeros(4, 1, H)):
        assert not torch.equal(net(tokens)[0], before)
    assert torch.equal(net(tokens)[0], before)


@pytest.mark.parametrize("steps", [0, -1])
def test_steps_below_one_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        integrated_gradients(torch.sum, torch.ones(2), torch.zeros(2), steps)


CORES: dict[str, Any] = {
    "gru": lambda: GRU(D, H, num_layers=2),
    "before": lambda: GRU(D, H, num_layers=2, reset_after=False),
    "normalised": lambda: GRU(D, H, num_layers=2, layer_norm=True),
    "nn.GRU": lambda: nn.GRU(D, H, num_layers=2),
    "torch": lambda: TorchGRU(D, H, num_layers=2),
    "lstm": lambda: LSTM(D, H, num_layers=2),
    "rnn": lambda: RNN(D, H, num_layers=2),
    "mingru": lambda: MinGRU(D, H, num_layers=2),
    "stack": lambda: Stack([GRU(D, H), GRU(H, H)]),
}


@pytest.mark.parametrize("name", CORES)
@torch.no_grad()
def test_an_ablated_unit_stays_at_its_value_and_the_weights_come_back(name: str) -> None:
    core, x = CORES[name](), torch.randn(8, 2, D)
    before, whole = core(x)[0], {k: v.clone() for k, v in core.state_dict().items()}
    with ablated(core, 1, 2, 0.3):
        inside = core(x)[0]
    torch.testing.assert_close(inside[..., 2], torch.full((8, 2), 0.3), rtol=0, atol=1e-5)
    others = [0, 1, 3, 4]
    torch.testing.assert_close(inside[0][..., others], before[0][..., others])  # before the unit is read
    if name != "mingru":  # whose units read no state
        assert not torch.allclose(inside[1:][..., others], before[1:][..., others])
    assert all(torch.equal(whole[k], v) for k, v in core.state_dict().items())


@torch.no_grad()
def test_a_unit_of_dropped_weights_is_ablated_too() -> None:
    net = LanguageModel(7, lambda input_size: GRU(input_size, H), weight_drop=0.5).eval()
    tokens = torch.randint(7, (6, 2))
    whole = net(tokens)[0]
    with ablated(net.core, 0, 1, -0.2):
        y = net.core(net.embedding(tokens))[0]
    torch.testing.assert_close(y[..., 1], torch.full((6, 2), -0.2), rtol=0, atol=1e-5)
    assert torch.equal(net(tokens)[0], whole)


@pytest.mark.parametrize(("layer", "unit", "said"), [(2, 0, "no layer2"), (0, 5, "units 0 ... 4")])
def test_a_unit_that_is_not_there_is_refused(layer: int, unit: int, said: str) -> None:
    with pytest.raises(ValueError, match=said), ablated(GRU(D, H, num_layers=2), layer, unit):
        pass
