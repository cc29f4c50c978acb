"""Trivial forecasts of a panel, over exactly the windows that models are scored on.

They see what is known before the window, and nothing is trained by steps:

    repeat last:    y[t+h] = the last measured value before t
    seasonal naive: y[t+h] = the value at the same place of the last whole season before t (a missing one: the last
                    measured value before it; before the series: its first row)
    drift:          y[t+h] = last + (h+1) (last - first) / (steps from the first measured value to the last)
    linear:         per target, y - last = (x - last) W on the look-back x of scaled values (0 where nothing was
                    measured), one W by ridge regression for all series; at most 65,536 training windows, evenly spaced

Their quantiles are the forecast plus the quantiles of its errors on training windows, per horizon step and target, of
all series together on the scale of each (`gatelab.data.series.scores`; at most 2,048 windows, evenly spaced).

Dimensions: `N` rows, `K` targets, `P` horizon, `Lb` look-back, `n` windows, `Q` levels.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from gatelab.data.panel.rows import last_true, series_of
from gatelab.data.panel.windows import PanelArrays, Windows
from gatelab.data.series.baselines import CHUNK, Forecast, RidgeForecast, Truth, evenly, scored_baselines

_FITTED: Final = 65_536
"""Training windows of the linear forecast."""


def panel_baselines(
    arrays: PanelArrays,
    windows: Mapping[str, Windows],
    split: str,
    horizon: int,
    season: int,
    linear: "PanelLinear",
) -> dict[str, dict[str, float]]:
    """Return the metrics of the four forecasts over the windows of a split; the linear one's ridge and weights too."""
    models = trivial_forecasts(arrays, horizon, season, linear)
    parts = list(chunks(windows[split]))
    return scored_baselines(models, thinned(windows["train"]), parts, panel_truth(arrays, horizon))


def trivial_forecasts(
    arrays: PanelArrays, horizon: int, season: int, linear: "PanelLinear"
) -> dict[str, Forecast]:
    """Return the four forecasts by name."""
    values, filled, last = arrays.values[:, : arrays.targets], linear.filled, linear.last
    first = _first_measured(arrays)
    ahead = np.arange(horizon)

    def repeat_last(part: Windows) -> np.ndarray:
        return np.repeat(filled[part.origin - 1][:, None], horizon, axis=1)

    def seasonal_naive(part: Windows) -> np.ndarray:
        rows = part.origin[:, None] - season + ahead % season
        return filled[np.maximum(rows, arrays.starts[part.series][:, None])]

    def drift(part: Windows) -> np.ndarray:
        end, begin = last[part.origin - 1], first[part.series]
        steps = np.maximum(end - begin, 1)
        rise = (filled[part.origin - 1] - np.take_along_axis(values, begin, axis=0)) / steps
        rise[end <= begin] = 0.0  # nothing measured yet, or one value
        return filled[part.origin - 1][:, None] + (ahead[None, :, None] + 1) * rise[:, None]

    return {"repeat_last": repeat_last, "seasonal_naive": seasonal_naive, "drift": drift, "linear": linear}


