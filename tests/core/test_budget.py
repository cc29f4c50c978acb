"""A parameter budget buys the largest hidden size that fits, exactly."""

from functools import partial

import pytest

from gatelab.core.budget import hidden_size_for
from gatelab.core.gru import GRU
from gatelab.core.language_model import LanguageModel
from gatelab.core.lstm_rnn import LSTM


@pytest.mark.parametrize("budget", [100, 10_000, 1_000_000, 123_456_789])
def test_one_more_unit_would_be_over(budget: int) -> None:
    for cell in (GRU, LSTM):

        def count(hidden: int, cell: type[GRU] | type[LSTM] = cell) -> int:
            return cell.parameter_count(16, hidden, num_layers=2)

        hidden = hidden_size_for(budget, count) if count(1) <= budget else 0
        assert count(hidden + 1) > budget
        assert hidden == 0 or count(hidden) <= budget


def test_every_count_is_its_own_budget() -> None:
    for hidden in (1, 2, 3, 7, 64, 65):
        assert (
            hidden_size_for(GRU.parameter_count(hidden, hidden), lambda h: GRU.parameter_count(h, h))
            == hidden
        )


def test_a_language_model_is_sized_without_building_it() -> None:
    def count(hidden: int) -> int:
        return LanguageModel.parameter_count(10_000, partial(GRU, hidden_size=hidden, num_layers=2))

    assert count(200) == 10_000 * 200 + 10_000 + 2 * 3 * 200 * (200 + 200 + 2)
    assert hidden_size_for(count(200), count) == 200


def test_a_budget_below_one_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden size 1 needs"):
        hidden_size_for(3, lambda h: GRU.parameter_count(10, h))
