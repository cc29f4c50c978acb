"""The trivial predictors are what they are called."""

import math

import numpy as np
import pytest

from gatelab.data.labelled.baselines import Part, label_baselines, n_grams
from gatelab.data.labelled.examples import Sequences


def part(texts, labels):
    return Part(Sequences.of([np.array(text) for text in texts]), np.array(labels))


def test_the_majority_class_answers_as_often_as_it_trains():
    train = part([[1]] * 4, [0, 0, 0, 1])
    scored = part([[1]] * 5, [0, 0, 1, 1, 1])
    found = label_baselines(train, scored, 2, "word")["majority_class"]
    assert found["accuracy"] == 0.4
    assert found["loss"] == pytest.approx(-(2 * math.log(0.75) + 3 * math.log(0.25)) / 5)
    assert found["ece"] == pytest.approx(0.75 - 0.4)
    assert found["macro_f1"] == pytest.approx((2 * 2 / (2 + 5) + 0) / 2)


def test_n_grams_are_those_of_each_sequence_once():
    grams, begins = n_grams(Sequences.of([np.array([3, 4, 3, 4]), np.array([4]), np.array([3, 4])]), (1, 2))
    sizes = np.diff([*begins, len(grams)]).tolist()
    assert sizes == [4, 1, 3]  # 3, 4, 34, 43; 4; 3, 4, 34
    assert set(grams[begins[2] :]) < set(grams[: begins[1]])


def test_a_bag_knows_which_words_stand_together_but_not_where():
    draw = np.random.default_rng(0)
    texts = [draw.integers(5, 50, 8) for _ in range(200)]
    labels = []
    for text in texts:
        pair = [[1, 2], [2, 1]][len(labels) % 2]
        place = draw.integers(0, 6)
        text[place : place + 2] = pair
        labels.append(len(labels) % 2)
    train, scored = part(texts[:150], labels[:150]), part(texts[150:], labels[150:])
    assert label_baselines(train, scored, 2, "word")["bag_of_n_grams"]["accuracy"] > 0.95


@pytest.mark.parametrize("ragged", [False, True])
def test_a_linear_model_reads_channels(ragged):
    draw = np.random.default_rng(0)
    labels = np.arange(200) % 2
    steps = [5 + (i % 3 if ragged else 0) for i in range(200)]
    walks = [draw.normal(label, 1.0, (n, 2)) for label, n in zip(labels, steps, strict=True)]
    train, scored = (
        Part(Sequences.of(walks[:150]), labels[:150]),
        Part(Sequences.of(walks[150:]), labels[150:]),
    )
    found = label_baselines(train, scored, 2, "", (0, 0), (1, 1))
    assert found["linear"]["accuracy"] > 0.8 > found["majority_class"]["accuracy"]
