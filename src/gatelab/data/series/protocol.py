"""Series as arrays, and the forecasting protocol: borders of the splits, standardisation, windows.

The protocol is the common one made exact: the scaler sees the training rows only; a window belongs to the
split that holds its future, its look-back may reach into the split before; every window of a split is scored
(2,785 for ETTh1's test split at horizon 96, whatever the look-back). table.py and sources.py read the files.

Dimensions: `N` rows, `C` channels, `K` target channels, `Lb` look-back, `P` horizon, `B` windows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import torch
from torch.utils.data import Dataset

from gatelab.data.messages import DataError
from gatelab.data.specs import SeriesBatch

_SEASONS: Final = {"D": 7, "B": 5, "W": 52, "QS": 4, "QE": 4, "BQS": 4, "BQE": 4, "SMS": 24, "SME": 24}
_MONTHLY: Final = r"(\d*)(?:MS|ME|BMS|BME|WOM|LWOM)(?:-.*)?"
_MINUTES: Final = {"min": 1, "h": 60}


def default_season(frequency: str) -> int:
    """Return the steps of the season that is meant when none is given: a day, week or year; 1 if unclear."""
    if match := re.fullmatch(r"(\d*)(min|h)", frequency):
        minutes = int(match[1] or 1) * _MINUTES[match[2]]
        return 1440 // minutes if 1440 % minutes == 0 else 1
    if match := re.fullmatch(_MONTHLY, frequency):
        months = int(match[1] or 1)
        return 12 // months if 12 % months == 0 else 1
    return _SEASONS.get(frequency.partition("-")[0], 1)


def check_step(frequency: str | None, time: str | None) -> None:
    """Raise `DataError` for a step `data.frequency` that is none, or that has no column of times."""
    if frequency is None:
        return
    from gatelab.data.series.calendar import check_frequency

    check_frequency(frequency)
    if time is None:
        raise DataError(
            f"data.frequency={frequency} is the step of times: give their column, data.time=COLUMN; without times, "
            "data.season=STEPS says the season"
        )


@dataclass
class Series:
    """`N` rows of `C` channels in order of time, without gaps.

    values: `[N, C]` float64; channels: their names; frequency: pandas offset or ""; times: `[N]` datetime64
        or None.
    borders: ends of train, valid (and test) in rows if the data set prescribes them, else None.
    zone: of the stamps in the file, whose times are then UTC ("Europe/Paris", "+01:00"); "" if they have none.
    filled: `[N, C]` bool, True where a value was carried forward, not measured; None: nowhere.
    wall: `[N]` datetime64, the times as the file writes them, without their offsets from UTC; None: `times` are that.
    """

    values: np.ndarray
    channels: tuple[str, ...]
    frequency: str = ""
    times: np.ndarray | None = None
    borders: tuple[int, ...] | None = None
    fingerprint: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    zone: str = ""
    filled: np.ndarray | None = None
    wall: np.ndarray | None = None

    @property
    def clock(self) -> np.ndarray | None:
        """The times `[N]` of the rows by their own clock; None: they have none."""
        return self.times if self.wall is None else self.wall

    @cached_property
    def steps(self) -> np.ndarray | None:
        """The number of each row's time `[N]` by its own clock (`step_numbers`); None without times at equal steps."""
        from gatelab.data.series.steps import counts_steps, step_numbers

        if self.clock is None or not counts_steps(self.frequency):
            return None
        return step_numbers(self.clock, self.frequency)

    def shown_times(self, rows: slice = slice(None)) -> list[str]:
        """Return the times of rows by their own clock, in ISO format to the minute, for a person to read."""
        assert self.clock is not None
        return np.datetime_as_string(self.clock[rows].astype("datetime64[m]")).tolist()


def fraction_borders(rows: int, split: Sequence[float]) -> tuple[int, ...]:
    """Return the ends of the splits for fractions of `rows`: train and test rounded down, valid takes the rest.

    That is the rounding of the published protocols (for 0.7/0.1/0.2 of Exchange's 7,588 rows: 5,311 / 760 /
    1,517).
    """
    train = int(round(rows * split[0], 9))
    if len(split) == 2:
        return train, rows
    return train, rows - int(round(rows * split[2], 9)), rows


