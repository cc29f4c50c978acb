"""The forecasting protocol: borders, windows, a scaler that sees the training rows only, nothing dropped."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatelab.data.base_module import BatchOrder
from gatelab.data.messages import DataError
from gatelab.data.series.protocol import (
    Scaler,
    SeriesWindows,
    default_season,
    fraction_borders,
    mase_scale,
    window_origins,
)


@given(
    start=st.integers(0, 100),
    rows=st.integers(1, 200),
    lookback=st.integers(1, 60),
    horizon=st.integers(1, 60),
)
@settings(max_examples=200, deadline=None)
def test_every_window_of_a_split_is_there_once(start, rows, lookback, horizon):
    first = lookback if start == 0 else start
    if first < lookback or start + rows - first < horizon:
        with pytest.raises(DataError, match=r"data\.lookback"):
            window_origins(start, start + rows, lookback, horizon, "test")
        return
    origins = window_origins(start, start + rows, lookback, horizon, "test")
    expected = [t for t in range(start, start + rows) if t >= lookback and t + horizon <= start + rows]
    assert origins.tolist() == expected


@given(
    windows=st.integers(1, 90),
    lookback=st.integers(1, 8),
    horizon=st.integers(1, 6),
    batch_size=st.integers(1, 40),
    world_size=st.integers(1, 3),
    shuffle=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_windows_reach_a_model_once_and_whole(windows, lookback, horizon, batch_size, world_size, shuffle):
    windows, batch_size = max(windows, world_size), batch_size * world_size
    rows = windows + lookback + horizon - 1
    values = np.stack([np.arange(rows), -np.arange(rows)], axis=1)
    origins = window_origins(0, rows, lookback, horizon, "train")
    dataset = SeriesWindows(values, [1], origins, lookback, horizon, batch_size)
    seen: list[float] = []
    for rank in range(world_size):
        order = BatchOrder(len(origins), batch_size, shuffle=shuffle, rank=rank, world_size=world_size)
        for index in order:
            past, future, *_ = dataset[index]
            assert past.shape == (len(index), lookback, 2)
            assert future.shape == (len(index), horizon, 1)
            assert torch.equal(future[:, 0, 0], -past[:, -1, 0] - 1), (
                "the future begins right after the look-back"
            )
            assert torch.equal(past[:, 1:, 0] - past[:, :-1, 0], torch.ones(len(index), lookback - 1))
            seen += (-future[:, 0, 0]).tolist()
    assert sorted(seen) == origins.tolist()


def test_a_plain_number_is_a_batch_in_order_of_time():
    dataset = SeriesWindows(np.arange(20.0)[:, None], [0], np.arange(4, 18), 4, 2, 5)
    assert dataset[1].future[:, 0, 0].tolist() == [9, 10, 11, 12, 13]


def test_windows_start_at_the_step_of_their_first_row():
    dataset = SeriesWindows(
        np.arange(20.0)[:, None], [0], np.arange(4, 18), 4, 2, 5, steps=np.arange(20) + 100
    )
    batch = dataset[np.array([0, 3])]
    assert batch.start.tolist() == [100, 103]
    assert batch.past[:, 0, 0].tolist() == [0, 3]
    assert SeriesWindows(np.arange(20.0)[:, None], [0], np.arange(4, 18), 4, 2, 5)[0].start is None


def test_scaler_is_the_population_scaler_of_the_training_rows():
    train = np.array([[1.0, 5.0], [3.0, 5.0]])
    scaler = Scaler.fit(train)
    assert scaler.mean.tolist() == [2.0, 5.0]
    assert scaler.std.tolist() == [1.0, 1.0], "a constant channel is centred, not divided by zero"
    assert scaler.transform(train).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert Scaler.fit(np.full((3, 1), 0.1)).std.tolist() == [1.0], "also when its mean is rounded"


@given(rows=st.integers(10, 20_000))
def test_fractions_cover_every_row(rows):
    borders = fraction_borders(rows, [0.7, 0.1, 0.2])
    assert borders[0] <= borders[1] <= borders[2] == rows
    assert (borders[0], rows - borders[1]) == (rows * 7 // 10, rows * 2 // 10)
    assert fraction_borders(rows, [0.5, 0.5]) == (rows // 2, rows)


def test_fractions_round_as_the_published_protocol_does():
    assert fraction_borders(7588, [0.7, 0.1, 0.2]) == (5311, 5311 + 760, 7588)


@pytest.mark.parametrize(
    ("frequency", "season"),
    [
        *[("h", 24), ("15min", 96), ("min", 1440), ("2h", 12), ("7min", 1)],
        *[("D", 7), ("B", 5), ("W", 52), ("MS", 12), ("QE", 4), ("YS", 1), ("", 1)],
        *[
            ("MS-15", 12),
            ("3MS-15", 4),
            ("2ME", 6),
            ("5MS", 1),
            ("WOM-3FRI", 12),
            ("LWOM-FRI", 12),
            ("SMS-15", 24),
        ],
    ],
)
def test_default_season(frequency, season):
    assert default_season(frequency) == season


def test_mase_scale_is_the_mean_absolute_seasonal_difference():
    train = np.array([[0.0], [1.0], [3.0], [2.0]])
    assert mase_scale(train, 2).tolist() == [2.0]
    with pytest.raises(DataError, match=r"data\.season=4"):
        mase_scale(train, 4)
