"""The from-scratch LSTM and RNN equal torch.nn's in float64, gradients included."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatelab.core.baselines import LSTM, RNN

PAIRS = pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (LSTM, nn.LSTM, {}),
        (RNN, nn.RNN, {}),
        (RNN, nn.RNN, {"nonlinearity": "relu"}),
    ],
)


def _flat(state: Any) -> torch.Tensor:
    return torch.cat(state) if isinstance(state, tuple) else state


@pytest.mark.parametrize("lengths", [None, [3, 6, 1, 4]], ids=["whole", "ragged"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "both_ways"])
@PAIRS
def test_it_equals_its_namesake(
    ours: Any, theirs: Any, options: dict[str, Any], bidirectional: bool, lengths: list[int] | None
) -> None:
    options = {**options, "num_layers": 2, "bidirectional": bidirectional, "dtype": torch.float64}
    mine, other = ours(3, 5, **options), theirs(3, 5, **options)
    other.load_state_dict(mine.state_dict())
    mine.load_state_dict(other.state_dict())
    assert repr(mine) == repr(other)
    x = torch.randn(6, 4, 3, dtype=torch.float64, requires_grad=True)
    h = torch.randn(4 if bidirectional else 2, 4, 5, dtype=torch.float64, requires_grad=True)
    state: Any = (h, h * 0.5) if ours is LSTM else h
    got_y, got_state = mine(x, state, lengths=lengths)
    if lengths is None:
        want_y, want_state = other(x, state)
    else:
        packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        want_y, want_state = other(packed, state)
        want_y = pad_packed_sequence(want_y)[0]
    results = []
    for y, final, module in ((got_y, got_state, mine), (want_y, want_state, other)):
        loss = y.square().sum() + _flat(final).square().sum()
        results.append(
            (y, _flat(final), *torch.autograd.grad(loss, [x, h, *module.parameters()], retain_graph=True))
        )
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-13)


@PAIRS
def test_windows_with_the_state_carried_equal_the_whole(ours: Any, theirs: Any, options: Any) -> None:
    layer = ours(3, 5, 2, dtype=torch.float64, **options)
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    whole, _ = layer(x)
    first, state = layer(x[:4])
    second, _ = layer(x[4:], state)
    torch.testing.assert_close(torch.cat((first, second)), whole, rtol=1e-13, atol=1e-14)


def test_a_wrong_state_or_nonlinearity_is_named() -> None:
    with pytest.raises(ValueError, match=r"must be 2 tensor\(s\) \(h, c\), got 1"):
        LSTM(3, 5)(torch.zeros(4, 2, 3), torch.zeros(1, 2, 5))
    with pytest.raises(ValueError, match="c must be"):
        LSTM(3, 5)(torch.zeros(4, 2, 3), (torch.zeros(1, 2, 5), torch.zeros(1, 1, 5)))
    with pytest.raises(ValueError, match="'tanh' or 'relu', got 'gelu'"):
        RNN(3, 5, nonlinearity="gelu")
