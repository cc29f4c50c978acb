"""Transcripts read from CTC's log-probabilities, against the sum over every path there is."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from gatelab.core.speech.decoding import beam_search, collapse, decode, greedy


def every_transcript(log_probs) -> dict[tuple[int, ...], float]:
    """Of each transcript the log of the summed probability of its paths, one path after the other."""
    steps, outputs = log_probs.shape
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(outputs), repeat=steps):
        score = sum(float(log_probs[step, output]) for step, output in enumerate(path))
        said = tuple(k for k, _ in itertools.groupby(path) if k != 0)
        found[said] = found.get(said, 0.0) + math.exp(score)
    return {said: math.log(p) for said, p in found.items()}


def random_log_probs(steps, outputs, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, outputs, generator=generator, dtype=torch.float64).mul(1.5).log_softmax(-1)


@pytest.mark.parametrize("seed", range(8))
def test_a_wide_beam_finds_the_best_transcript_and_its_probability(seed):
    log_probs = random_log_probs(5, 3, seed)
    every = every_transcript(log_probs)
    best = max(every, key=lambda said: every[said])
    said, score = beam_search(log_probs, 200)
    assert tuple(said) == best
    assert score == pytest.approx(every[best], abs=1e-9)


def test_the_probability_of_a_transcript_is_that_of_ctc_loss():
    log_probs = random_log_probs(6, 4, 3)
    said, score = beam_search(log_probs, 1000)
    nll = F.ctc_loss(log_probs[:, None], torch.tensor([said]), [6], [len(said)], reduction="sum")
    assert score == pytest.approx(-float(nll), abs=1e-6)


def test_the_best_transcript_may_be_another_than_that_of_the_best_path():
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()  # blank, a
    assert greedy(log_probs) == []  # the path of two blanks, .36
    assert beam_search(log_probs, 2)[0] == [1]  # three paths, .64


def test_a_repeated_symbol_needs_a_blank_between():
    def sure(path):
        return F.one_hot(torch.tensor(path), 3).double().mul(20).log_softmax(-1)

    for path, said in (([1, 1, 0, 2], [1, 2]), ([1, 0, 1, 1], [1, 1]), ([0, 0, 0], [])):
        assert greedy(sure(path)) == said == beam_search(sure(path), 4)[0]


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_path_in_two_pieces_has_the_same_transcript(cut):
    path = [1, 1, 0, 1, 2, 2]
    assert collapse(path[:cut]) + collapse(path[cut:], path[cut - 1]) == collapse(path) == [1, 1, 2]


def test_a_batch_is_decoded_up_to_each_length():
    log_probs = torch.stack([random_log_probs(7, 4, seed) for seed in (0, 1)], 1)
    for beam in (1, 5):
        both = decode(log_probs, torch.tensor([7, 4]), beam)
        alone = [decode(log_probs[:n, b : b + 1], torch.tensor([n]), beam)[0] for b, n in ((0, 7), (1, 4))]
        assert both == alone
