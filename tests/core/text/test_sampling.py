"""Sampling: greedy is the argmax, a seed fixes the text, and restricted tokens are never drawn."""

from functools import partial
from typing import Any

import pytest
import torch

from gatelab.core.baselines import LSTM
from gatelab.core.gru import GRU
from gatelab.core.text.language_model import LanguageModel
from gatelab.core.text.sampling import Sampling, beam_search, draw, draw_each, generate, restrict


def _model() -> LanguageModel:
    model = LanguageModel(9, partial(GRU, hidden_size=8), dropout=0.5)
    with torch.no_grad():
        model.embedding.weight.mul_(30)
    return model


class Fixed(torch.nn.Module):
    """The same three probabilities after every token."""

    def forward(self, tokens: torch.Tensor, state: Any = None) -> Any:
        return torch.tensor([0.7, 0.2, 0.1]).log().expand(*tokens.shape, 3), state


PROMPT = torch.tensor([3, 1, 4])


def test_temperature_zero_takes_the_most_likely_token_given_everything_before() -> None:
    model = _model()
    drawn = generate(model, PROMPT, 6, temperature=0)
    assert model.training
    model.eval()
    text = PROMPT
    for token in drawn:
        logits, _ = model(text.unsqueeze(1))
        assert logits[-1, 0].argmax() == token
        text = torch.cat((text, token.unsqueeze(0)))
    assert torch.equal(generate(model, PROMPT, 6, top_k=1), drawn)
    assert torch.equal(generate(model, PROMPT, 6, top_p=1e-9), drawn)
    assert not model.training


