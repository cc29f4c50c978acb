"""Text from a language model: one token after another, drawn from its own predictions.

Temperature, top-k (Fan et al. 2018, arXiv:1805.04833) and top-p, "nucleus" (Holtzman et al. 2020,
arXiv:1904.09751). It handles token ids only; a tokenizer turns them into text.

Dimensions: V vocabulary.
"""

from typing import Any, Protocol

import torch
from torch import Tensor


class Predictor(Protocol):
    """What `generate` needs of a model: `model(tokens [T, 1], state) -> (logits [T, 1, V], state)`."""

    training: bool

    def __call__(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Predict the next token after each of `tokens`."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch dropout on or off."""
        ...


def generate(
    model: Predictor,
    prompt: Tensor,
    steps: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue a prompt by `steps` tokens and return only these, [steps] int64.

    Args:
        model: a `LanguageModel`; it is run without dropout and left in the mode it was in.
        prompt: [n] int64 on the model's device, n >= 1.
        steps: number of tokens to draw.
        temperature: divides the logits; 0 takes the most likely token every time.
        top_k: keep the k most likely tokens.
        top_p: keep the smallest set of most likely tokens whose probabilities sum to at least p.
        generator: source of randomness, on the model's device; with one, the same seed gives the same text.

    Raises ValueError on an empty prompt or an argument out of its range.
    """
    if prompt.dim() != 1 or prompt.numel() == 0:
        raise ValueError(f"prompt must be [n] with at least one token, got shape {list(prompt.shape)}")
    if steps < 0:
        raise ValueError(f"steps must not be negative, got {steps}")
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p}")
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            return _generate(model, prompt, steps, temperature, top_k, top_p, generator)
    finally:
        model.train(was_training)


def _generate(
    model: Predictor,
    prompt: Tensor,
    steps: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator | None,
) -> Tensor:
    drawn: list[Tensor] = []
    tokens, state = prompt.unsqueeze(1), None
    for _ in range(steps):
        logits, state = model(tokens, state)
        last = logits[-1, 0]
        if temperature == 0:
            token = last.argmax().unsqueeze(0)
        else:
            kept = restrict(last.double() / temperature, top_k, top_p)
            token = torch.multinomial(kept.softmax(0), 1, generator=generator)
        drawn.append(token)
        tokens = token.unsqueeze(1)
    return torch.cat(drawn) if drawn else prompt.new_empty(0)


def restrict(logits: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Set the logits [V] outside the top k and outside the nucleus of mass p to minus infinity.

    Both count on the distribution that is given: the nucleus is taken of what the top k left. The most
    likely token always stays, and of equal logits at the border the one with the lower index.
    """
    order = logits.argsort(descending=True, stable=True)
    dropped = torch.zeros_like(order, dtype=torch.bool)
    if top_k is not None:
        dropped[top_k:] = True
    if top_p is not None:
        probabilities = logits[order].masked_fill(dropped, -torch.inf).softmax(0)
        before = probabilities.cumsum(0) - probabilities
        dropped |= before >= top_p
        dropped[0] = False
    return logits.masked_fill(torch.empty_like(dropped).scatter_(0, order, dropped), -torch.inf)
