"""The gates that are shown are the gates that ran: put into the equations, they give the layer's own output."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gatelab.core import GRU, LSTM, RNN, MinGRU, TorchGRU, TorchLSTM
from gatelab.core.cells import linear
from gatelab.core.gates import gates, has_gates

T, B, D, H = 7, 3, 4, 5
GRUS: dict[str, Any] = {
    "gru": lambda **k: GRU(D, H, **k),
    "before": lambda **k: GRU(D, H, reset_after=False, **k),
    "normalised": lambda **k: GRU(D, H, layer_norm=True, **k),
    "normalised before": lambda **k: GRU(D, H, layer_norm=True, reset_after=False, **k),
    "without bias": lambda **k: GRU(D, H, bias=False, **k),
    "torch": lambda **k: TorchGRU(D, H, **k),
}


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(T, B, D)


def weights(core: Any, layer: int) -> list[Tensor | None]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "gain_ih", "gain_hh")
    return [getattr(core, f"{name}_l{layer}", None) for name in names]


def before(y: Tensor, h0: Tensor) -> Tensor:
    return torch.cat((h0[None], y[:-1]))


@pytest.mark.parametrize("name", GRUS)
def test_the_gates_of_a_gru_give_its_output(name: str, x: Tensor) -> None:
    core = GRUS[name]()
    for parameter in core.parameters():
        nn.init.normal_(parameter, std=0.8)
    h0 = torch.randn(1, B, H)
    y, _ = core(x, h0)
    (shown,) = gates(core, x, h0)
    assert shown.layer == "layer0"
    r, update, h = shown.values["reset"], shown.values["update"], before(y, h0[0])
    w_ih, w_hh, b_ih, b_hh, g_ih, g_hh = (None if w is None else w[2 * H :] for w in weights(core, 0))
    assert w_ih is not None
    assert w_hh is not None
    i = linear(x, w_ih, b_ih, g_ih, H)
    if "before" in name:
        n = torch.tanh(i + linear(r * h, w_hh, b_hh, g_hh, H))
    else:
        n = torch.tanh(i + r * linear(h, w_hh, b_hh, g_hh, H))
    torch.testing.assert_close((1 - update) * h + update * n, y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shown.log_keep, (1 - update).log(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [LSTM, TorchLSTM])
def test_the_gates_of_an_lstm_give_its_output(make: Any, x: Tensor) -> None:
    core = make(D, H)
    h0, c = torch.randn(1, B, H), torch.randn(B, H)
    y, _ = core(x, (h0, c[None]))
    (shown,) = gates(core, x, (h0, c[None]))
    w_ih, w_hh, b_ih, b_hh = (w[2 * H : 3 * H] for w in weights(core, 0)[:4] if w is not None)
    g = torch.tanh(linear(x, w_ih, b_ih) + linear(before(y, h0[0]), w_hh, b_hh))
    for t in range(T):
        c = shown.values["forget"][t] * c + shown.values["input"][t] * g[t]
        torch.testing.assert_close(shown.values["output"][t] * torch.tanh(c), y[t], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shown.log_keep, shown.values["forget"].log(), rtol=1e-4, atol=1e-5)


def test_the_gates_of_a_mingru_give_its_output(x: Tensor) -> None:
    core = MinGRU(D, H)
    y, _ = core(x)
    (shown,) = gates(core, x)
    w_ih, _, b_ih, *_ = weights(core, 0)
    assert w_ih is not None
    assert b_ih is not None
    update, h = shown.values["update"], before(y, torch.zeros(B, H))
    expected = (1 - update) * h + update * linear(x, w_ih[H:], b_ih[H:])
    torch.testing.assert_close(expected, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [GRU, TorchGRU, LSTM, TorchLSTM, MinGRU])
def test_layers_and_directions_are_shown_as_they_ran(make: Any, x: Tensor) -> None:
    core = make(D, H, num_layers=2, bidirectional=True)
    core(x)
    shown = {g.layer: g for g in gates(core, x)}
    assert list(shown) == ["layer0", "layer0_reverse", "layer1", "layer1_reverse"]
    lower = make(D, H, bidirectional=True)
    lower.load_state_dict({name: core.state_dict()[name] for name in lower.state_dict()})
    upper = make(2 * H, H)
    upper.load_state_dict({n: core.state_dict()[n.replace("l0", "l1_reverse")] for n in upper.state_dict()})
    (expected,) = gates(upper, lower(x)[0].flip(0))
    for name, value in expected.values.items():
        torch.testing.assert_close(shown["layer1_reverse"].values[name].flip(0), value)


def test_gates_are_those_of_an_evaluation_and_draw_nothing(x: Tensor) -> None:
    core = GRU(D, H, num_layers=2, dropout=0.5, zoneout=0.3)
    drawn = torch.get_rng_state()
    training = [g.values["update"] for g in gates(core, x)]
    assert torch.equal(torch.get_rng_state(), drawn)
    assert core.training
    core.eval()
    for first, second in zip(training, gates(core, x), strict=True):
        assert torch.equal(first, second.values["update"])


def test_a_simple_recurrent_network_has_no_gates(x: Tensor) -> None:
    assert not has_gates(RNN(D, H))
    with pytest.raises(TypeError, match="RNN has no gates"):
        next(gates(RNN(D, H), x))
