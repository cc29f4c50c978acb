"""The order of batches: a function of seed and epoch, each item once, restartable anywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelab.data.base_module import BatchOrder
from gatelab.data.messages import DataError


def passes(order: BatchOrder) -> list[list[int]]:
    return [batch.tolist() for batch in order]


@given(
    items=st.integers(1, 300),
    batch_size=st.integers(1, 64),
    world_size=st.integers(1, 4),
    shuffle=st.booleans(),
    epoch=st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_every_item_comes_once_over_all_ranks(items, batch_size, world_size, shuffle, epoch):
    if items < world_size:
        with pytest.raises(DataError, match="fewer devices"):
            BatchOrder(items, batch_size, shuffle=shuffle, world_size=world_size)
        return
    orders = [
        BatchOrder(items, max(batch_size, world_size), shuffle=shuffle, rank=r, world_size=world_size)
        for r in range(world_size)
    ]
    seen: list[int] = []
    lengths = set()
    for order in orders:
        order.set_epoch(epoch)
        batches = passes(order)
        assert all(batches), "a rank with an empty batch would divide by zero or wait for ever"
        lengths.add(len(batches))
        assert len(batches) == len(order)
        seen += [item for batch in batches for item in batch]
    assert sorted(seen) == list(range(items))
    assert len(lengths) == 1


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[list[int]]:
        one = BatchOrder(50, 8, shuffle=True, seed=seed)
        one.set_epoch(epoch)
        return passes(one)

    assert order(1, 2) == order(1, 2)
    different = [order(1, 2), order(1, 3), order(2, 2), order(2, 1), order(0, 0)]
    assert all(a != b for i, a in enumerate(different) for b in different[:i])


def test_order_is_the_same_on_every_machine():
    order = BatchOrder(10, 10, shuffle=True, seed=7)
    order.set_epoch(3)
    assert passes(order) == [[3, 5, 4, 7, 8, 0, 9, 2, 1, 6]]


def test_ranks_together_take_the_batch_of_one_process():
    alone = passes(BatchOrder(37, 8, shuffle=True, seed=3))
    ranks = [passes(BatchOrder(37, 8, shuffle=True, seed=3, rank=r, world_size=2)) for r in range(2)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == alone


@given(start=st.integers(0, 7), epoch=st.integers(0, 3))
@settings(deadline=None)
def test_start_skips_exactly_that_many_batches_once(start, epoch):
    order = BatchOrder(50, 8, shuffle=True, seed=1)
    order.set_epoch(epoch)
    whole = passes(order)
    order.start = start
    assert passes(order) == whole[start:]
    assert len(order) == len(whole)
    assert passes(order) == whole


def test_items_are_arrays_so_that_a_dataset_fetches_whole_batches():
    assert all(isinstance(batch, np.ndarray) for batch in BatchOrder(5, 2, shuffle=False))


def test_start_outlives_an_iterator_that_nobody_draws_from():
    order = BatchOrder(50, 8, shuffle=True)
    whole = passes(order)
    order.start = 3
    iter(order)
    assert passes(order) == whole[3:]
