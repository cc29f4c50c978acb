"""Trivial language models: what a reported perplexity must be compared with. Counting, no training.

    unigram: p(w)     = (n(w) + a) / (N + a V)
    bigram:  p(w | v) = 0.7 n(v, w) / n(v) + 0.3 p(w)

n counts the training split: its pairs lie inside it and cross no boundary (see streams.py), and the first
scored token follows the seed token. a is 0 when every token of the vocabulary occurs in training (PTB,
WikiText-2), else 1 (Laplace), since a perplexity of infinity tells nothing. A context v never seen leaves p(w).
Probabilities and sums in float64, natural logarithms.

Dimensions: `N` training tokens, `n` scored tokens, `V` vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from gatelab.data.text.streams import leave_memory

_BIGRAM_WEIGHT: Final = 0.7


_BLOCK: Final = 1 << 22
"""Tokens that are counted or scored at once."""
_TABLE: Final = 1 << 20
"""Pairs of tokens that are counted in a table of all of them."""


def _metrics(
    log_probability: float, tokens: int, characters: int, unknown: int, escape: float | None, bits: str
) -> dict[str, float]:
    """Return nats per token, perplexity, bits and the share of unknown tokens from the summed log-probability."""
    nats = -log_probability
    return {
        "loss": nats / tokens,
        "ppl": math.exp(nats / tokens),
        **({} if escape is None else {bits: (nats + tokens * escape) / math.log(2) / (characters or tokens)}),
        **({"unknown": unknown / tokens} if unknown else {}),
        "tokens": tokens,
    }


def _blocks(tokens: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the blocks of an array, which may be mapped: what was read then leaves memory."""
    for start in range(0, len(tokens), _BLOCK):
        yield start, min(start + _BLOCK, len(tokens))
        leave_memory(tokens)


class _Scored:
    """The scored tokens with the token before each."""

    def __init__(self, tokens: np.ndarray, vocabulary: int, seed_token: int) -> None:
        self.tokens, self.vocabulary, self.seed_token = tokens, vocabulary, seed_token

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield contexts, tokens, and pairs of both as one number."""
        last = self.seed_token
        for start, stop in _blocks(self.tokens):
            tokens = self.tokens[start:stop].astype(np.int64)
            context = np.concatenate([[last], tokens[:-1]])
            last = int(tokens[-1])
            yield context, tokens, context * self.vocabulary + tokens

    def pairs(self) -> np.ndarray:
        """Return the different pairs, sorted."""
        found = np.zeros(0, np.int64)
        for _, _, pair in self.blocks():
            found = np.union1d(found, pair)
        return found


def _count_pairs(
    train: np.ndarray, wanted: np.ndarray, vocabulary: int, boundaries: Sequence[int]
) -> np.ndarray:
    """Return how often each of the wanted pairs (sorted) stands in training, across no boundary."""
    times = np.zeros(len(wanted), np.int64)
    for start, stop in _blocks(train):
        block = train[start : stop + 1].astype(np.int64)
        pair = block[:-1] * vocabulary + block[1:]
        across = [at - 1 - start for at in boundaries if start < at <= start + len(pair)]
        if across:
            pair = np.delete(pair, across)
        if vocabulary**2 <= _TABLE:
            times += np.bincount(pair, minlength=vocabulary**2)[wanted]
        elif len(wanted):
            place = np.minimum(np.searchsorted(wanted, pair), len(wanted) - 1)
            times += np.bincount(place[wanted[place] == pair], minlength=len(wanted))
    return times


def text_baselines(
    train: np.ndarray,
    scored: np.ndarray,
    *,
    vocabulary: int,
    seed_token: int,
    characters: int = 0,
    unknown: int = 0,
    escape: float | None = 0.0,
    boundaries: Sequence[int] = (),
    bits: str = "bpc",
) -> dict[str, dict[str, float]]:
    """Return the metrics of both models on `scored` `[n]`, learnt from `train` `[N]` (integer token ids).

    Each has loss (nats per token), ppl, bpc (bits per character of text; per token if `characters` is 0; called `bits`)
    and tokens. If `unknown` of the scored tokens stand for several words or characters, there is `unknown`, their
    share; `escape` is what it costs to tell which (`TextSpec.escape`): part of bpc, and None where there is none.
    """
    counts = np.zeros(vocabulary, np.int64)
    for start, stop in _blocks(train):
        counts += np.bincount(train[start:stop], minlength=vocabulary)
    smoothing = 0 if counts.all() else 1
    unigram = (counts + smoothing) / (len(train) + smoothing * vocabulary)

    contexts = counts.copy()
    for at in (len(train), *boundaries):  # the token before is no context of a pair
        contexts[train[at - 1]] -= 1
    part = _Scored(scored, vocabulary, seed_token)
    wanted = part.pairs()
    times = _count_pairs(train, wanted, vocabulary, boundaries)
    sums = {"unigram": 0.0, "bigram": 0.0}
    for context, tokens, pair in part.blocks():
        known = contexts[context] > 0
        weight = np.where(known, _BIGRAM_WEIGHT, 0.0)
        conditional = times[np.searchsorted(wanted, pair)] / np.where(known, contexts[context], 1)
        bigram = weight * conditional + (1 - weight) * unigram[tokens]
        sums["unigram"] += float(np.log(unigram[tokens]).sum())
        sums["bigram"] += float(np.log(bigram).sum())
    return {
        name: _metrics(total, len(scored), characters, unknown, escape, bits) for name, total in sums.items()
    }
