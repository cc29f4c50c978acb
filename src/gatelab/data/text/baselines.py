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
from collections.abc import Sequence
from typing import Final

import numpy as np

_BIGRAM_WEIGHT: Final = 0.7


def _metrics(
    log_probability: np.ndarray, characters: int, unknown: int, escape: float | None
) -> dict[str, float]:
    """Return nats per token, perplexity, bits and the share of unknown tokens from `[n]` log-probabilities."""
    nats, tokens = -float(log_probability.sum()), len(log_probability)
    bits = (nats + tokens * (escape or 0.0)) / math.log(2) / (characters or tokens)
    return {
        "loss": nats / tokens,
        "ppl": math.exp(nats / tokens),
        **({"bpc": bits} if escape is not None else {}),
        **({"unknown": unknown / tokens} if unknown else {}),
        "tokens": tokens,
    }


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
) -> dict[str, dict[str, float]]:
    """Return the metrics of both models on `scored` `[n]`, learnt from `train` `[N]` (integer token ids).

    Each has loss (nats per token), ppl, bpc (bits per character of text; per token if `characters` is 0) and
    tokens. If `unknown` of the scored tokens stand for several words or characters, there is `unknown`, their share;
    `escape` is what it costs to tell which (`TextSpec.escape`): part of bpc, and None where there is none.
    """
    counts = np.bincount(train, minlength=vocabulary)
    smoothing = 0 if counts.all() else 1
    unigram = (counts + smoothing) / (len(train) + smoothing * vocabulary)

    context, following = train[:-1].astype(np.int64), train[1:]
    if boundaries:
        inside = np.delete(np.arange(len(context)), np.array(boundaries) - 1)
        context, following = context[inside], following[inside]
    seen, times = np.unique(context * vocabulary + following, return_counts=True)
    contexts = np.bincount(context, minlength=vocabulary)
    context = np.concatenate([[seed_token], scored[:-1]]).astype(np.int64)
    pair = context * vocabulary + scored
    seen, times = np.append(seen, np.iinfo(np.int64).max), np.append(times, 0)  # no pair's place lies beyond
    place = np.searchsorted(seen, pair)
    joint = np.where(seen[place] == pair, times[place], 0)
    known = contexts[context] > 0
    weight = np.where(known, _BIGRAM_WEIGHT, 0.0)
    conditional = joint / np.where(known, contexts[context], 1)
    bigram = weight * conditional + (1 - weight) * unigram[scored]
    return {
        "unigram": _metrics(np.log(unigram[scored]), characters, unknown, escape),
        "bigram": _metrics(np.log(bigram), characters, unknown, escape),
    }
