"""Trivial forecasts: what a reported MSE must be compared with.

They see what a model may see, and nothing is trained by steps.

    repeat-last:    y[t+h] = x[t-1]
    seasonal naive: y[t+h] = the value at the same place of the last whole season before t (it may lie before
        the look-back)
    drift:          y[t+h] = x[t-1] + h (x[t-1] - x[0]) / (t - 1), the line from the first row to the last
    linear:         per target channel, y - x[t-1] = (x - x[t-1]) W, W by ridge regression on the training
                    windows (normal equations, float64); the ridge strength is the best of a fixed list on the
                    validation split

Their quantiles are the forecast plus the quantiles of its errors on training windows, per horizon step and target
(intervals.py; at most 2,048 windows, evenly spaced), so that SQL, WQL and coverage have a bar too.

Scored on exactly the windows that models are scored on; sums of squares and of absolute values, divided once. Targets
that were filled in (`measured` is False) are scored nowhere, and a window with such a one fits no regression.

Dimensions: `N` rows, `C` channels, `K` targets, `Lb` look-back, `P` horizon, `n` windows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch

from gatelab.data.series.intervals import error_quantiles
from gatelab.data.series.quantile_scores import SCORED_LEVELS, magnitude, quantile_fractions, quantile_sums
from gatelab.data.specs import SeriesSpec

RIDGES: Final = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Ridge strengths tried, per training window and unit variance."""
_CHUNK: Final = 2048
"""Windows handled at once; keeps memory small for a long look-back."""
_SCORED_CHUNK: Final = 128
"""Windows whose quantiles are scored at once, so that they stay in the processor's cache."""

Forecast = Callable[[np.ndarray], np.ndarray]
"""First future rows `[n]` -> forecasts `[n, P, K]`, standardised."""


