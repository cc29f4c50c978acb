"""Trivial forecasts: what a reported MSE must be compared with.

They see what a model may see, and nothing is trained by steps.

    repeat-last:    y[t+h] = x[t-1]
    seasonal naive: y[t+h] = the value at the same place of the last whole season before t (it may lie before
        the look-back)
    linear:         per target channel, y - x[t-1] = (x - x[t-1]) W, W by ridge regression on the training
                    windows (normal equations, float64); the ridge strength is the best of a fixed list on the
                    validation split

Scored on exactly the windows that models are scored on; sums of squares and of absolute values, divided once.

Dimensions: `N` rows, `C` channels, `K` targets, `Lb` look-back, `P` horizon, `n` windows.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from gatelab.data.specs import SeriesSpec

_RIDGES: Final = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Ridge strengths tried, per training window and unit variance."""
_CHUNK: Final = 2048
"""Windows handled at once; keeps memory small for a long look-back."""

Forecast = Callable[[np.ndarray], np.ndarray]
"""First future rows `[n]` -> forecasts `[n, P, K]`, standardised."""


def forecast_metrics(
    forecast: Forecast, scaled: np.ndarray, origins: np.ndarray, spec: SeriesSpec
) -> dict[str, float]:
    """Return the metrics of a forecast over the windows that begin at `origins`.

    mse, mae on standardised data; mse_original, mae_original, mase and smape (percent, 200 |e| / (|y| + |f|),
    0 where both are 0) in original units; averages over windows, horizon and targets alike. scaled: `[N, K]`,
    the targets only.
    """
    target = list(spec.target_index)
    mean, std = np.array(spec.mean)[target], np.array(spec.std)[target]
    scale = np.array(spec.mase_scale)
    totals = dict.fromkeys(("mse", "mae", "mse_original", "mae_original", "mase", "smape"), 0.0)
    for chunk in np.array_split(origins, max(1, len(origins) // _CHUNK)):
        truth = scaled[chunk[:, None] + np.arange(spec.horizon)]
        guess = forecast(chunk)
        error = guess - truth
        size = np.abs(truth * std + mean) + np.abs(guess * std + mean)
        totals["mse"] += float(np.square(error).sum())
        totals["mae"] += float(np.abs(error).sum())
        totals["mse_original"] += float(np.square(error * std).sum())
        totals["mae_original"] += float(np.abs(error * std).sum())
        totals["mase"] += float((np.abs(error * std) / scale).sum())
        totals["smape"] += float((200 * np.abs(error * std) / np.where(size > 0, size, 1.0)).sum())
    count = len(origins) * spec.horizon * len(target)
    return {name: total / count for name, total in totals.items()} | {"windows": len(origins)}


def repeat_last(scaled: np.ndarray, horizon: int) -> Forecast:
    """Return the forecast that repeats the last value; `scaled` is `[N, K]`."""
    return lambda origins: np.repeat(scaled[origins - 1][:, None], horizon, axis=1)


def seasonal_naive(scaled: np.ndarray, horizon: int, season: int) -> Forecast:
    """Return the forecast that repeats the last whole season.

    Before the first season is complete, the first row.
    """
    back = season - np.arange(horizon) % season
    return lambda origins: scaled[np.maximum(origins[:, None] - back, 0)]


class LinearForecast:
    """One ridge regression per target channel, look-back -> horizon, relative to the last value.

    The normal equations are accumulated once; every ridge strength is then a small solve.
    """

    def __init__(self, scaled: np.ndarray, lookback: int, horizon: int, train: np.ndarray) -> None:
        self.scaled, self.lookback, self.horizon = scaled, lookback, horizon
        channels = scaled.shape[1]
        self.gram = np.zeros((channels, lookback, lookback))
        self.moment = np.zeros((channels, lookback, horizon))
        self.windows = len(train)
        self.weights: np.ndarray = np.zeros((channels, lookback, horizon))
        for chunk in np.array_split(train, max(1, len(train) // _CHUNK)):
            past, last = self._past(chunk)
            future = scaled[chunk[:, None] + np.arange(horizon)] - last
            for k in range(channels):
                self.gram[k] += past[:, :, k].T @ past[:, :, k]
                self.moment[k] += past[:, :, k].T @ future[:, :, k]

    def _past(self, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the look-back `[n, Lb, K]` relative to the last value `[n, 1, K]`.

        The last step becomes the constant 1.
        """
        past = self.scaled[origins[:, None] + np.arange(-self.lookback, 0)]
        last = past[:, -1:]
        past = past - last
        past[:, -1] = 1.0  # it would be 0 for every window: the place is free for the intercept
        return past, last

    def solve(self, ridge: float) -> None:
        """Solve (G + ridge n I) W = M for every channel."""
        penalty = ridge * self.windows * np.eye(self.lookback)
        self.weights = np.linalg.solve(self.gram + penalty, self.moment)

    def __call__(self, origins: np.ndarray) -> np.ndarray:
        """Return forecasts `[n, P, K]`."""
        past, last = self._past(origins)
        return np.einsum("nlk,klp->npk", past, self.weights, optimize=True) + last


def series_baselines(
    scaled: np.ndarray, origins: Mapping[str, np.ndarray], split: str, spec: SeriesSpec
) -> dict[str, dict[str, float]]:
    """Return the metrics of the three forecasts on `split`.

    scaled: `[N, C]`, standardised; origins: first future rows of the windows of each split.
    The linear one also reports the ridge strength it chose and the weights it has.
    """
    targets = np.ascontiguousarray(scaled[:, list(spec.target_index)])

    def score(forecast: Forecast, name: str) -> dict[str, float]:
        return forecast_metrics(forecast, targets, origins[name], spec)

    linear = LinearForecast(targets, spec.lookback, spec.horizon, origins["train"])
    errors = {}
    for ridge in _RIDGES:
        linear.solve(ridge)
        errors[ridge] = score(linear, "valid")["mse"]
    best = min(errors, key=lambda ridge: errors[ridge])
    linear.solve(best)
    return {
        "repeat_last": score(repeat_last(targets, spec.horizon), split),
        "seasonal_naive": score(seasonal_naive(targets, spec.horizon, spec.season), split),
        "linear": score(linear, split) | {"ridge": best, "parameters": linear.weights.size},
    }
