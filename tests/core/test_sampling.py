"""Sampling: greedy is the argmax, a seed fixes the text, and restricted tokens are never drawn."""

from functools import partial
from typing import Any

import pytest
import torch

from gatelab.core.gru import GRU
from gatelab.core.language_model import LanguageModel, generate, restrict


def _model() -> LanguageModel:
    model = LanguageModel(9, partial(GRU, hidden_size=8), dropout=0.5)
    with torch.no_grad():
        model.embedding.weight.mul_(30)
    return model


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
    class Fixed(torch.nn.Module):
        def forward(self, tokens: torch.Tensor, state: Any = None) -> Any:
            return torch.tensor([0.7, 0.2, 0.1]).log().expand(tokens.shape[0], 1, 3), state

    generator = torch.Generator().manual_seed(0)
    for temperature in (0.5, 1.0, 2.0):
        want = torch.tensor([0.7, 0.2, 0.1]) ** (1 / temperature)
        drawn = generate(Fixed(), PROMPT, 4000, temperature=temperature, generator=generator)
        frequency = torch.bincount(drawn, minlength=3) / 4000
        torch.testing.assert_close(frequency, want / want.sum(), rtol=0, atol=0.03)


def test_restrict_keeps_the_top_k_and_the_nucleus() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()

    def kept(top_k: int | None, top_p: float | None) -> list[int]:
        return restrict(logits, top_k, top_p).isfinite().nonzero().flatten().tolist()

    assert kept(None, None) == [0, 1, 2, 3]
    assert kept(2, None) == [1, 3]
    assert kept(10, None) == [0, 1, 2, 3]
    assert kept(None, 0.5) == [1, 3]
    assert kept(None, 0.75) == [1, 2, 3]
    assert kept(None, 1.0) == [0, 1, 2, 3]
    assert kept(2, 0.5) == [1]  # of what the top two left, the first alone holds 4/7
    assert restrict(torch.zeros(4), 2, None).isfinite().tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": PROMPT[:0]}, "at least one token"),
        ({"prompt": PROMPT.view(3, 1)}, r"prompt must be \[n\]"),
        ({"steps": -1}, "steps"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
    ],
)
def test_arguments_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(_model(), **{"prompt": PROMPT, "steps": 2, **options})
