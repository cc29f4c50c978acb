"""Error rates are sums of edits and one division; the edit distance is the least there is."""

import functools

import pytest
import torch

from gatelab.data.audio.edit_distance import edit_distance, errors_of
from gatelab.tasks import ErrorRates


@functools.cache
def by_definition(said: str, truth: str) -> int:
    if not said or not truth:
        return len(said) + len(truth)
    if said[0] == truth[0]:
        return by_definition(said[1:], truth[1:])
    rest = (
        by_definition(said[1:], truth),
        by_definition(said, truth[1:]),
        by_definition(said[1:], truth[1:]),
    )
    return 1 + min(rest)


@pytest.mark.parametrize(
    ("said", "truth"),
    [("", ""), ("", "abc"), ("abc", ""), ("kitten", "sitting"), ("abcab", "bacb"), ("aaa", "aa")],
)
def test_the_edit_distance_is_the_least(said, truth):
    assert edit_distance(said, truth) == by_definition(said, truth)


def test_words_and_characters_are_counted_over_all_transcripts():
    assert errors_of("one  two", "one three") == {
        "word_errors": 1,
        "words": 2,
        "character_errors": 4,
        "characters": 9,
        "wrong": 1,
    }
    rates = ErrorRates()
    rates.update(["one two", "six"], ["one three", "six"], torch.tensor(4.0), torch.tensor(3))
    rates.update(["", "two two"], ["nine", "two"], torch.tensor(2.0), torch.tensor(2))
    found = {name: float(value) for name, value in rates.compute().items()}
    assert found == pytest.approx(
        {"wer": 100 * 3 / 5, "cer": 100 * (4 + 4 + 4) / 19, "ser": 75.0, "loss": 6 / 5, "words": 5}
    )