@dataclass(frozen=True)
class Scaler:
    """Mean and population standard deviation `[C]` of the training rows."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, train: np.ndarray) -> "Scaler":
        """Fit on rows `[n, C]`; a constant channel gets std 1, so it becomes 0 instead of nan."""
        # not std > 0: the rounded mean of a constant can leave a tiny deviation
        moves = np.ptp(train, axis=0) > 0
        return cls(train.mean(axis=0), np.where(moves, train.std(axis=0), 1.0))

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Standardise `[..., C]`."""
        return (values - self.mean) / self.std


def window_origins(start: int, end: int, lookback: int, horizon: int, split: str) -> np.ndarray:
    """Return the first future row of every window of the split `[start, end)`, in order of time.

    A window's future lies inside the split; its look-back lies before it, in an earlier split if need be.
    Raises `DataError` if there is none, or if the look-back of a later split would begin before the data
    does.
    """
    first = max(start, lookback) if start == 0 else start
    if first < lookback:
        raise DataError(
            f"data.lookback={lookback} is longer than the {start} rows before the {split} split; shorten it"
        )
    if end - first < horizon:
        raise DataError(
            f"the {split} split has {end - start} rows: too few for data.lookback={lookback}, "
            f"data.horizon={horizon}; shorten them or change data.split"
        )
    return np.arange(first, end - horizon + 1)


def measured_windows(origins: np.ndarray, measured: np.ndarray, horizon: int, split: str) -> np.ndarray:
    """Return the windows that have something to score: a measured value (`measured`: `[N, K]`) in their future.

    Raises `DataError` if there is none.
    """
    before = np.concatenate([[0], measured.any(axis=1).cumsum()])
    kept = origins[before[origins + horizon] > before[origins]]
    if not len(kept):
        raise DataError(f"the {split} split has no measured target: all of it was filled; change data.split")
    return kept


def mase_scale(train: np.ndarray, season: int, measured: np.ndarray | None = None) -> np.ndarray:
    """Return the mean absolute seasonal difference `[K]` of training rows `[n, K]` (Hyndman & Koehler, 2006).

    0 where the training rows repeat the season exactly: MASE is undefined there and leaves the channel out.
    measured: `[n, K]` bool, False where a value was filled; differences of such are left out (None: all measured).
    """
    if len(train) <= season:
        raise DataError(
            f"data.season={season} is not shorter than the {len(train)} training rows; give a shorter one"
        )
    differences = np.abs(train[season:] - train[:-season])
    if measured is None:
        return differences.mean(axis=0)
    both = measured[season:] & measured[:-season]
    return (differences * both).sum(axis=0) / np.maximum(both.sum(axis=0), 1)


class SeriesWindows(Dataset):
    """Windows over standardised values; an array of item numbers gives one `SeriesBatch` in one operation.

    A plain number k gives the k-th batch of `batch_size` windows in order of time (Lightning asks so when it
    overfits).
    """

    def __init__(
        self,
        values: np.ndarray,
        target_index: Sequence[int],
        origins: np.ndarray,
        lookback: int,
        horizon: int,
        batch_size: int,
        measured: np.ndarray | None = None,
        steps: np.ndarray | None = None,
    ) -> None:
        """measured: `[N, K]` bool, False where a target was filled; None: nowhere. steps: see `Series`."""
        self.values = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        self.targets = self.values[:, list(target_index)]
        self.measured = None if measured is None else torch.from_numpy(measured)
        self.origins = torch.from_numpy(origins)
        self.before, self.after = torch.arange(-lookback, 0), torch.arange(horizon)
        self.steps = None if steps is None else torch.from_numpy(steps)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, index: int | np.ndarray) -> SeriesBatch:
        if isinstance(index, np.ndarray):
            origins = self.origins[torch.from_numpy(index)]
        else:
            origins = self.origins[index * self.batch_size : (index + 1) * self.batch_size]
        past = self.values[origins[:, None] + self.before]
        future = origins[:, None] + self.after
        return SeriesBatch(
            past,
            self.targets[future],
            None if self.measured is None else self.measured[future],
            start=None if self.steps is None else self.steps[origins - len(self.before)],
        )
