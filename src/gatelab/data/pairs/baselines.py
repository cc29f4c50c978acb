"""Trivial translators: the source as it is, and a dictionary of single words learnt from the training pairs.

The dictionary is IBM Model 1 (Brown et al. 1993): with source words f_1 ... f_n of a pair and t(e | f) equal at first,

    c(e, f) = sum over pairs and target words e_j = e of t(e | f) / sum over i of t(e | f_i)
    t(e | f) = c(e, f) / sum over e' of c(e', f)

five times; each source word is then replaced by its likeliest e, in its place. A word that training lacks is copied.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from gatelab.data.disk_cache import CacheEntry, cached
from gatelab.data.pairs.read import Pairs, digest
from gatelab.data.pairs.scores import signatures, translation_scores
from gatelab.data.text.tokenizer import SentenceTokenizer

ROUNDS: Final = 5
MOST_PAIRS: Final = 50_000
"""Training pairs that the dictionary is learnt from: the first ones."""


def dictionary(train: Pairs) -> dict[str, str]:
    """Return source word -> its likeliest translation, in lower-case sources and cased targets."""
    sides = []
    for sentences in (
        [text.lower() for text in train.sources[:MOST_PAIRS]],
        train.targets[:MOST_PAIRS],
    ):
        words = [SentenceTokenizer.split(text) for text in sentences]
        names, ids = np.unique([word for sentence in words for word in sentence], return_inverse=True)
        sides.append((names, ids, np.array([len(sentence) for sentence in words])))
    (sources, f, f_lengths), (targets, e, e_lengths) = sides
    # a link is a target position with a source position of its pair
    place = np.repeat(np.arange(len(e)), np.repeat(f_lengths, e_lengths))
    begins = np.repeat(np.cumsum(f_lengths) - f_lengths, e_lengths)
    first = np.cumsum(np.repeat(f_lengths, e_lengths)) - np.repeat(f_lengths, e_lengths)
    linked = f[begins[place] + np.arange(len(place)) - first[place]]
    entries, link = np.unique(linked.astype(np.int64) * len(targets) + e[place], return_inverse=True)
    of_source = entries // len(targets)
    t = np.ones(len(entries))
    for _ in range(ROUNDS):
        each = t[link]
        each /= np.bincount(place, each, len(e))[place]
        counts = np.bincount(link, each, len(entries))
        t = counts / np.bincount(of_source, counts, len(sources))[of_source]
    order = np.lexsort((entries, -t, of_source))
    best = order[np.unique(of_source[order], return_index=True)[1]]
    return {str(sources[of_source[i]]): str(targets[entries[i] % len(targets)]) for i in best}


def word_by_word(sentences: Sequence[str], words: dict[str, str]) -> list[str]:
    """Return every sentence with each word replaced."""
    joined = SentenceTokenizer.joined
    return [
        joined([words.get(part.lower(), part) for part in SentenceTokenizer.split(text)])
        for text in sentences
    ]


def pair_baselines(
    train: Pairs, pairs: Pairs, tokenizer: str, cache: str | None
) -> dict[str, dict[str, float]]:
    """Return the scores of copying the source and of the dictionary, on `pairs`."""

    learnt_from = {"what": "dictionary of words", "train": digest(train)}

    def make() -> CacheEntry:
        words = cached(cache, lambda: learnt_from, lambda: CacheEntry({}, dictionary(train))).facts
        guesses = {"copy": pairs.sources, "dictionary": word_by_word(pairs.sources, words)}
        scores = {
            name: translation_scores(guess, pairs.targets, tokenizer) | {"sentences": len(guess)}
            for name, guess in guesses.items()
        }
        return CacheEntry({}, scores)

    key: dict[str, Any] = {**learnt_from, "what": "pair baselines", "pairs": digest(pairs)}
    key["scores"] = signatures(tokenizer)
    return cached(cache, lambda: key, make).facts
