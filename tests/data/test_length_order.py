"""Batches of similar length: each item once, within the budget, the same number every epoch, restartable anywhere."""

import numpy as np
import pytest

from gatelab.data.messages import DataError
from gatelab.data.orders import LengthOrder

LENGTHS = np.random.default_rng(0).integers(1, 40, 500)


def passes(order):
    return [batch.tolist() for batch in order]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("budget", [None, 200, 1])
def test_every_item_comes_once_over_all_ranks_in_every_epoch(shuffle, world_size, budget):
    counts = set()
    for epoch in range(3):
        seen = []
        for rank in range(world_size):
            order = LengthOrder(LENGTHS, 24, budget, shuffle=shuffle, rank=rank, world_size=world_size)
            order.set_epoch(epoch)
            batches = passes(order)
            assert all(batches)
            counts.add(len(batches))
            seen += [item for batch in batches for item in batch]
        assert sorted(seen) == list(range(500))
    assert len(counts) == 1


def test_a_batch_stays_within_items_and_steps_and_holds_similar_lengths():
    batches = passes(LengthOrder(LENGTHS, 24, 200, shuffle=True, seed=1))
    for batch in batches:
        lengths = LENGTHS[batch]
        assert len(batch) <= 24
        assert len(batch) * lengths.max() <= 200
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    assert padded < 1.1 * LENGTHS.sum()


def test_the_order_is_a_function_of_seed_and_epoch_and_begins_anywhere():
    def order(seed, epoch, start=0):
        one = LengthOrder(LENGTHS, 24, 200, shuffle=True, seed=seed)
        one.set_epoch(epoch)
        one.start = start
        return passes(one)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert {frozenset(b) for b in order(1, 2)} != {frozenset(b) for b in order(1, 3)}
    assert order(1, 2) != order(2, 2)
    assert order(1, 2, start=7) == order(1, 2)[7:]


def test_a_budget_below_one_is_refused():
    with pytest.raises(DataError, match=r"data\.batch_tokens=0"):
        LengthOrder(LENGTHS, 24, 0, shuffle=True)
