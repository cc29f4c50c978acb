"""Windows over the series of a panel, without copying any, and the protocol: what trains, what is scored.

The last steps of every series are tested: windows of `horizon` steps whose futures begin `step` apart, the last one at
the end of the series. The windows before those validate; every window whose future ends before them trains. A look-back
that begins before its series does is padded with zeros, and `observed` says so.

Dimensions: `N` rows, `S` series, `C` channels, `K` targets, `Lb` look-back, `P` horizon, `n` windows, `B` of a batch.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gatelab.data.panel.features import Encoded
from gatelab.data.panel.rows import quantiles, ranges, series_of, sums
from gatelab.data.specs import SeriesBatch

Scaling = Literal["standard", "mean_absolute", "robust", "none"]


class Windows(NamedTuple):
    """The windows of a split: `series [n]`, and `origin [n]`, the row of the first future step."""

    series: np.ndarray
    origin: np.ndarray

    def keep(self, where: np.ndarray | slice) -> "Windows":
        """Return those at which `where` `[n]` is true, or of which it has the places."""
        return Windows(self.series[where], self.origin[where])


@dataclass(frozen=True)
class Protocol:
    """Steps and numbers of windows that cut each series.

    min_past: rows that a training window needs before its future (None: a whole look-back, or of a series too short for
        one, all that it has). held_back: rows between the validation and the test split, which an earlier fold of a
        cross-validation leaves out.
    """

    lookback: int
    horizon: int
    step: int
    valid_windows: int
    test_windows: int
    min_past: int | None = None
    held_back: int = 0

    @property
    def valid_rows(self) -> int:
        """Rows of the validation futures of a series."""
        return self.horizon + (self.valid_windows - 1) * self.step

    @property
    def test_rows(self) -> int:
        """Rows of the test futures of a series."""
        return self.horizon + (self.test_windows - 1) * self.step

    def train_rows(self, lengths: np.ndarray) -> np.ndarray:
        """Return the rows `[S]` at the beginning of each series that train."""
        return (lengths - self.test_rows - self.held_back - self.valid_rows).clip(min=0)

    def windows(self, starts: np.ndarray) -> dict[str, Windows]:
        """Return the windows of each split, in order of series and time."""
        lengths = np.diff(starts)
        train_end = self.train_rows(lengths)
        last = train_end - self.horizon
        first = (
            np.minimum(self.lookback, last) if self.min_past is None else np.full(len(lengths), self.min_past)
        )
        first = first.clip(min=1)
        count = (last - first + 1).clip(min=0)
        found = {
            "train": Windows(np.repeat(np.arange(len(lengths)), count), ranges(starts[:-1] + first, count))
        }
        scored = np.where(train_end > 0, 1, 0)
        for split, number, back in (
            ("valid", self.valid_windows, self.test_rows + self.held_back + self.valid_rows),
            ("test", self.test_windows, self.test_rows),
        ):
            count = scored * number
            found[split] = Windows(
                np.repeat(np.arange(len(lengths)), count), ranges(starts[1:] - back, count, self.step)
            )
        return found


@dataclass(frozen=True)
class PanelScaler:
    """Level and spread `[S, C]` of each series: value = scaled * spread + level."""

    level: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, kind: Scaling, values: np.ndarray, starts: np.ndarray) -> "PanelScaler":
        """Fit on the training rows `[n, C]`, nan where missing; a spread of 0 becomes 1, as does that of no rows.

        standard: mean and population standard deviation. mean_absolute: 0 and the mean of |x| (as DeepAR scales,
        Salinas et al. 2020, arXiv:1704.04110). robust: median and the distance of the quartiles, or the standard
        deviation where that is 0. none: 0 and 1.
        """
        there = ~np.isnan(values)
        count = sums(there.astype(np.float64), starts).clip(min=1)
        level, spread = np.zeros_like(count), np.ones_like(count)
        series = series_of(starts)
        filled = np.where(there, values, 0.0)
        if kind == "mean_absolute":
            spread = sums(np.abs(filled), starts) / count
        elif kind in ("standard", "robust"):
            mean = sums(filled, starts) / count
            deviation = np.where(there, values - mean[series], 0.0)
            level, spread = mean, np.sqrt(sums(np.square(deviation), starts) / count)
            spread[spread < 1e-7 * np.abs(mean)] = 0.0  # of a constant, rounding leaves a tiny one
            if kind == "robust":
                found = [quantiles(column, starts, (0.25, 0.5, 0.75)) for column in values.T]
                low, middle, high = (np.stack([one[:, k] for one in found], axis=1) for k in range(3))
                level = np.nan_to_num(middle)
                spread = np.where(high > low, high - low, spread)
        return cls(level, np.where(spread > 0, spread, 1.0))

    def transform(self, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return the rows `[N, C]` of all series scaled, float32, 0 where missing."""
        series = series_of(starts)
        scaled = np.empty(values.shape, np.float32)
        for place, column in enumerate(values.T):
            scaled[:, place] = (column - self.level[series, place]) / self.spread[series, place]
        return np.nan_to_num(scaled, copy=False, posinf=np.inf, neginf=-np.inf)


