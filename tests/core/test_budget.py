"""A budget buys the largest hidden size that fits, exactly, and nothing is built for it."""

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from gatelab.core import GRU, LSTM, RNN, Forecaster, LanguageModel, MinGRU, TorchGRU, TorchLSTM, TorchRNN
from gatelab.core.budget import hidden_size_for, parameter_count

GATES = {GRU: 3, TorchGRU: 3, LSTM: 4, TorchLSTM: 4, RNN: 1, TorchRNN: 1}


@pytest.mark.parametrize("core", GATES)
@pytest.mark.parametrize("bias", [True, False])
def test_the_count_is_the_one_of_the_equations(core: Any, bias: bool) -> None:
    count = parameter_count(lambda: core(3, 5, num_layers=2, bias=bias, bidirectional=True))
    columns = 5 + 2 * bias
    assert count == 2 * GATES[core] * 5 * ((3 + columns) + (10 + columns))


def test_the_count_is_that_of_the_network_that_is_built() -> None:
    core = partial(MinGRU, hidden_size=7, num_layers=2)
    for make in (
        lambda: MinGRU(3, 5, 2, False, bidirectional=True),
        lambda: GRU(3, 5, 2, reset_after=False, layer_norm=True),
        lambda: LanguageModel(11, core, embedding_size=4, tied=True),
        lambda: LanguageModel(11, core, embedding_size=4, tied=False),
        lambda: Forecaster(3, 5, core, targets=[1], normalization="revin", patch=2),
    ):
        assert parameter_count(make) == sum(p.numel() for p in make().parameters())


def test_counting_takes_no_memory_and_no_random_numbers_and_says_nothing() -> None:
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parameter_count(lambda: nn.Linear(10**6, 10**6)) == 10**12 + 10**6
        parameter_count(lambda: GRU(3, 5, dropout=0.5))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("budget", [100, 10_000, 1_000_000, 123_456_789])
def test_one_more_unit_would_be_over(budget: int) -> None:
    for cell in (GRU, LSTM):

        def count(hidden: int, cell: Any = cell) -> int:
            return parameter_count(lambda: cell(16, hidden, num_layers=2))

        hidden = hidden_size_for(budget, count) if count(1) <= budget else 0
        assert count(hidden + 1) > budget
        assert hidden == 0 or count(hidden) <= budget


def test_every_count_is_its_own_budget() -> None:
    def count(hidden: int) -> int:
        return parameter_count(lambda: GRU(hidden, hidden, num_layers=2))

    for hidden in (1, 2, 3, 7, 64, 65):
        assert hidden_size_for(count(hidden), count) == hidden
    assert hidden_size_for(1_000_000, count) == 288


def test_a_budget_below_one_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden size 1 needs"):
        hidden_size_for(3, lambda h: parameter_count(lambda: GRU(10, h)))