def forecast_metrics(
    forecast: Forecast,
    scaled: np.ndarray,
    origins: np.ndarray,
    spec: SeriesSpec,
    measured: np.ndarray | None = None,
) -> dict[str, float]:
    """Return the metrics of a forecast over the windows that begin at `origins`.

    mse, mae on standardised data; mse_original, mae_original, mase and smape (percent, 200 |e| / (|y| + |f|),
    0 where both are 0) in original units; averages over windows, horizon and targets alike; nd, see `ForecastError`.
    scaled: `[N, K]`,
    the targets only; measured: `[N, K]`, None: all of it. With filled targets, `filled` is their share in percent.
    """
    target = list(spec.target_index)
    mean, std = np.array(spec.mean)[target], np.array(spec.std)[target]
    squared, absolute, relative = (np.zeros(len(target)) for _ in range(3))
    size_of_truth = 0.0
    filled = np.zeros(len(target), np.int64)
    for chunk in np.array_split(origins, max(1, len(origins) // _CHUNK)):
        truth = scaled[chunk[:, None] + np.arange(spec.horizon)]
        guess = forecast(chunk)
        error = guess - truth
        if measured is not None:
            scored = measured[chunk[:, None] + np.arange(spec.horizon)]
            error = error * scored
            filled += (~scored).sum(axis=(0, 1))
        original = magnitude(truth, std, mean)
        size_of_truth += float((original if measured is None else original * scored).sum())
        size = original + magnitude(guess, std, mean)
        squared += np.square(error).sum(axis=(0, 1))
        absolute += np.abs(error).sum(axis=(0, 1))
        relative += (200 * np.abs(error * std) / np.where(size > 0, size, 1.0)).sum(axis=(0, 1))
    total = len(origins) * spec.horizon
    count = total - float(filled.mean())
    scale = np.array(spec.mase_scale)
    defined = scale > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        mase = (
            (absolute * std)[defined]
            / (total - filled[defined].sum() / max(1, defined.sum()))
            / scale[defined]
        )
    share = {"filled": 100 * float(filled.mean()) / total} if filled.any() else {}
    return {
        "mse": float((squared / count).mean()),
        "mae": float((absolute / count).mean()),
        "mse_original": float((squared * std**2 / count).mean()),
        "mae_original": float((absolute * std / count).mean()),
        **({"mase": float(mase.mean())} if defined.any() else {}),
        "smape": float((relative / count).mean()),
        **({"nd": float((absolute * std).sum()) / size_of_truth} if size_of_truth else {}),
        "windows": len(origins),
        **share,
    }


def quantile_metrics(
    forecast: Forecast,
    scaled: np.ndarray,
    origins: np.ndarray,
    train: np.ndarray,
    spec: SeriesSpec,
    measured: np.ndarray | None = None,
) -> dict[str, float]:
    """Return the scores of a forecast with the quantiles of its errors on the training windows that begin at `train`.

    `sql`, `wql`, `crps`, `msis`, `coverage_50` ..., see quantile_scores.py. The other arguments are those of
    `forecast_metrics`.
    """
    target = list(spec.target_index)
    scales = tuple(torch.tensor(part, dtype=torch.float64) for part in (
        np.array(spec.mean)[target], np.array(spec.std)[target], spec.mase_scale,
    ))  # fmt: skip
    steps = np.arange(spec.horizon)
    errors = training_errors(forecast, scaled, train, spec, measured)
    shifts = dict(zip(SCORED_LEVELS, torch.from_numpy(errors), strict=True))
    sums: dict[str, torch.Tensor] = {}
    for chunk in np.array_split(origins, max(1, len(origins) // _SCORED_CHUNK)):
        rows = chunk[:, None] + steps
        guess = torch.from_numpy(np.ascontiguousarray(forecast(chunk)))
        mask = (
            torch.ones_like(guess, dtype=torch.bool) if measured is None else torch.from_numpy(measured[rows])
        )
        truth = torch.from_numpy(scaled[rows])
        new = quantile_sums(lambda level, g=guess: g + shifts[level], truth, mask, scales, SCORED_LEVELS)  # type: ignore[misc, arg-type]
        sums = {name: sums[name] + value if sums else value for name, value in new.items()}
    fractions = quantile_fractions(sums, SCORED_LEVELS).items()
    return {name: float(top.sum() / below.sum()) for name, (top, below) in fractions}


def training_errors(
    forecast: Forecast,
    scaled: np.ndarray,
    train: np.ndarray,
    spec: SeriesSpec,
    measured: np.ndarray | None = None,
) -> np.ndarray:
    """Return the quantiles `[Q, P, K]` of a forecast's errors on training windows, at `SCORED_LEVELS`."""
    kept = train[np.unique(np.linspace(0, len(train) - 1, _CHUNK).astype(int))]
    rows = kept[:, None] + np.arange(spec.horizon)
    errors = scaled[rows] - forecast(kept)
    if measured is not None:
        errors[~measured[rows]] = np.nan
    return error_quantiles(errors, SCORED_LEVELS)


def repeat_last(scaled: np.ndarray, horizon: int) -> Forecast:
    """Return the forecast that repeats the last value; `scaled` is `[N, K]`."""
    return lambda origins: np.repeat(scaled[origins - 1][:, None], horizon, axis=1)


def seasonal_naive(scaled: np.ndarray, horizon: int, season: int) -> Forecast:
    """Return the forecast that repeats the last whole season.

    Before the first season is complete, the first row.
    """
    back = season - np.arange(horizon) % season
    return lambda origins: scaled[np.maximum(origins[:, None] - back, 0)]


def drift(scaled: np.ndarray, horizon: int) -> Forecast:
    """Return the forecast that goes on along the line from the first row to the last one known."""
    ahead = np.arange(1, horizon + 1)[None, :, None]

    def forecast(origins: np.ndarray) -> np.ndarray:
        last = scaled[origins - 1]
        slope = (last - scaled[0]) / np.maximum(origins - 1, 1)[:, None]
        return last[:, None] + ahead * slope[:, None]

    return forecast


class Normal(NamedTuple):
    """Sums over windows of one target: X'X `[Lb, Lb]`, X'Y `[Lb, P]`, the sum of squares of Y, and the windows `n`."""

    gram: np.ndarray
    moment: np.ndarray
    square: float
    windows: int

    def solve(self, ridge: float) -> np.ndarray:
        """Return the weights `[Lb, P]`: (X'X + ridge n I) W = X'Y."""
        return np.linalg.solve(self.gram + ridge * max(1, self.windows) * np.eye(len(self.gram)), self.moment)

    def squared_error(self, weights: np.ndarray) -> float:
        """Return |Y - X W|^2 of these windows without going through them again."""
        return self.square + float((weights * (self.gram @ weights - 2 * self.moment)).sum())


def best_ridge(
    train: Sequence[Normal], valid: Sequence[Normal], ridges: Sequence[float] = RIDGES
) -> tuple[float, list[np.ndarray]]:
    """Return the ridge strength with the least error on `valid`, and its weights `[Lb, P]` of each target."""
    tried = []
    for ridge in ridges:
        weights = [normal.solve(ridge) for normal in train]
        error = sum(normal.squared_error(w) for normal, w in zip(valid, weights, strict=True))
        tried.append((error, ridge, weights))
    return min(tried, key=lambda one: one[:2])[1:]


class LinearForecast:
    """One ridge regression per target, look-back -> horizon, relative to the last value. scaled: `[N, K]`."""

    def __init__(
        self, scaled: np.ndarray, lookback: int, horizon: int, measured: np.ndarray | None = None
    ) -> None:
        self.measured = measured
        self.columns = [np.ascontiguousarray(column) for column in scaled.T]
        self.lookback, self.horizon = lookback, horizon
        self.weights: list[np.ndarray] = [np.zeros((lookback, horizon)) for _ in self.columns]
        self.ridge = 0.0

    def fit(self, train: np.ndarray, valid: np.ndarray, ridges: Sequence[float] = RIDGES) -> None:
        """Solve on the training windows; of `ridges` keep the one with the least error on the validation windows."""
        of_train = [self._normal(column, self._whole(k, train)) for k, column in enumerate(self.columns)]
        of_valid = [self._normal(column, self._whole(k, valid)) for k, column in enumerate(self.columns)]
        self.ridge, self.weights = best_ridge(of_train, of_valid, ridges)

    def _whole(self, target: int, origins: np.ndarray) -> np.ndarray:
        """Return the windows whose future was measured from the first to the last step."""
        if self.measured is None:
            return origins
        before = np.concatenate([[0], self.measured[:, target].cumsum()])
        return origins[before[origins + self.horizon] - before[origins] == self.horizon]

    def _past(self, column: np.ndarray, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the look-back `[n, Lb]` relative to the last value `[n, 1]`.

        The last step would be 0 in every window; it becomes the constant 1 of the intercept.
        """
        past = column[origins[:, None] + np.arange(-self.lookback, 0)]
        last = past[:, -1:].copy()
        past -= last
        past[:, -1] = 1.0
        return past, last

    def _normal(self, column: np.ndarray, origins: np.ndarray) -> Normal:
        gram = np.zeros((self.lookback, self.lookback))
        moment, square = np.zeros((self.lookback, self.horizon)), 0.0
        for chunk in np.array_split(origins, max(1, len(origins) // _CHUNK)):
            past, last = self._past(column, chunk)
            future = column[chunk[:, None] + np.arange(self.horizon)] - last
            gram += past.T @ past
            moment += past.T @ future
            square += float(np.square(future).sum())
        return Normal(gram, moment, square, len(origins))

    def __call__(self, origins: np.ndarray) -> np.ndarray:
        """Return forecasts `[n, P, K]`."""
        forecasts = []
        for column, weights in zip(self.columns, self.weights, strict=True):
            past, last = self._past(column, origins)
            forecasts.append(past @ weights + last)
        return np.stack(forecasts, axis=2)


def fit_linear(
    scaled: np.ndarray,
    origins: Mapping[str, np.ndarray],
    spec: SeriesSpec,
    measured: np.ndarray | None = None,
) -> LinearForecast:
    """Return the linear forecast of the training windows: the same for every split that it is scored on."""
    targets = np.ascontiguousarray(scaled[:, list(spec.target_index)])
    linear = LinearForecast(targets, spec.lookback, spec.horizon, measured)
    linear.fit(origins["train"], origins["valid"])
    return linear


def series_baselines(
    scaled: np.ndarray,
    origins: Mapping[str, np.ndarray],
    split: str,
    spec: SeriesSpec,
    linear: LinearForecast | None = None,
    measured: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """Return the metrics of the four forecasts on `split`.

    scaled: `[N, C]`, standardised; origins: first future rows of the windows of each split; linear: what
    `fit_linear` returned (None: fitted here); measured: `[N, K]`, None: all of it. The linear one also reports the
    ridge strength it chose and the weights it has.
    """
    targets = np.ascontiguousarray(scaled[:, list(spec.target_index)])
    linear = linear or fit_linear(scaled, origins, spec, measured)

    def score(forecast: Forecast) -> dict[str, float]:
        scored = targets, origins[split]
        points = forecast_metrics(forecast, *scored, spec, measured)
        return points | quantile_metrics(forecast, *scored, origins["train"], spec, measured)

    found = {name: score(forecast) for name, forecast in trivial_forecasts(targets, spec, linear).items()}
    found["linear"] |= {
        "ridge": linear.ridge,
        "parameters": sum(weights.size for weights in linear.weights),
    }
    return found


def trivial_forecasts(targets: np.ndarray, spec: SeriesSpec, linear: LinearForecast) -> dict[str, Forecast]:
    """Return the four forecasts by name; targets: `[N, K]`, standardised."""
    return {
        "repeat_last": repeat_last(targets, spec.horizon),
        "seasonal_naive": seasonal_naive(targets, spec.horizon, spec.season),
        "drift": drift(targets, spec.horizon),
        "linear": linear,
    }
