"""Trivial language models: the published numbers of Penn Treebank, and the definition on paper-sized texts."""

import math

import numpy as np
import pytest

from gatelab.data.text.baselines import text_baselines
from gatelab.data.text.module import TextDataModule


def test_penn_treebank_perplexities(mirror):
    data = TextDataModule("ptb_word", mirror=str(mirror))
    data.setup()
    test, valid = data.baselines("test"), data.baselines("valid")
    assert round(test["unigram"]["ppl"], 2) == 639.30
    assert round(test["bigram"]["ppl"], 2) == 208.59
    assert round(valid["unigram"]["ppl"], 2) == 687.03
    assert round(valid["bigram"]["ppl"], 2) == 227.00
    assert (test["bigram"]["tokens"], valid["unigram"]["tokens"]) == (82_430, 73_760)


def test_bigram_equals_a_count_by_hand():
    train, scored = np.array([1, 1, 2, 1]), np.array([1, 2])
    found = text_baselines(train, scored, vocabulary=3, seed_token=0)
    # token 0 never occurs in training, so every count of the unigram is one higher
    assert found["unigram"]["loss"] == pytest.approx(-(math.log(4 / 7) + math.log(2 / 7)) / 2)
    closed = text_baselines(train - 1, scored - 1, vocabulary=2, seed_token=0)
    assert closed["unigram"]["loss"] == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)
    # pairs of training: 0>0 0>1 1>0; scored after the seed token: 0>0 0>1
    first, second = 0.7 * 1 / 2 + 0.3 * 3 / 4, 0.7 * 1 / 2 + 0.3 * 1 / 4
    assert closed["bigram"]["loss"] == pytest.approx(-(math.log(first) + math.log(second)) / 2)


def test_pairs_across_a_boundary_are_not_counted():
    train, scored = np.array([0, 1, 1, 0]), np.array([1, 0])
    whole = text_baselines(train, scored, vocabulary=2, seed_token=0)
    parted = text_baselines(train, scored, vocabulary=2, seed_token=0, boundaries=(2,))
    assert parted["unigram"] == whole["unigram"]
    # pairs: 0>1 1>0 without 1>1; scored after the seed token: 0>1 1>0
    assert parted["bigram"]["loss"] == pytest.approx(-math.log(0.7 * 1 + 0.3 * 0.5))
    assert whole["bigram"]["loss"] > parted["bigram"]["loss"]


def test_unseen_tokens_and_contexts_stay_finite():
    found = text_baselines(np.array([0, 1, 0]), np.array([2, 2, 1]), vocabulary=3, seed_token=0)
    assert all(math.isfinite(metrics["ppl"]) for metrics in found.values())


@pytest.mark.parametrize("name", ["unigram", "bigram"])
def test_probabilities_sum_to_one(name):
    train = np.array([0, 1, 2, 1, 1, 0, 3])
    losses = [
        text_baselines(train, np.array([w]), vocabulary=5, seed_token=0)[name]["loss"] for w in range(5)
    ]
    assert sum(math.exp(-loss) for loss in losses) == pytest.approx(1)


def test_bits_are_per_character_where_there_is_text():
    arguments = (np.array([0, 1]), np.array([1, 1]))
    plain = text_baselines(*arguments, vocabulary=2, seed_token=0)["unigram"]
    text = text_baselines(*arguments, vocabulary=2, seed_token=0, characters=8)["unigram"]
    assert plain["bpc"] == pytest.approx(1.0)
    assert text["bpc"] == pytest.approx(0.25)
