"""Trivial forecasts of a panel, over exactly the windows that models are scored on.

They see what is known before the window, and nothing is fitted:

    repeat last:    y[t+h] = the last measured value before t
    seasonal naive: y[t+h] = the value at the same place of the last whole season before t (a missing one: the last
                    measured value before it; before the series: its first row)
    drift:          y[t+h] = last + (h+1) (last - first) / (steps from the first measured value to the last)

mse and mae are on scaled values, the others in original units. All are sums over what was measured and one division;
mase divides each error by its own series' scale.

Dimensions: `N` rows, `K` targets, `P` horizon, `n` windows.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from gatelab.data.panel.rows import last_true, series_of
from gatelab.data.panel.windows import PanelArrays, Windows

_CHUNK: Final = 8192
"""Windows handled at once."""

Forecast = Callable[[Windows], np.ndarray]
"""Windows `[n]` -> forecasts `[n, P, K]`, scaled."""


def panel_baselines(
    arrays: PanelArrays, windows: Windows, horizon: int, season: int
) -> dict[str, dict[str, float]]:
    """Return the metrics of the three forecasts over the windows."""
    values = arrays.values[:, : arrays.targets]
    last = _last_measured(arrays)
    filled = np.where(last >= 0, np.take_along_axis(values, last.clip(min=0), axis=0), 0.0)
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

    forecasts: dict[str, Forecast] = {
        "repeat_last": repeat_last,
        "seasonal_naive": seasonal_naive,
        "drift": drift,
    }
    return {name: panel_metrics(forecast, arrays, windows, horizon) for name, forecast in forecasts.items()}


def panel_metrics(
    forecast: Forecast, arrays: PanelArrays, windows: Windows, horizon: int
) -> dict[str, float]:
    """Return the metrics of a forecast over the windows; `filled` is the share of missing targets in percent."""
    names = ("mse", "mae", "mse_original", "mae_original", "smape", "mase")
    total, count, scaled_count = dict.fromkeys(names, 0.0), 0, 0
    for start in range(0, len(windows.origin), _CHUNK):
        part = Windows(windows.series[start : start + _CHUNK], windows.origin[start : start + _CHUNK])
        rows = part.origin[:, None] + np.arange(horizon)
        truth = arrays.values[rows, : arrays.targets].astype(np.float64)
        guess = forecast(part).astype(np.float64)
        scored = np.ones(truth.shape, bool)
        if arrays.measured is not None:
            scored = arrays.measured[rows, : arrays.targets]
        level, spread, scale = (
            table[part.series][:, None] for table in (arrays.level, arrays.spread, arrays.mase_scale)
        )
        error = np.where(scored, guess - truth, 0.0)
        size = np.abs(truth * spread + level) + np.abs(guess * spread + level)
        total["mse"] += float(np.square(error).sum())
        total["mae"] += float(np.abs(error).sum())
        total["mse_original"] += float(np.square(error * spread).sum())
        total["mae_original"] += float(np.abs(error * spread).sum())
        total["smape"] += float((200 * np.abs(error * spread) / np.where(size > 0, size, 1.0)).sum())
        defined = scored & (scale > 0)
        total["mase"] += float((np.abs(error * spread) / np.where(scale > 0, scale, np.inf)).sum())
        count, scaled_count = count + int(scored.sum()), scaled_count + int(defined.sum())
    whole = len(windows.origin) * horizon * arrays.targets
    found = {name: total[name] / count for name in names[:-1]}
    if scaled_count:
        found["mase"] = total["mase"] / scaled_count
    found["windows"] = len(windows.origin)
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
