"""A recurrent language model, and text drawn from its predictions.

The model is embedding, recurrent core and output layer; time first, state in and state out.

It returns logits and knows nothing of losses, windows or corpora. Tied weights as in Press and Wolf 2017
(arXiv:1608.05859); dropout on the embeddings and on the core's output as in Zaremba et al. 2014
(arXiv:1409.2329). `generate` draws one token after another: temperature, top-k (Fan et al. 2018, arXiv:1805.04833)
and top-p, "nucleus" (Holtzman et al. 2020, arXiv:1904.09751). It handles token ids only; a tokenizer turns them into
text.

Dimensions: T time, B batch, V vocabulary, E embedding, H the core's output.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gatelab.core.contract import SEE, make_core

INIT_RANGE = 0.1


class LanguageModel(nn.Module):
    """Predict the next token: `model(tokens [T, B], state) -> (logits [T, B, V], state)`.

    Args:
        vocab_size: V.
        core: makes the recurrent core (see `Core`) when called as `core(input_size=E)`, for instance
            `functools.partial(GRU, hidden_size=200, num_layers=2)`. It must be time-major and run forward
            only: a reverse direction would see the tokens that are to be predicted.
        embedding_size: E; None takes the core's hidden size.
        tied: the output layer shares the embedding matrix. When E differs from the core's output size a
            bias-free projection to E comes before it.
        dropout: on the embeddings and on the core's output.
    """

    def __init__(
        self,
        vocab_size: int,
        core: Callable[..., Any],
        *,
        embedding_size: int | None = None,
        tied: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if vocab_size <= 0:
            raise ValueError(f"vocab_size must be greater than zero, got {vocab_size}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be a probability, 0 <= dropout <= 1, got {dropout!r}")
        self.vocab_size, self.tied, self.dropout = vocab_size, tied, float(dropout)
        self.embedding_size = core_hidden_size(core) if embedding_size is None else embedding_size
        self.embedding = nn.Embedding(vocab_size, self.embedding_size)
        self.core = make_core(core, self.embedding_size, "LanguageModel", None, None, reset_mask=None)
        if getattr(self.core, "bidirectional", False):
            raise ValueError(
                "the core of a LanguageModel must not be bidirectional: it would see the targets"
            )
        taken = inspect.signature(self.core.forward).parameters.values()
        if not any(p.name == "reset_mask" or p.kind is p.VAR_KEYWORD for p in taken):
            raise TypeError(
                f"{type(self.core).__name__}.forward takes no reset_mask, which the core of a LanguageModel needs: "
                "forward(x, state=None, *, reset_mask=None) with reset_mask [T, B], True where a new text begins"
            )
        width = self.core.output_size
        self.projection: nn.Linear | None = None
        if tied and width != self.embedding_size:
            self.projection = nn.Linear(width, self.embedding_size, bias=False)
        self.head = nn.Linear(self.embedding_size if tied else width, vocab_size)
        if tied:
            self.head.weight = self.embedding.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embedding and head from uniform(-0.1, 0.1), head bias zero; the core keeps its own values."""
        nn.init.uniform_(self.embedding.weight, -INIT_RANGE, INIT_RANGE)
        if not self.tied:
            nn.init.uniform_(self.head.weight, -INIT_RANGE, INIT_RANGE)
        nn.init.zeros_(self.head.bias)

    def features(
        self, tokens: Tensor, state: Any = None, *, reset_mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Everything before the head: tokens [T, B] -> ([T, B, F], state); F is the head's input size."""
        if tokens.dim() != 2:
            raise ValueError(f"tokens must be [T, B], got shape {list(tokens.shape)}")
        x = F.dropout(self.embedding(tokens), self.dropout, self.training)
        y, state = self.core(x, state, reset_mask=reset_mask)
        y = F.dropout(y, self.dropout, self.training)
        return (y if self.projection is None else self.projection(y)), state

    def forward(
        self, tokens: Tensor, state: Any = None, *, reset_mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Return logits [T, B, V] and the core's state after the last token.

        `reset_mask` [T, B] bool: where True the state is zero before that token is read.
        """
        y, state = self.features(tokens, state, reset_mask=reset_mask)
        return self.head(y), state


def core_hidden_size(core: Callable[..., Any]) -> int:
    """The hidden size that a core will have: read from a partial's keywords, else from a throw-away core."""
    keywords = getattr(core, "keywords", {})
    if "hidden_size" in keywords:
        return int(keywords["hidden_size"])
    with torch.random.fork_rng(devices=[]):
        made = core(input_size=1)
    if not hasattr(made, "hidden_size"):
        raise TypeError(
            f"the core {type(made).__name__} has no hidden_size, which embedding_size=None takes; {SEE}"
        )
    return int(made.hidden_size)


def generate(
    model: nn.Module,
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
        model: `model(tokens [T, 1], state) -> (logits [T, 1, V], state)`, as a `LanguageModel`; it is run
            without dropout and left in the mode it was in.
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
    drawn: list[Tensor] = []
    tokens, state = prompt.unsqueeze(1), None
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
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
    finally:
        model.train(was_training)
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
