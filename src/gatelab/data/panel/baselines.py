"""Trivial forecasts of a panel, over exactly the windows that models are scored on.

They see what is known before the window, and nothing is trained by steps:

    repeat last:    y[t+h] = the last measured value before t
    seasonal naive: y[t+h] = the value at the same place of the last whole season before t (a missing one: the last
                    measured value before it; before the series: its first row)
    drift:          y[t+h] = last + (h+1) (last - first) / (steps from the first measured value to the last)
    linear:         per target, y - last = (x - last) W on the look-back x of scaled values (0 where nothing was
                    measured), one W by ridge regression for all series; at most 65,536 training windows, evenly spaced

Their quantiles are the forecast plus the quantiles of its errors on training windows, per horizon step and target, of
all series together on the scale of each (`gatelab.data.series.intervals`; at most 2,048 windows, evenly spaced).

mse and mae are on scaled values, the others in original units. All are sums over what was measured and one division;
mase and sql divide each error by its own series' scale.

Dimensions: `N` rows, `K` targets, `P` horizon, `Lb` look-back, `n` windows, `Q` levels.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
import torch

from gatelab.data.panel.rows import last_true, series_of
from gatelab.data.panel.windows import PanelArrays, Windows
from gatelab.data.series.baselines import Normal, best_ridge
from gatelab.data.series.intervals import error_quantiles
from gatelab.data.series.quantile_scores import SCORED_LEVELS, magnitude, quantile_fractions, quantile_sums

_CHUNK: Final = 2048
"""Windows handled at once, and those whose errors make the quantiles."""
_FITTED: Final = 65_536
"""Training windows of the linear forecast."""

Forecast = Callable[[Windows], np.ndarray]
"""Windows `[n]` -> forecasts `[n, P, K]`, scaled."""


def panel_baselines(
    arrays: PanelArrays,
    windows: Mapping[str, Windows],
    split: str,
    horizon: int,
    season: int,
    linear: "PanelLinear",
) -> dict[str, dict[str, float]]:
    """Return the metrics of the four forecasts over the windows of a split; the linear one's ridge and weights too."""
    found = {}
    for name, forecast in trivial_forecasts(arrays, horizon, season, linear).items():
        errors = training_errors(forecast, arrays, windows["train"], horizon)
        found[name] = panel_metrics(forecast, arrays, windows[split], horizon, errors)
    found["linear"] |= {"ridge": linear.ridge, "parameters": sum(w.size for w in linear.weights)}
    return found


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


class PanelLinear:
    """One ridge regression per target, look-back -> horizon, relative to the last measured value; shared by all series.

    filled: `[N, K]`, the last measured value up to each row, 0 before there is one; last: its row, -1 likewise.
    """

    def __init__(self, arrays: PanelArrays, lookback: int, horizon: int) -> None:
        self.arrays, self.lookback, self.horizon = arrays, lookback, horizon
        values = arrays.values[:, : arrays.targets]
        self.last = _last_measured(arrays)
        taken = np.take_along_axis(values, self.last.clip(min=0), axis=0)
        self.filled = np.where(self.last >= 0, taken, np.float32(0))
        self.weights = [np.zeros((lookback, horizon)) for _ in range(arrays.targets)]
        self.ridge = 0.0

    def fit(self, train: Windows, valid: Windows) -> "PanelLinear":
        """Solve on training windows; keep the ridge strength with the least error on the validation windows."""
        targets = range(self.arrays.targets)
        of_train, of_valid = (
            [self._normal(k, evenly(part, _FITTED)) for k in targets] for part in (train, valid)
        )
        self.ridge, self.weights = best_ridge(of_train, of_valid)
        return self

    def __call__(self, part: Windows) -> np.ndarray:
        """Return forecasts `[n, P, K]`."""
        found = []
        for k, weights in enumerate(self.weights):
            past, last = self._past(k, part)
            found.append(past @ weights + last)
        return np.stack(found, axis=2)

    def _past(self, target: int, part: Windows) -> tuple[np.ndarray, np.ndarray]:
        """The look-back `[n, Lb]` relative to the last measured value `[n, 1]`; the last step is the intercept's 1."""
        rows = part.origin[:, None] + np.arange(-self.lookback, 0)
        starts = self.arrays.starts[part.series][:, None]
        there = rows >= starts
        rows = np.maximum(rows, starts)
        if self.arrays.measured is not None:
            there &= self.arrays.measured[rows, target]
        last = self.filled[part.origin - 1, target].astype(np.float64)[:, None]
        past = np.where(there, self.arrays.values[rows, target] - last, 0.0)
        past[:, -1] = 1.0
        return past, last

    def _normal(self, target: int, windows: Windows) -> Normal:
        gram, moment = np.zeros((self.lookback, self.lookback)), np.zeros((self.lookback, self.horizon))
        square, count, ahead = 0.0, 0, np.arange(self.horizon)
        for part in chunks(windows):
            if self.arrays.measured is not None:
                part = part.keep(self.arrays.measured[part.origin[:, None] + ahead, target].all(axis=1))
            past, last = self._past(target, part)
            future = self.arrays.values[part.origin[:, None] + ahead, target] - last
            gram += past.T @ past
            moment += past.T @ future
            square += float(np.square(future).sum())
            count += len(part.origin)
        return Normal(gram, moment, square, count)