class PanelLinear(RidgeForecast):
    """Of a panel: relative to the last measured value, one for all series.

    filled: `[N, K]`, the last measured value up to each row, 0 before there is one; last: its row, -1 likewise.
    """

    def __init__(self, arrays: PanelArrays, lookback: int, horizon: int) -> None:
        super().__init__(arrays.targets, lookback, horizon)
        self.arrays = arrays
        values = arrays.values[:, : arrays.targets]
        self.last = _last_measured(arrays)
        taken = np.take_along_axis(values, self.last.clip(min=0), axis=0)
        self.filled = np.where(self.last >= 0, taken, np.float32(0))

    def known(self, target: int, part: Windows) -> Iterator[Windows]:
        """Yield the whole ones of at most 65,536 windows."""
        for chunk in chunks(thinned(part, _FITTED)):
            if self.arrays.measured is None:
                yield chunk
            else:
                ahead = chunk.origin[:, None] + np.arange(self.horizon)
                yield chunk.keep(self.arrays.measured[ahead, target].all(axis=1))

    def past(self, target: int, part: Windows) -> tuple[np.ndarray, np.ndarray]:
        """Return the look-back, 0 where nothing was measured, and the last measured value."""
        rows = part.origin[:, None] + np.arange(-self.lookback, 0)
        starts = self.arrays.starts[part.series][:, None]
        there = rows >= starts
        rows = np.maximum(rows, starts)
        if self.arrays.measured is not None:
            there &= self.arrays.measured[rows, target]
        last = self.filled[part.origin - 1, target].astype(np.float64)[:, None]
        return np.where(there, self.arrays.values[rows, target] - last, 0.0), last

    def future(self, target: int, part: Windows) -> np.ndarray:
        """Return the truth."""
        return self.arrays.values[part.origin[:, None] + np.arange(self.horizon), target]


def thinned(windows: Windows, most: int = CHUNK) -> Windows:
    """Return at most so many of the windows, evenly spaced."""
    return windows.keep(evenly(len(windows.origin), most))


def chunks(windows: Windows) -> Iterator[Windows]:
    """Yield the windows some at a time."""
    for start in range(0, len(windows.origin), CHUNK):
        yield windows.keep(np.s_[start : start + CHUNK])


def panel_truth(arrays: PanelArrays, horizon: int) -> Callable[[Windows], Truth]:
    """Return what forecasts of windows are scored by."""
    scales = arrays.level, arrays.spread, arrays.mase_scale

    def truth(part: Windows) -> Truth:
        rows = part.origin[:, None] + np.arange(horizon)
        values = arrays.values[rows, : arrays.targets].astype(np.float64)
        scored = (
            np.ones(values.shape, bool)
            if arrays.measured is None
            else arrays.measured[rows, : arrays.targets]
        )
        level, spread, season = (table[part.series][:, None] for table in scales)
        return Truth(values, scored, (level, spread, season))

    return truth


def panel_mase_scale(values: np.ndarray, starts: np.ndarray, season: int) -> np.ndarray:
    """Return each series' mean absolute seasonal difference `[S, K]` of rows `[n, K]` (Hyndman & Koehler, 2006).

    0, which leaves the series out of MASE, where no two measured values lie a season apart, or all such are equal.
    """
    found = np.zeros((len(starts) - 1, values.shape[1]))
    if len(values) <= season:
        return found
    series = series_of(starts)
    inside = series[season:] == series[:-season]
    difference = np.abs(values[season:] - values[:-season])
    difference[~inside] = np.nan
    there = ~np.isnan(difference)
    for k in range(values.shape[1]):
        part = series[season:][there[:, k]]
        weight = difference[there[:, k], k]
        count = np.bincount(part, minlength=len(found))
        found[:, k] = np.bincount(part, weight, minlength=len(found)) / count.clip(min=1)
    return found


def _last_measured(arrays: PanelArrays) -> np.ndarray:
    """For each row and target `[N, K]` the last row up to it that was measured; -1 before there is one."""
    rows = len(arrays.values)
    if arrays.measured is None:
        return np.repeat(np.arange(rows)[:, None], arrays.targets, axis=1)
    columns = [last_true(arrays.measured[:, k], arrays.starts) for k in range(arrays.targets)]
    return np.stack(columns, axis=1)


def _first_measured(arrays: PanelArrays) -> np.ndarray:
    """The first measured row of each series `[S, K]`; its last row where none was."""
    if arrays.measured is None:
        return np.repeat(arrays.starts[:-1, None], arrays.targets, axis=1)
    ends = arrays.starts[1:] - 1
    first = np.repeat(ends[:, None], arrays.targets, axis=1)
    for k in range(arrays.targets):
        rows = np.flatnonzero(arrays.measured[:, k])
        np.minimum.at(first[:, k], series_of(arrays.starts)[rows], rows)
    return first
