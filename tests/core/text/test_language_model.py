"""LanguageModel: shapes, tying, state over windows, and a count in closed form for every choice."""

from functools import partial
from typing import Any

import pytest
import torch

from gatelab.core.baselines import LSTM, RNN, MinGRU, TorchGRU, TorchLSTM, TorchRNN
from gatelab.core.gru import GRU
from gatelab.core.text.language_model import LanguageModel

CORES = pytest.mark.parametrize("core", [GRU, LSTM, RNN, MinGRU, TorchGRU, TorchLSTM, TorchRNN])


@CORES
def test_logits_do_not_depend_on_the_window_length(core: Any) -> None:
    model = LanguageModel(11, partial(core, hidden_size=6, num_layers=2)).double().eval()
    tokens = torch.randint(11, (12, 3))
    whole, _ = model(tokens)
    assert whole.shape == (12, 3, 11)
    for window in (1, 5, 12):
        parts, state = [], None
        for start in range(0, 12, window):
            logits, state = model(tokens[start : start + window], state)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=1e-14)


@CORES
def test_a_reset_row_starts_as_a_fresh_stream(core: Any) -> None:
    model = LanguageModel(11, partial(core, hidden_size=6)).double()
    tokens = torch.randint(11, (8, 2))
    mask = torch.zeros(8, 2, dtype=torch.bool)
    mask[3, 1] = True
    logits, _ = model(tokens, reset_mask=mask)
    torch.testing.assert_close(logits[:, 0], model(tokens)[0][:, 0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(logits[3:, 1], model(tokens[3:])[0][:, 1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("embedding_size", [None, 4, 6])
@CORES
def test_embedding_and_head_fit_every_core(core: Any, embedding_size: int | None, tied: bool) -> None:
    made = partial(core, hidden_size=6, num_layers=2)
    model = LanguageModel(11, made, embedding_size=embedding_size, tied=tied)
    assert (model.projection is not None) == (tied and embedding_size == 4)
    logits, _ = model(torch.randint(11, (5, 2)))
    assert logits.shape == (5, 2, 11)


def test_tied_weights_are_one_parameter_and_stay_so_through_a_checkpoint() -> None:
    core = partial(GRU, hidden_size=6)
    model, other = LanguageModel(11, core), LanguageModel(11, core)
    other.load_state_dict(model.state_dict())
    assert other.head.weight is other.embedding.weight
    tokens = torch.randint(11, (5, 2))
    assert torch.equal(other(tokens)[0], model(tokens)[0])
    assert model.embedding.weight.abs().max() <= 0.1
    assert not model.head.bias.any()


def test_features_and_head_are_the_model() -> None:
    model = LanguageModel(11, partial(GRU, hidden_size=6), embedding_size=4, dropout=0.5).eval()
    tokens = torch.randint(11, (5, 2))
    features, state = model.features(tokens)
    logits, final = model(tokens)
    assert torch.equal(model.head(features), logits)
    assert torch.equal(state, final)
    model.train()
    assert not torch.equal(model(tokens)[0], logits)


def test_the_core_may_be_any_callable_and_the_probe_draws_no_random_numbers() -> None:
    def core(input_size: int) -> GRU:
        return GRU(input_size, 6)

    torch.manual_seed(3)
    model = LanguageModel(11, core)
    torch.manual_seed(3)
    same = LanguageModel(11, partial(GRU, hidden_size=6))
    for p, q in zip(model.parameters(), same.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LanguageModel(0, partial(GRU, hidden_size=6)), "vocab_size"),
        (lambda: LanguageModel(5, partial(GRU, hidden_size=6), dropout=2.0), "dropout"),
        (lambda: LanguageModel(5, partial(GRU, hidden_size=6, batch_first=True)), "time-major"),
        (lambda: LanguageModel(5, partial(GRU, hidden_size=6, bidirectional=True)), "see the targets"),
        (
            lambda: LanguageModel(5, partial(GRU, hidden_size=6))(torch.zeros(4, dtype=torch.long)),
            r"\[T, B\]",
        ),
    ],
)
def test_what_makes_no_language_model_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_core_that_cannot_begin_a_new_text_is_refused_before_the_first_step() -> None:
    class Own(torch.nn.Module):
        hidden_size = output_size = 6

        def __init__(self, input_size: int) -> None:
            super().__init__()

        def forward(self, x: Any, state: Any = None) -> Any:
            return x, state

    class Takes(Own):
        def forward(self, x: Any, state: Any = None, **options: Any) -> Any:
            return x, state

    with pytest.raises(TypeError, match=r"Own, must have forward\(x, state=None, \*, reset_mask=None\)"):
        LanguageModel(5, Own, embedding_size=6)
    assert LanguageModel(5, Takes, embedding_size=6).core.output_size == 6