def test_the_same_seed_gives_the_same_text() -> None:
    model = _model()
    texts = [generate(model, PROMPT, 40, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    assert texts[0].dtype == torch.int64
    assert generate(model, PROMPT, 0).shape == (0,)


def test_frequencies_follow_the_model_at_every_temperature() -> None:
    generator = torch.Generator().manual_seed(0)
    for temperature in (0.5, 1.0, 2.0):
        want = torch.tensor([0.7, 0.2, 0.1]) ** (1 / temperature)
        drawn = generate(Fixed(), PROMPT, 400, n=10, temperature=temperature, generator=generator)
        frequency = torch.bincount(drawn.flatten(), minlength=3) / 4000
        torch.testing.assert_close(frequency, want / want.sum(), rtol=0, atol=0.03)


def test_restrict_keeps_the_top_k_and_the_nucleus() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()

    def kept(top_k: int | None, top_p: float | None, min_p: float | None = None) -> list[int]:
        return restrict(logits, top_k, top_p, min_p).isfinite().nonzero().flatten().tolist()

    assert kept(None, None) == [0, 1, 2, 3]
    assert kept(2, None) == [1, 3]
    assert kept(10, None) == [0, 1, 2, 3]
    assert kept(None, 0.5) == [1, 3]
    assert kept(None, 0.75) == [1, 2, 3]
    assert kept(None, 1.0) == [0, 1, 2, 3]
    assert kept(2, 0.5) == [1]  # of what the top two left, the first alone holds 4/7
    assert kept(None, None, 0.0) == [0, 1, 2, 3]
    assert kept(None, None, 0.45) == [1, 2, 3]  # 0.2 is half of 0.4, 0.1 a quarter
    assert kept(None, None, 0.6) == [1, 3]
    assert kept(None, None, 1.0) == [1]
    assert kept(3, 0.5, 0.1) == [1, 3]
    rows = torch.stack((logits, logits.flip(0)))
    assert torch.equal(restrict(rows, 3, 0.8, 0.5)[1], restrict(logits, 3, 0.8, 0.5).flip(0))
    assert restrict(torch.zeros(4), 2, None).isfinite().tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": PROMPT[:0]}, "at least one token"),
        ({"prompt": PROMPT.view(3, 1)}, r"prompt must be \[T\]"),
        ({"steps": -1}, "steps"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": 1.1}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"n": 0}, "n must be"),
    ],
)
def test_arguments_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(_model(), **{"prompt": PROMPT, "steps": 2, **options})


def test_a_repetition_penalty_lowers_what_was_there_before_whatever_the_sign_of_its_logit() -> None:
    logits = torch.tensor([[2.0, 1.5, -1.0, -1.2]])
    seen = torch.tensor([[True, False, True, False]])
    assert Sampling(temperature=0).draw(logits) == 0
    assert Sampling(temperature=0, repetition_penalty=1.4).draw(logits, seen) == 1
    both = logits[:, 2:]
    assert Sampling(temperature=0, repetition_penalty=1.4).draw(both, seen[:, 2:]) == 1
    options = {"temperature": 0, "repetition_penalty": 10.0}
    # the prompt counts as there; once all were there, the order is the model's
    assert generate(Fixed(), PROMPT[1:2], 4, **options).tolist() == [0, 2, 0, 0]
    both = generate(Fixed(), PROMPT[1:2], 2, n=2, generator=torch.Generator().manual_seed(2), **options)
    assert both.tolist() == [[0, 2], [0, 2]]


def test_samples_side_by_side_follow_the_model_each_by_itself() -> None:
    model = _model()
    assert torch.equal(
        generate(model, PROMPT, 5, temperature=0, n=3),
        generate(model, PROMPT, 5, temperature=0).expand(3, 5),
    )
    rows = generate(model, PROMPT, 2, n=4000, generator=torch.Generator().manual_seed(0))
    assert rows.shape == (4000, 2)
    assert generate(model, PROMPT, 0, n=3).shape == (3, 0)
    for first in range(9):  # the second token of a sample is drawn after its own first one
        second = rows[rows[:, 0] == first, 1]
        if len(second) > 400:
            logits, _ = model.eval()(torch.cat((PROMPT, torch.tensor([first])))[:, None])
            frequency = torch.bincount(second, minlength=9) / len(second)
            torch.testing.assert_close(frequency, logits[-1, 0].softmax(0), rtol=0, atol=0.08)


def test_a_long_prompt_and_a_tiny_temperature_are_no_trouble() -> None:
    model = _model()
    long = PROMPT.repeat(300)
    model.eval()
    logits, _ = model(long[:, None])
    assert generate(model, long, 1, temperature=1e-300)[0] == logits[-1, 0].argmax()


def test_a_token_at_a_time_leaves_the_model_in_its_mode_and_gradients_on() -> None:
    model = _model()
    tokens = draw(model, PROMPT, 9, Sampling())
    next(tokens)
    assert torch.is_grad_enabled()
    assert not model.training
    del tokens
    assert model.training


TEXTS = torch.cartesian_prod(*[torch.arange(9)] * 3)
"""Every text of three tokens."""


def _log_probabilities(model: LanguageModel) -> torch.Tensor:
    """Of each token of each of `TEXTS` after the prompt."""
    tokens = torch.cat((PROMPT.expand(len(TEXTS), -1), TEXTS), 1).T
    logits, _ = model.eval()(tokens[:-1])
    return logits[-3:].double().log_softmax(-1).gather(2, TEXTS.T[..., None])[..., 0].T


def test_a_beam_as_wide_as_all_texts_finds_the_likeliest_and_a_beam_of_one_is_greedy() -> None:
    model = _model()
    best = TEXTS[_log_probabilities(model).sum(1).argmax()]
    assert torch.equal(beam_search(model, PROMPT, 3, 81), best)
    assert torch.equal(beam_search(model, PROMPT, 6, 1), generate(model, PROMPT, 6, temperature=0))
    assert beam_search(model, PROMPT, 0, 4).tolist() == []
    with pytest.raises(ValueError, match="beam must be at least 1"):
        beam_search(model, PROMPT, 3, 0)


def test_hypotheses_of_different_lengths_compare_by_the_mean_per_token() -> None:
    model = _model()
    means = _log_probabilities(model).cumsum(1) / torch.arange(1, 4)
    texts = [text[: text.index(2) + 1] if 2 in text else text for text in TEXTS.tolist()]
    best = max(range(len(texts)), key=lambda i: means[i, len(texts[i]) - 1])
    found = beam_search(model, PROMPT, 3, 1000, ended=lambda text: text[-1] == 2)
    assert found.tolist() == texts[best]


def test_texts_side_by_side_are_those_of_their_own_prompts() -> None:
    model = _model()
    prompts = [PROMPT, torch.tensor([5]), torch.tensor([8, 0, 8, 2, 7])]
    for options in ({"temperature": 0.0}, {"top_k": 1, "repetition_penalty": 1.7}):
        beside = torch.stack(list(draw_each(model, prompts, 20, Sampling(**options))), 1)
        for prompt, drawn in zip(prompts, beside, strict=True):
            assert torch.equal(generate(model, prompt, 20, **options), drawn)
    seed = torch.Generator().manual_seed
    alone = torch.stack(list(draw_each(model, [PROMPT], 20, Sampling(), generator=seed(3))), 1)
    assert torch.equal(alone[0], generate(model, PROMPT, 20, generator=seed(3)))
    assert not list(draw_each(model, [], 20, Sampling()))
    with pytest.raises(ValueError, match="at least one token"):
        draw_each(model, [PROMPT, PROMPT[:0]], 20, Sampling())


def test_a_state_of_two_parts_is_put_side_by_side_too() -> None:
    model = LanguageModel(9, partial(LSTM, hidden_size=8, num_layers=2))
    prompts = [PROMPT, torch.tensor([5])]
    beside = torch.stack(list(draw_each(model, prompts, 9, Sampling(temperature=0))), 1)
    for prompt, drawn in zip(prompts, beside, strict=True):
        assert torch.equal(generate(model, prompt, 9, temperature=0), drawn)
