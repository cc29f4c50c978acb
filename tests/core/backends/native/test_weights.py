"""Packed weights are kept for inference, and never stale."""

import gc

import pytest
import torch

from gatelab.core.backends.native import load, run
from gatelab.core.backends.native.kernel import PackedStore, pack


def make(hidden=20, inputs=6):
    torch.manual_seed(0)
    shapes = ((3 * hidden, inputs), (3 * hidden, hidden), (3 * hidden,), (3 * hidden,))
    return tuple(torch.nn.Parameter(torch.randn(*s)) for s in shapes)


def test_unchanged_weights_are_packed_once():
    store, weights = PackedStore(), make()
    first = store.get(load(), weights, inputs=0, reset_after=True)
    assert store.get(load(), weights, inputs=0, reset_after=True) is first


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("how", ["in place", "data", "new storage"])
def test_changed_weights_are_packed_again(which, how):
    store, weights = PackedStore(), make()
    store.get(load(), weights, inputs=6, reset_after=True)
    with torch.no_grad():
        if how == "in place":
            weights[which].view(-1)[-1] += 1
        elif how == "data":
            weights[which].data.mul_(1.5)
        else:
            weights[which].data = weights[which].data + 1
    found = store.get(load(), weights, inputs=6, reset_after=True).data
    assert torch.equal(found, pack(load(), weights, inputs=6, reset_after=True, backward=False).data)


@pytest.mark.slow
def test_other_tensors_at_the_same_address_are_packed_again():
    store = PackedStore()
    for scale in range(1, 30):
        weights = tuple((w.detach() * 0 + scale) for w in make())
        packed = store.get(load(), weights, inputs=0, reset_after=True)
        assert packed.data.max() == 2 * scale  # the sum of two biases
        del weights
        gc.collect()


def test_the_store_keeps_a_bounded_size():
    layers = [make() for _ in range(5)]
    store = PackedStore(
        most=3 * pack(load(), layers[0], inputs=0, reset_after=True, backward=False).data.numel()
    )
    for weights in layers:
        store.get(load(), weights, inputs=0, reset_after=True)
    assert len(store) == 3


def test_packed_weights_are_freed_with_their_layer():
    store = PackedStore()
    for _ in range(3):
        store.get(load(), make(), inputs=0, reset_after=True)
    gc.collect()
    assert len(store) == 0


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("hidden", [20, 130])
def test_one_changed_element_or_sign_is_seen_wherever_it_lies(hidden, threads):
    store, weights = PackedStore(), make(hidden)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for which, w in enumerate(weights):
            for at in range(0, w.numel(), max(1, w.numel() // 50)):
                old = store.get(load(), weights, inputs=6, reset_after=True)
                w.detach().numpy().reshape(-1)[at] *= -1
                assert store.get(load(), weights, inputs=6, reset_after=True) is not old, (which, at)
            old = store.get(load(), weights, inputs=6, reset_after=True)
            w.data.neg_()
            assert store.get(load(), weights, inputs=6, reset_after=True) is not old
    finally:
        torch.set_num_threads(before)


def test_inference_after_a_training_step_uses_the_new_weights():
    weights = make()
    x, h0 = torch.randn(1, 1, 6), torch.zeros(1, 20)
    optimizer = torch.optim.SGD(weights, lr=0.1)
    for _ in range(3):
        with torch.no_grad():
            before, _ = run(x, h0, *weights, reset_after=True)
        y, _ = run(x, h0, *weights, reset_after=True)
        assert torch.equal(before, y)
        y.sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_weights_made_in_inference_mode_work():
    with torch.inference_mode():
        weights = tuple(w.detach().clone() for w in make())
        x, h0 = torch.randn(2, 3, 6), torch.zeros(3, 20)
        first, _ = run(x, h0, *weights, reset_after=True)
        weights[1].mul_(0)
        second, _ = run(x, h0, *weights, reset_after=True)
    assert not torch.equal(first, second)
