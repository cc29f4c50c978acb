"""Regularisation from outside: what is dropped, how often it is drawn, and what training starts from, on every core."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from gatelab.core import GRU, LSTM, RNN, LanguageModel, MinGRU, TorchGRU, TorchLSTM, TorchRNN
from gatelab.core.gates import gates
from gatelab.core.regularization import drop_weights, dropout, embed, start_gates
from gatelab.core.stack import Stack, stack

CORES = [GRU, partial(GRU, reset_after=False), LSTM, RNN, TorchGRU, TorchLSTM, TorchRNN]
BACKENDS = [partial(GRU, backend=name) for name in ("reference", "torch", "native")]
GATED = [GRU, partial(GRU, reset_after=False), LSTM, MinGRU, TorchGRU, TorchLSTM]


def named(core: Any) -> str:
    return f"{core.func.__name__}-{core.keywords}" if isinstance(core, partial) else core.__name__


def test_a_locked_mask_is_one_for_all_steps_and_another_for_each_sequence() -> None:
    x = torch.ones(9, 50, 20)
    y = dropout(x, 0.25, True, locked=True)
    assert torch.equal(y, y[:1].expand_as(y))
    torch.testing.assert_close(y.unique(), torch.tensor([0.0, 4 / 3]))
    assert not torch.equal(y[0, 0], y[0, 1])
    assert float(y.mean()) == pytest.approx(1.0, abs=0.1)
    assert torch.equal(dropout(x, 0.25, False, locked=True), x)


def test_embedding_dropout_drops_whole_words_wherever_they_stand() -> None:
    embedding, tokens = nn.Embedding(30, 4), torch.randint(30, (40, 5))
    x = embed(embedding, tokens, 0.5, True).detach()
    full = embedding(tokens).detach()
    factors = [(x / full)[tokens == word].flatten() for word in tokens.unique()]
    assert all(float(factor.max() - factor.min()) < 1e-5 for factor in factors)
    torch.testing.assert_close(torch.cat(factors).round().unique(), torch.tensor([0.0, 2.0]))
    assert torch.equal(embed(embedding, tokens, 0.5, False).detach(), full)


@pytest.mark.parametrize("rows", ["all", "candidate"])
@pytest.mark.parametrize("core", CORES + BACKENDS, ids=named)
def test_dropped_weights_are_drawn_once_a_call_and_are_those_that_compute(core: Any, rows: Any) -> None:
    plain, dropped = core(5, 6, num_layers=2), core(5, 6, num_layers=2)
    dropped.load_state_dict(plain.state_dict())
    drop_weights(dropped, 0.5, rows)
    x = torch.randn(7, 3, 5)
    drawn: list[torch.Tensor] = []
    for name in ("weight_hh_l0", "weight_hh_l1"):
        dropped.parametrizations[name][0].register_forward_hook(lambda m, a, out: drawn.append(out.detach()))
    y, _ = dropped(x)
    assert len(drawn) == 2
    for name, value in zip(("weight_hh_l0", "weight_hh_l1"), drawn, strict=True):
        weight = getattr(plain, name)
        gates = torch.ones(len(value), dtype=torch.bool)
        if rows == "candidate" and len(weight) > 6:
            gates[12:18] = False
            assert torch.equal(value[gates], weight[gates])
        acted = ~gates if rows == "candidate" and len(weight) > 6 else gates
        factor = (value / weight)[acted]
        torch.testing.assert_close(factor.round().unique(), torch.tensor([0.0, 2.0]))
        weight.data.copy_(value)
    torch.testing.assert_close(y, plain(x)[0], rtol=1e-5, atol=1e-6)
    # the gradient reaches the parameter, and what was dropped gets none
    y.sum().backward()
    original = dropped.parametrizations["weight_hh_l1"].original
    assert not original.grad[drawn[1] == 0].any()
    assert original.grad.any()
    # in evaluation nothing is dropped
    dropped.eval()
    assert torch.equal(dropped.weight_hh_l0, dropped.parametrizations["weight_hh_l0"].original)


def test_two_calls_drop_different_weights() -> None:
    layer = GRU(4, 8)
    drop_weights(layer, 0.5)
    x = torch.randn(6, 2, 4)
    assert not torch.equal(layer(x)[0], layer(x)[0])


@pytest.mark.parametrize("core", GATED, ids=named)
@pytest.mark.parametrize(
    "how", [{"start": "chrono", "longest": 50}, {"start": "uniform"}, {"keep_bias": 3.0}]
)
def test_gates_start_where_they_are_told_to(core: Any, how: dict[str, Any]) -> None:
    layer = core(4, 200)
    start_gates(layer, **how)
    for name, parameter in layer.named_parameters():
        if "weight" in name:
            nn.init.zeros_(parameter)
    with torch.no_grad():
        (found,) = gates(layer, torch.zeros(1, 1, 4))
    keep = found.log_keep.exp().flatten().double()
    constants = 1 / (1 - keep)
    if how.get("start") == "chrono":
        assert 2 <= constants.min() < 6
        assert 40 < constants.max() <= 51
    elif how.get("start") == "uniform":
        assert 0.004 < keep.min() < 0.05
        assert 0.95 < keep.max() < 0.996
        assert float(keep.mean()) == pytest.approx(0.5, abs=0.1)
    else:
        torch.testing.assert_close(keep, torch.full_like(keep, 3.0).sigmoid(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("core", [*CORES, MinGRU], ids=named)
def test_a_stack_of_equal_layers_is_the_layer_with_so_many(core: Any) -> None:
    whole = core(4, 6, num_layers=3).double()
    parts = stack(core, 4, [6, 6, 6], 0.0, locked=False).double()
    for index, layer in enumerate(parts.layers):
        own = {k: v for k, v in whole.state_dict().items() if k.endswith(f"_l{index}")}
        layer.load_state_dict({k.replace(f"_l{index}", "_l0"): v for k, v in own.items()})
    x = torch.randn(5, 2, 4, dtype=torch.double)
    y, state = whole(x[:3])
    ours, joined = parts(x[:3])
    torch.testing.assert_close(ours, y, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(parts(x[3:], joined)[0], whole(x[3:], state)[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("core", GATED, ids=named)
def test_the_gates_of_a_stack_are_those_of_its_layers_without_a_draw(core: Any) -> None:
    parts = stack(core, 4, [6, 5], 0.5, locked=True)
    if core is not MinGRU:
        drop_weights(parts, 0.5)
    x = torch.randn(7, 3, 4)
    random = torch.get_rng_state()
    first, second = gates(parts, x)
    assert torch.equal(torch.get_rng_state(), random)
    assert parts.training
    parts.eval()
    (alone,) = gates(parts.layers[1], parts.layers[0](x)[0])
    assert (first.layer, second.layer) == ("layer0", "layer1")
    torch.testing.assert_close(second.log_keep, alone.log_keep)


def test_a_state_that_does_not_fit_a_stack_is_named() -> None:
    parts = Stack([GRU(4, 6), GRU(6, 3)])
    with pytest.raises(ValueError, match=r"\[1, B, 9\], got \[1, 2, 6\]"):
        parts(torch.randn(5, 2, 4), torch.zeros(1, 2, 6))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weight_drop": 1.0}, "weight_drop must be a probability"),
        ({"weight_drop": 0.5, "weight_drop_rows": "n"}, "'all' or 'candidate'"),
        ({"hidden_dropout": -0.1}, "hidden_dropout must be a probability"),
        ({"embedding_dropout": True}, "embedding_dropout must be a probability"),
        ({"gate_start": "chrono", "keep_bias": 1.0}, "not both"),
        ({"gate_start": "chrono", "longest_dependency": 2}, "at least 3 steps"),
        ({"gate_start": "zero"}, "'chrono', 'uniform' or null"),
        ({"layer_sizes": [4, 4], "last_as_embedding": True}, "not both"),
        ({"layer_sizes": [4, 0]}, "at least one unit"),
        ({"layer_sizes": []}, "at least one layer"),
        ({"cutoffs": [3]}, "cannot be tied"),
        ({"cutoffs": [3, 11], "tied": False}, "stay below the vocabulary's 11"),
        ({"cutoffs": [3, 3], "tied": False}, "ascend"),
        ({"cutoffs": [2, 4, 6], "tied": False}, "would have none"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LanguageModel(11, partial(GRU, hidden_size=6, num_layers=2), **options)


@pytest.mark.parametrize(
    ("core", "options"), [(MinGRU, {"weight_drop": 0.1}), (RNN, {"gate_start": "chrono"})]
)
def test_a_core_that_cannot_carry_an_option_is_named(core: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=core.__name__):
        LanguageModel(11, partial(core, hidden_size=6), **options)


def test_the_recurrent_matrix_stays_one_parameter() -> None:
    model = LanguageModel(11, partial(GRU, hidden_size=6), weight_drop=0.5)
    assert parametrize.is_parametrized(model.core, "weight_hh_l0")
    assert sum(p.numel() for p in model.core.parameters()) == sum(p.numel() for p in GRU(6, 6).parameters())