def evenly(windows: Windows, most: int) -> Windows:
    """Return at most so many of the windows, evenly spaced."""
    kept = np.unique(np.linspace(0, len(windows.origin) - 1, most).astype(int))
    return Windows(windows.series[kept], windows.origin[kept])


def chunks(windows: Windows) -> Iterator[Windows]:
    """Yield the windows some at a time."""
    for start in range(0, len(windows.origin), _CHUNK):
        yield Windows(windows.series[start : start + _CHUNK], windows.origin[start : start + _CHUNK])


def training_errors(forecast: Forecast, arrays: PanelArrays, train: Windows, horizon: int) -> np.ndarray:
    """Return the quantiles `[Q, P, K]` of a forecast's errors on training windows, at `SCORED_LEVELS`."""
    kept = evenly(train, _CHUNK)
    truth, scored = _future(arrays, kept, horizon)
    return error_quantiles(np.where(scored, truth - forecast(kept), np.nan), SCORED_LEVELS)


def _future(arrays: PanelArrays, part: Windows, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """The truths `[n, P, K]` of windows in float64, and which of them were measured."""
    rows = part.origin[:, None] + np.arange(horizon)
    truth = arrays.values[rows, : arrays.targets].astype(np.float64)
    if arrays.measured is None:
        return truth, np.ones(truth.shape, bool)
    return truth, arrays.measured[rows, : arrays.targets]


def panel_metrics(
    forecast: Forecast, arrays: PanelArrays, windows: Windows, horizon: int, errors: np.ndarray
) -> dict[str, float]:
    """Return the metrics of a forecast over the windows; `filled` is the share of missing targets in percent.

    errors: `[Q, P, K]`, what `training_errors` returned; they make the quantiles (quantile_scores.py).
    """
    names = ("mse", "mae", "mse_original", "mae_original", "smape", "mase")
    total, count, scaled_count, size_of_truth = dict.fromkeys(names, 0.0), 0, 0, 0.0
    shifts = dict(zip(SCORED_LEVELS, torch.from_numpy(errors), strict=True))
    sums: dict[str, torch.Tensor] = {}
    for part in chunks(windows):
        truth, scored = _future(arrays, part, horizon)
        guess = forecast(part).astype(np.float64)
        scales = [table[part.series][:, None] for table in (arrays.level, arrays.spread, arrays.mase_scale)]
        level, spread, scale = scales
        error = np.where(scored, guess - truth, 0.0)
        original = np.where(scored, magnitude(truth, spread, level), 0.0)
        size = original + magnitude(guess, spread, level)
        total["mse"] += float(np.square(error).sum())
        total["mae"] += float(np.abs(error).sum())
        total["mse_original"] += float(np.square(error * spread).sum())
        total["mae_original"] += float(np.abs(error * spread).sum())
        total["smape"] += float((200 * np.abs(error * spread) / np.where(size > 0, size, 1.0)).sum())
        defined = scored & (scale > 0)
        total["mase"] += float((np.abs(error * spread) / np.where(scale > 0, scale, np.inf)).sum())
        count, scaled_count = count + int(scored.sum()), scaled_count + int(defined.sum())
        size_of_truth += float(original.sum())
        given = torch.from_numpy(guess)
        new = quantile_sums(
            lambda at, given=given: given + shifts[at],  # type: ignore[misc]
            torch.from_numpy(truth),
            torch.from_numpy(scored),
            tuple(map(torch.from_numpy, scales)),  # type: ignore[arg-type]
            SCORED_LEVELS,
        )
        sums = {name: sums[name] + value if sums else value for name, value in new.items()}
    whole = len(windows.origin) * horizon * arrays.targets
    found = {name: total[name] / count for name in names[:-1]}
    if scaled_count:
        found["mase"] = total["mase"] / scaled_count
    if size_of_truth:
        found["nd"] = total["mae_original"] / size_of_truth
    found["windows"] = len(windows.origin)
    fractions = quantile_fractions(sums, SCORED_LEVELS).items()
    found |= {name: float(top.sum() / below.sum()) for name, (top, below) in fractions}
    return found | ({"filled": 100 * (1 - count / whole)} if count < whole else {})


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
