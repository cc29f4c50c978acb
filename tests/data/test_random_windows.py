"""Windows of random length: every step once and in order, another cut in each epoch, the same number of windows."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from gatelab.data import DataError, TextDataModule
from gatelab.data.orders import SHORTEST, RandomWindows
from gatelab.data.text.streams import StreamWindows, train_streams


@pytest.mark.parametrize("steps", [5, 6, 34, 71, 1000, 46479])
@pytest.mark.parametrize("window", [10, 35, 70])
def test_every_epoch_covers_every_step_once_in_order(steps: int, window: int) -> None:
    order = RandomWindows(steps, window, seed=3)
    seen = []
    for epoch in range(3):
        order.set_epoch(epoch)
        pairs = [tuple(pair.reshape(-1).tolist()) for pair in order]
        assert len(pairs) == len(order)
        assert pairs[0][0] == 0
        assert pairs[-1][1] == steps
        assert all(a[1] == b[0] for a, b in pairwise(pairs))
        assert min(stop - start for start, stop in pairs) >= min(SHORTEST, steps)
        seen.append(pairs)
    if steps >= 1000:
        assert seen[0] != seen[1] != seen[2]
        mean = steps / len(order)
        assert 0.85 * window < mean < 1.05 * window


def test_windows_end_before_boundaries() -> None:
    order = RandomWindows(500, 20, [33, 34, 400], seed=1)
    for epoch in range(4):
        order.set_epoch(epoch)
        stops = {int(pair.reshape(-1)[1]) for pair in order}
        assert {33, 34, 400, 500} <= stops


def test_a_run_goes_on_with_the_windows_that_it_had_left() -> None:
    order = RandomWindows(800, 35, seed=1)
    order.set_epoch(2)
    whole = [pair.tolist() for pair in order]
    order.start = 7
    assert [pair.tolist() for pair in order] == whole[7:]


def test_windows_hold_the_steps_of_the_streams() -> None:
    streams = train_streams(np.arange(1000) % 50, 4, 0)
    windows = StreamWindows(streams, 35)
    order = RandomWindows(streams.steps, 35)
    inputs, targets = streams.window(0, streams.steps)
    batches = [windows[index] for index in order]
    assert torch.equal(torch.cat([b.inputs for b in batches]), inputs)
    assert torch.equal(torch.cat([b.targets for b in batches]), targets)
    assert batches[0].reset.all()
    assert not any(b.reset.any() for b in batches[1:])


def test_windows_too_short_to_be_random_are_refused() -> None:
    with pytest.raises(DataError, match=r"data\.window=9: random windows need at least 10 steps"):
        TextDataModule("stdlib", window=9, random_window=True)


def test_lengths_lie_around_the_window_and_sometimes_around_its_half() -> None:
    order = RandomWindows(200_000, 70)
    lengths = np.array([int(np.diff(pair.reshape(-1))[0]) for pair in order])
    short = lengths < 50
    assert 0.03 < short.mean() < 0.07
    assert lengths[~short].mean() == pytest.approx(69.5, abs=0.5)
    assert lengths[~short].std() == pytest.approx(5.0, abs=0.3)