class PanelArrays(NamedTuple):
    """What windows are cut from; see panel.py and features.py.

    values: `[N, C]` float32, scaled. measured: `[N, C]` bool; None: everything was. place: `[S]`, the time of each
    series' first row. level, spread, mase_scale: `[S, K]`. targets: `K`, the first of the channels.
    """

    starts: np.ndarray
    values: np.ndarray
    measured: np.ndarray | None
    covariates: Encoded
    place: np.ndarray
    level: np.ndarray
    spread: np.ndarray
    mase_scale: np.ndarray
    targets: int


class PanelWindows(Dataset):
    """Windows of one split; an array of item numbers gives one `SeriesBatch` in a handful of operations.

    A plain number k gives the k-th batch of `batch_size` windows (Lightning asks so when it overfits).
    """

    def __init__(
        self,
        arrays: PanelArrays,
        windows: Windows,
        lookback: int,
        horizon: int,
        batch_size: int,
        *,
        padded: bool,
    ) -> None:
        """`padded`: whether any window of any split begins before its series does."""
        self.series, self.origin = torch.from_numpy(windows.series), torch.from_numpy(windows.origin)
        self.starts = torch.from_numpy(arrays.starts)
        self.place = torch.from_numpy(arrays.place)
        self.values, self.padded = torch.from_numpy(arrays.values), padded
        self.targets = self.values[:, : arrays.targets]
        self.measured = None if arrays.measured is None else torch.from_numpy(arrays.measured)
        self.covariates = [torch.from_numpy(part) for part in arrays.covariates]
        self.any_known = any(part.shape[1] for part in self.covariates[:4])
        scales = np.concatenate([arrays.level, arrays.spread, arrays.mase_scale], axis=1)
        self.scales = torch.from_numpy(scales.astype(np.float32))
        self.lookback, self.batch_size = lookback, batch_size
        self.before, self.after = torch.arange(-lookback, 0), torch.arange(horizon)

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, index: int | np.ndarray) -> SeriesBatch:
        if isinstance(index, np.ndarray):
            chosen = torch.from_numpy(index)
            series, origin = self.series[chosen], self.origin[chosen]
        else:
            part = slice(index * self.batch_size, (index + 1) * self.batch_size)
            series, origin = self.series[part], self.origin[part]
        rows, ahead = origin[:, None] + self.before, origin[:, None] + self.after
        starts = self.starts[series][:, None] if self.padded or self.any_known else None
        outside = None
        if self.padded and starts is not None:
            outside = rows < starts
            rows = torch.where(outside, starts, rows)
        past = self.values[rows]
        observed = None if self.measured is None else self.measured[rows]
        if outside is not None:
            inside = ~outside[..., None]
            past = past * inside
            observed = inside.expand(past.shape) if observed is None else observed & inside
        known = codes = None
        if self.any_known and starts is not None:
            known, codes = self._known(series, torch.cat([rows, ahead], dim=1), starts, outside)
        static, static_codes = self.covariates[4:]
        level, spread, mase_scale = self.scales[series].chunk(3, dim=1)
        return SeriesBatch(
            past,
            self.targets[ahead],
            None if self.measured is None else self.measured[ahead, : self.targets.shape[1]],
            observed,
            known,
            codes,
            static[series] if static.shape[1] else None,
            static_codes[series].long() if static_codes.shape[1] else None,
            level,
            spread,
            mase_scale,
            series,
        )

    def _known(
        self, series: Tensor, rows: Tensor, starts: Tensor, outside: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Numbers `[B, Lb + P, F]` and codes `[B, Lb + P, G]` of the windows; 0 before a series begins."""
        of_rows, row_codes, of_times, time_codes = self.covariates[:4]
        times = self.place[series][:, None] + (rows - starts)

        def both(first: Tensor, second: Tensor) -> Tensor | None:
            parts = [table[at] for table, at in ((first, rows), (second, times)) if table.shape[1]]
            if not parts:
                return None
            joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
            if outside is not None:
                joined[:, : self.lookback].masked_fill_(outside[..., None], 0)
            return joined

        known, codes = both(of_rows, of_times), both(row_codes, time_codes)
        return known, codes if codes is None else codes.long()
