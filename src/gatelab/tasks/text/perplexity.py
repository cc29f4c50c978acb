"""The perplexity of any text under a language model: one stream, read from its beginning, every token scored once.

The state starts from zero and the seed token, as at the beginning of a split, and is carried from window to window. The
NLLs are summed in float64 and divided once (`metrics.TokenLoss`), so no figure depends on the window.

Dimensions: T steps, V vocabulary.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gatelab.core.text.head import token_nll
from gatelab.data.specs import TextSpec
from gatelab.data.text.encoded import encoded_parts
from gatelab.data.text.tokenizer import Tokenizer
from gatelab.tasks.contract import TokenScores
from gatelab.tasks.metrics import TokenLoss

HEAD_ELEMENTS = 1 << 22
"""Logits held at once in evaluation (16 MiB in float32), so that a window may be a whole corpus."""


def score_text(
    net: Any,
    tokenizer: Tokenizer,
    text: Iterable[bytes],
    *,
    window: int = 256,
    name: str = "the text",
    each: Callable[[TokenScores], None] | None = None,
) -> dict[str, float]:
    """Return `loss` (nats per token), `ppl`, `bpc` (of bytes `bpb`), `tokens`, and `unknown` where some are outside the
    vocabulary.

    The arguments are those of `Task.perplexity`; `net` is a `gatelab.core.LanguageModel` in evaluation mode. There is
    no `bpc` where words are unknown, see `TextSpec.escape`. Raises `DataError` on a text without a token or one that
    cannot be read, and ValueError on a window below 1.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    metric, stream = TokenLoss(), Stream(net, tokenizer.seed_token)
    name_of = lru_cache(maxsize=1 << 16)(lambda token: tokenizer.decode([token]))
    characters = unknown = tokens = 0
    for part, ids in encoded_parts(text, tokenizer, name):
        characters, tokens = characters + len(part), tokens + len(ids)
        unknown += tokenizer.count_unknown(part, ids)
        for some in ids.split(window):
            nll = stream.score(some)
            metric.update(nll.sum(dtype=torch.float64), len(some))
            if each is not None:
                each(TokenScores(some.tolist(), [name_of(token) for token in some.tolist()], nll.tolist()))
    spec = TextSpec(
        tokenizer.size,
        tokenizer.level,
        tokenizer.seed_token,
        {"text": tokens},
        {"text": characters},
        {"text": unknown},
    )
    escape = spec.escape("text")
    metric.characters_per_token = None if escape is None else spec.characters_per_token("text")
    metric.escape, metric.bits = escape or 0.0, spec.bits
    figures = {name: float(value) for name, value in metric.compute().items()}
    return figures | ({"unknown": unknown / tokens} if unknown else {})


class Stream:
    """A text on its way through a network: the state and the last token are kept from call to call."""

    def __init__(self, net: Any, seed_token: int) -> None:
        self.net, self.state = net, None
        self.last = torch.tensor([seed_token])

    @torch.inference_mode()
    def score(self, tokens: Tensor) -> Tensor:
        """Return the NLL [T] (nats) of tokens [T], which go on where those of the last call ended."""
        inputs = torch.cat((self.last, tokens[:-1]))
        features, self.state = self.net.features(inputs[:, None], self.state)
        self.last = tokens[-1:]
        return nll_in_parts(self.net, features[:, 0], tokens)


def nll_in_parts(net: Any, features: Tensor, targets: Tensor) -> Tensor:
    """The NLL [n] (nats) of n targets in all after features [*, H], `HEAD_ELEMENTS` logits at a time."""
    rows, wanted = features.flatten(0, -2), targets.flatten()
    size = max(1, HEAD_ELEMENTS // net.vocab_size)
    parts = zip(rows.split(size), wanted.split(size), strict=True)
    return torch.cat([token_nll(net.head, part, target) for part, target in parts])
