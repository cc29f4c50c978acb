"""torch.nn's layers behind the project's interface: the two added arguments mean what ours mean."""

from typing import Any

import pytest
import torch

from gatelab.core.baselines import LSTM, RNN, TorchGRU, TorchLSTM, TorchRNN
from gatelab.core.gru import GRU

PAIRS = pytest.mark.parametrize(
    ("wrapped", "ours"), [(TorchGRU, GRU), (TorchLSTM, LSTM), (TorchRNN, RNN)], ids=["gru", "lstm", "rnn"]
)


def _twins(wrapped: Any, ours: Any, **options: Any) -> tuple[Any, Any]:
    theirs, mine = wrapped(3, 5, 2, dtype=torch.float64, **options), ours(3, 5, 2, **options)
    mine = mine.to(torch.float64)
    mine.load_state_dict(theirs.state_dict())
    assert theirs.output_size == mine.output_size
    return theirs, mine


def _state(wrapped: Any, batch: int) -> Any:
    h = torch.randn(2, batch, 5, dtype=torch.float64)
    return (h, h / 2) if wrapped is TorchLSTM else h


@pytest.mark.parametrize("batch_first", [False, True])
@PAIRS
def test_a_reset_mask_means_what_it_means_in_ours(wrapped: Any, ours: Any, batch_first: bool) -> None:
    theirs, mine = _twins(wrapped, ours, batch_first=batch_first)
    x = torch.randn((4, 8, 3) if batch_first else (8, 4, 3), dtype=torch.float64)
    mask = torch.rand(8, 4) < 0.3
    mask[0, 1] = True
    state = _state(wrapped, 4)
    for given in (None, state):
        got, want = theirs(x, given, reset_mask=mask), mine(x, given, reset_mask=mask)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("bidirectional", [False, True])
@PAIRS
def test_lengths_mean_what_they_mean_in_ours(wrapped: Any, ours: Any, bidirectional: bool) -> None:
    theirs, mine = _twins(wrapped, ours, bidirectional=bidirectional)
    x = torch.randn(8, 4, 3, dtype=torch.float64)
    lengths = torch.tensor([3, 7, 1, 5])
    torch.testing.assert_close(theirs(x, lengths=lengths), mine(x, lengths=lengths), rtol=1e-12, atol=1e-14)


def test_what_the_library_cannot_do_is_refused() -> None:
    x, mask = torch.zeros(4, 2, 3), torch.zeros(4, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="not both"):
        TorchGRU(3, 5)(x, lengths=[4, 4], reset_mask=mask)
    with pytest.raises(ValueError, match="cannot serve reset_mask when bidirectional"):
        TorchGRU(3, 5, bidirectional=True)(x, reset_mask=mask)
    with pytest.raises(ValueError, match=r"reset_mask must be \[T, B\] = \[4, 2\]"):
        TorchGRU(3, 5)(x, reset_mask=mask.t())
