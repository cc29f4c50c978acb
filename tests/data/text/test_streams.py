"""Cutting tokens into streams: every position is scored exactly once, whatever the windows, streams or processes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelab.data.messages import DataError
from gatelab.data.specs import IGNORE
from gatelab.data.text.streams import Streams, StreamWindows, eval_streams, train_streams

SEED_TOKEN = 0


def positions(n: int) -> np.ndarray:
    """Tokens that say where they stand: token i is i + 1, so the seed token 0 is none of them."""
    return np.arange(1, n + 1)


def whole(streams: Streams) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets [L, B] of all steps."""
    return streams.window(0, streams.steps)


def scored_by(streams: Streams, window: int | None, world_size: int) -> list[int]:
    """All scored targets of all ranks; checks on the way that each target follows its input."""
    found: list[int] = []
    for rank in range(world_size):
        windows = StreamWindows(streams, window, rank=rank, world_size=world_size)
        for k in range(len(windows)):
            batch = windows[k]
            assert batch.inputs.dtype == batch.targets.dtype == torch.int64
            assert batch.inputs.shape == batch.targets.shape
            assert batch.reset.tolist() == [k == 0] * batch.inputs.shape[1]
            scored = batch.targets != IGNORE
            assert torch.equal(batch.targets[scored], batch.inputs[scored] + 1)
            found += batch.targets[scored].tolist()
    return found


