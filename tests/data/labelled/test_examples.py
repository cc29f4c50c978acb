"""Padded batches hold each sequence and zeros, and their order is one of similar lengths that can be resumed."""

import numpy as np
import pytest
import torch

from gatelab.data.labelled.examples import Examples, Labelled, Sequences
from gatelab.data.orders import SimilarLengths

LENGTHS = np.random.default_rng(0).integers(1, 30, 203)


def test_a_padded_batch_holds_each_sequence_and_zeros_behind_it():
    parts = [np.arange(1, n + 1, dtype=np.uint16) for n in (3, 1, 5)]
    batch = Examples(Sequences.of(parts), np.array([2, 0, 1]))[np.array([2, 0])]
    assert batch.inputs.tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 0, 0]]
    assert batch.lengths.tolist() == [5, 3]
    assert batch.labels.tolist() == [1, 2]
    assert batch.inputs.dtype == torch.int64


def test_channels_are_standardised_and_padding_is_not():
    values = [np.array([[10.0, 1], [14, 1]]), np.array([[12.0, 3]])]
    batch = Examples(Sequences.of(values), np.array([0, 1]), [12, 1], [2, 4])[np.array([0, 1])]
    assert batch.inputs.tolist() == [[[-1, 0], [1, 0]], [[0, 0.5], [0, 0]]]
    assert batch.inputs.dtype == torch.float32


def test_taken_sequences_are_those_that_were_asked_for():
    sequences = Sequences.of([np.full(n, n) for n in (2, 3, 1)])
    assert sequences.take(np.array([2, 1])).values.tolist() == [1, 3, 3, 3]
    assert sequences.take(np.array([], dtype=int)).lengths.tolist() == []


def order(**options):
    return SimilarLengths(LENGTHS, 8, **{"shuffle": True, "seed": 5, **options})


def test_every_example_comes_once_an_epoch_in_an_order_of_its_own():
    by_epoch = []
    for epoch in range(2):
        batches = order()
        batches.set_epoch(epoch)
        by_epoch.append(np.concatenate(list(batches)))
        assert sorted(by_epoch[-1]) == list(range(len(LENGTHS)))
    assert (by_epoch[0] != by_epoch[1]).any()
    again = order()
    again.set_epoch(1)
    assert (np.concatenate(list(again)) == by_epoch[1]).all()


def test_batches_hold_similar_lengths_and_come_in_no_order_of_length():
    batches = [LENGTHS[batch] for batch in order()]
    padded = sum(len(b) * b.max() - b.sum() for b in batches)
    rows = np.split(np.random.default_rng(1).permutation(LENGTHS), range(8, len(LENGTHS), 8))
    assert padded < 0.2 * sum(len(b) * b.max() - b.sum() for b in rows)
    means = [b.mean() for b in batches]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.5


def test_a_pass_can_begin_inside_an_epoch():
    whole, rest = list(order()), order()
    rest.start = 7
    assert all((a == b).all() for a, b in zip(whole[7:], rest, strict=True))


@pytest.mark.parametrize("shuffle", [True, False])
def test_two_ranks_share_each_batch(shuffle):
    whole = list(order(shuffle=shuffle))
    ranks = [list(order(shuffle=shuffle, rank=rank, world_size=2)) for rank in range(2)]
    for batch, first, second in zip(whole, *ranks, strict=True):
        assert np.concatenate([first, second]).tolist() == batch.tolist()


def test_what_the_cache_keeps_comes_back():
    given = Labelled(
        Sequences.of([np.arange(3), np.arange(2)]), np.array([0, 1]), np.array([0, 1]), ["a", "b"]
    )
    back = Labelled.restore(given.keep())
    assert back.classes == ["a", "b"]
    assert back.sequences.values.tolist() == [0, 1, 2, 0, 1]