@given(
    n=st.integers(1, 400),
    streams=st.integers(1, 12),
    burn_in=st.integers(0, 60),
    window=st.one_of(st.none(), st.integers(1, 50)),
    world_size=st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_evaluation_scores_every_position_once(n, streams, burn_in, window, world_size):
    streams *= world_size
    if n < world_size:
        with pytest.raises(DataError, match="fewer devices"):
            eval_streams(positions(n), streams, burn_in, SEED_TOKEN, world_size)
        return
    cut = eval_streams(positions(n), streams, burn_in, SEED_TOKEN, world_size)
    assert sorted(scored_by(cut, window, world_size)) == list(range(1, n + 1))


@given(
    n=st.integers(1, 400),
    streams=st.integers(1, 12),
    window=st.integers(1, 50),
    world_size=st.integers(1, 3),
)
@settings(max_examples=100, deadline=None)
def test_training_scores_every_position_once(n, streams, window, world_size):
    streams *= world_size
    if n < streams:
        with pytest.raises(DataError, match="batch_size"):
            train_streams(positions(n), streams, SEED_TOKEN)
        return
    cut = train_streams(positions(n), streams, SEED_TOKEN)
    assert sorted(scored_by(cut, window, world_size)) == list(range(1, n + 1))
    lengths = (whole(cut)[1] != IGNORE).sum(0)
    assert int(lengths.max() - lengths.min()) <= 1


@given(
    n=st.integers(100, 600), streams=st.integers(2, 9), burn_in=st.integers(0, 50), window=st.integers(1, 40)
)
@settings(max_examples=80, deadline=None)
def test_neighbouring_streams_meet_at_the_same_token(n, streams, burn_in, window):
    cut = eval_streams(positions(n), streams, burn_in, SEED_TOKEN)
    targets = whole(cut)[1]
    assert targets.shape[1] == streams
    assert burn_in <= cut.burn_in < burn_in + streams
    # what stream i has read when its burn-in ends is what stream i - 1 has read at its end
    next_after_burn_in = targets[cut.burn_in] if cut.burn_in else targets[0]
    assert torch.equal(next_after_burn_in[1:], targets[-1, :-1] + 1)
    # a window ends exactly there, so both states are ones that a task carries
    assert cut.burn_in in StreamWindows(cut, window).cuts


def test_a_short_corpus_is_one_stream_without_burn_in():
    cut = eval_streams(positions(50), 10, 1000, SEED_TOKEN)
    assert whole(cut)[0].shape == (50, 1)
    assert cut.burn_in == 0


def test_streams_begin_with_the_seed_token_or_the_token_before():
    cut = train_streams(positions(10), 2, SEED_TOKEN)
    inputs, targets = whole(cut)
    assert inputs[0].tolist() == [SEED_TOKEN, 5]
    assert targets[0].tolist() == [1, 6]


def test_padding_is_a_valid_token_that_is_not_scored():
    cut = train_streams(positions(5), 2, SEED_TOKEN)
    inputs, targets = whole(cut)
    assert inputs[-1].tolist() == [2, SEED_TOKEN]
    assert targets[-1].tolist() == [3, IGNORE]


def test_windows_can_be_asked_for_by_number_or_array():
    windows = StreamWindows(train_streams(positions(20), 2, SEED_TOKEN), 3)
    assert torch.equal(windows[2].inputs, windows[np.array([2])].inputs)
    with pytest.raises(IndexError):
        windows[len(windows)]


@given(
    n=st.integers(10, 300),
    streams=st.integers(1, 6),
    window=st.integers(1, 40),
    world_size=st.integers(1, 3),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_nothing_crosses_a_boundary_and_every_position_is_scored_once(n, streams, window, world_size, data):
    streams = min(streams * world_size, n // world_size * world_size)
    boundary = data.draw(st.integers(1, n - 1))
    cut = train_streams(positions(n), streams, SEED_TOKEN, (boundary,))
    scored = []
    for rank in range(world_size):
        windows = StreamWindows(cut, window, rank=rank, world_size=world_size)
        memory = [[] for _ in range(streams // world_size)]  # what a state can know: tokens since its reset
        for batch in (windows[k] for k in range(len(windows))):
            for column, reset in enumerate(batch.reset.tolist()):
                if reset:
                    memory[column] = []
                for read, target in zip(batch.inputs[:, column], batch.targets[:, column], strict=True):
                    memory[column].append(int(read))
                    if int(target) != IGNORE:
                        scored.append(int(target))
                        before = [token for token in memory[column] if token != SEED_TOKEN]
                        assert all((token <= boundary) == (int(target) <= boundary) for token in before)
                        # and on either side it is the text in order: each token after the one before it
                        assert int(read) in (int(target) - 1, SEED_TOKEN)
                        assert (int(read) == SEED_TOKEN) == (int(target) in (1, boundary + 1))
    assert sorted(scored) == list(range(1, n + 1))


@given(
    n=st.integers(1, 400), streams=st.integers(1, 12), burn_in=st.integers(0, 60), window=st.integers(1, 50)
)
@settings(max_examples=60, deadline=None)
def test_without_a_boundary_windows_end_only_where_they_are_full_or_the_burn_in_is(
    n, streams, burn_in, window
):
    cut = eval_streams(positions(n), streams, burn_in, SEED_TOKEN)
    steps, burn = cut.steps, cut.burn_in
    assert StreamWindows(cut, window).cuts.tolist() == [
        *range(0, burn, window),
        *range(burn, steps, window),
        steps,
    ]
    assert cut.resets == ()


def test_a_boundary_inside_a_stream_ends_a_window_and_resets_that_stream_alone():
    windows = StreamWindows(train_streams(positions(20), 2, SEED_TOKEN, (14,)), 3)
    assert windows.cuts.tolist() == [0, 3, 4, 7, 10]
    assert [windows[k].reset.tolist() for k in range(4)] == [
        [True, True],
        [False, False],
        [False, True],
        [False, False],
    ]
    assert windows[2].inputs[0].tolist() == [4, SEED_TOKEN]
    assert windows[2].targets[0].tolist() == [5, 15]


def test_a_boundary_between_two_streams_needs_no_window_of_its_own():
    windows = StreamWindows(train_streams(positions(20), 2, SEED_TOKEN, (10,)), 3)
    assert windows.cuts.tolist() == [0, 3, 6, 9, 10]
    assert windows[0].inputs[0].tolist() == [SEED_TOKEN, SEED_TOKEN]


def test_very_many_streams_are_cut_down_at_once():
    for streams in (10**6, 10**12):
        cut = eval_streams(positions(50), streams, 20, SEED_TOKEN)
        assert (cut.starts == eval_streams(positions(50), 30, 20, SEED_TOKEN).starts).all()
