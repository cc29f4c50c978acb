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
(scores.py; at most 2,048 windows, evenly spaced), so that SQL, WQL and coverage have a bar too.

Scored on exactly the windows that models are scored on, by the same sums. Targets that were filled in (`measured` is
False) are scored nowhere, and a window with such a one fits no regression.

A *part* is some windows: here their first future rows `[n]`, of a panel `gatelab.data.panel.windows.Windows`.

Dimensions: `N` rows, `C` channels, `K` targets, `Lb` look-back, `P` horizon, `n` windows, `Q` levels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from gatelab.data.series.scores import (
    SCORED_LEVELS,
    error_quantiles,
    point_errors,
    point_fractions,
    quantile_fractions,
    quantile_sums,
)
from gatelab.data.specs import SeriesSpec

RIDGES: Final = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
"""Ridge strengths tried, per training window and unit variance."""
CHUNK: Final = 2048
"""Windows handled at once, which keeps memory small for a long look-back, and those whose errors make the quantiles."""
_SCORED_CHUNK: Final = 128
"""Windows scored at once, so that they stay in the processor's cache."""

Forecast = Callable[[Any], np.ndarray]
"""A part -> forecasts `[n, P, K]`, scaled."""


class Truth(NamedTuple):
    """What forecasts of a part are scored by.

    values: `[n, P, K]` float64, scaled; scored: `[n, P, K]` bool; scales: level, spread and seasonal error, each `[K]`
    or `[n, 1, K]`.
    """

    values: np.ndarray
    scored: np.ndarray
    scales: tuple[np.ndarray, np.ndarray, np.ndarray]


def scores(
    forecast: Forecast, parts: Iterable[Any], truth: Callable[[Any], Truth], errors: np.ndarray
) -> dict[str, float]:
    """Return the figures of a forecast over parts: those of scores.py and `windows`.

    With filled targets, `filled` is their share in percent. errors: `[Q, P, K]`, what `training_errors` returned.
    """
    shifts = dict(zip(SCORED_LEVELS, torch.from_numpy(errors), strict=True))
    points: dict[str, torch.Tensor] = {}
    quantiles: dict[str, torch.Tensor] = {}
    windows = 0
    for part in parts:
        values, scored, scales = truth(part)
        guess = torch.from_numpy(np.asarray(forecast(part), np.float64))
        known = torch.from_numpy(values), torch.from_numpy(scored), tuple(map(torch.from_numpy, scales))
        of_points = {name: error.sum(0) for name, error in point_errors(guess, *known).items()}  # type: ignore[arg-type]
        of_quantiles = quantile_sums(lambda level, g=guess: g + shifts[level], *known, SCORED_LEVELS)  # type: ignore[misc, arg-type]
        for sums, new in ((points, of_points), (quantiles, of_quantiles)):
            sums |= {name: sums[name] + value if sums else value for name, value in new.items()}
        windows += len(values)
    fractions = {**point_fractions(points), **quantile_fractions(quantiles, SCORED_LEVELS)}
    found = {name: float(top.sum() / below.sum()) for name, (top, below) in fractions.items()}
    filled = 1 - float(points["scored"].sum()) / (windows * points["scored"].numel())
    return found | {"windows": windows} | ({"filled": 100 * filled} if filled else {})


def training_errors(forecast: Forecast, train: Any, truth: Callable[[Any], Truth]) -> np.ndarray:
    """Return the quantiles `[Q, P, K]` of a forecast's errors on a part that trains, at `SCORED_LEVELS`."""
    values, scored, _ = truth(train)
    return error_quantiles(np.where(scored, values - forecast(train), np.nan), SCORED_LEVELS)


def evenly(count: int, most: int) -> np.ndarray:
    """Return at most `most` of the numbers below `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, most).astype(int))


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


class RidgeForecast(ABC):
    """One ridge regression per target, look-back -> horizon, relative to the last value."""

    def __init__(self, targets: int, lookback: int, horizon: int) -> None:
        self.lookback, self.horizon = lookback, horizon
        self.weights: list[np.ndarray] = [np.zeros((lookback, horizon)) for _ in range(targets)]
        self.ridge = 0.0

    @abstractmethod
    def known(self, target: int, part: Any) -> Iterator[Any]:
        """Yield parts of those windows of a part that fit the regression: their whole future was measured."""

    @abstractmethod
    def past(self, target: int, part: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the look-back `[n, Lb]` relative to the last value, in float64, and that `[n, 1]`."""

    @abstractmethod
    def future(self, target: int, part: Any) -> np.ndarray:
        """Return the truth `[n, P]`."""

    def fit(self, train: Any, valid: Any, ridges: Sequence[float] = RIDGES) -> None:
        """Solve on the training windows; of `ridges` keep the one with the least error on the validation windows."""
        targets = range(len(self.weights))
        of_train, of_valid = ([self._normal(k, part) for k in targets] for part in (train, valid))
        tried = []
        for ridge in ridges:
            weights = [normal.solve(ridge) for normal in of_train]
            error = sum(normal.squared_error(w) for normal, w in zip(of_valid, weights, strict=True))
            tried.append((error, ridge, weights))
        _, self.ridge, self.weights = min(tried, key=lambda one: one[:2])

    def __call__(self, part: Any) -> np.ndarray:
        """Return forecasts `[n, P, K]`."""
        found = []
        for k, weights in enumerate(self.weights):
            past, last = self._inputs(k, part)
            found.append(past @ weights + last)
        return np.stack(found, axis=2)

    def _inputs(self, target: int, part: Any) -> tuple[np.ndarray, np.ndarray]:
        """The last step of `past` would be 0 in every window; it becomes the constant 1 of the intercept."""
        past, last = self.past(target, part)
        past[:, -1] = 1.0
        return past, last

    def _normal(self, target: int, part: Any) -> Normal:
        gram, moment = np.zeros((self.lookback, self.lookback)), np.zeros((self.lookback, self.horizon))
        square, count = 0.0, 0
        for chunk in self.known(target, part):
            past, last = self._inputs(target, chunk)
            future = self.future(target, chunk) - last
            gram += past.T @ past
            moment += past.T @ future
            square += float(np.square(future).sum())
            count += len(future)
        return Normal(gram, moment, square, count)


class LinearForecast(RidgeForecast):
    """Of one table; scaled: `[N, K]`."""

    def __init__(
        self, scaled: np.ndarray, lookback: int, horizon: int, measured: np.ndarray | None = None
    ) -> None:
        super().__init__(scaled.shape[1], lookback, horizon)
        self.measured = measured
        self.columns = [np.ascontiguousarray(column) for column in scaled.T]

    def known(self, target: int, part: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the first future rows of whole windows."""
        if self.measured is not None:
            before = np.concatenate([[0], self.measured[:, target].cumsum()])
            part = part[before[part + self.horizon] - before[part] == self.horizon]
        yield from chunks(part, CHUNK)

    def past(self, target: int, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the look-back and the last value."""
        past = self.columns[target][part[:, None] + np.arange(-self.lookback, 0)]
        last = past[:, -1:].copy()
        return past - last, last

    def future(self, target: int, part: np.ndarray) -> np.ndarray:
        """Return the truth."""
        return self.columns[target][part[:, None] + np.arange(self.horizon)]


def chunks(origins: np.ndarray, size: int) -> list[np.ndarray]:
    """Return windows in parts of about that size."""
    return np.array_split(origins, max(1, len(origins) // size))


def thinned(origins: np.ndarray) -> np.ndarray:
    """Return at most 2,048 of the windows, evenly spaced: those whose errors make the quantiles."""
    return origins[evenly(len(origins), CHUNK)]


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


def series_truth(
    targets: np.ndarray, spec: SeriesSpec, measured: np.ndarray | None = None
) -> Callable[[np.ndarray], Truth]:
    """Return what forecasts of a part of one table are scored by; targets: `[N, K]`, standardised."""
    index = list(spec.target_index)
    scales = np.array(spec.mean)[index], np.array(spec.std)[index], np.array(spec.mase_scale)

    def truth(part: np.ndarray) -> Truth:
        rows = part[:, None] + np.arange(spec.horizon)
        values = targets[rows].astype(np.float64)
        return Truth(values, np.ones(values.shape, bool) if measured is None else measured[rows], scales)

    return truth


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
    `fit_linear` returned (None: fitted here); measured: `[N, K]`, None: all of it.
    """
    targets = np.ascontiguousarray(scaled[:, list(spec.target_index)])
    models = trivial_forecasts(targets, spec, linear or fit_linear(scaled, origins, spec, measured))
    train = thinned(origins["train"])
    return scored_baselines(
        models, train, chunks(origins[split], _SCORED_CHUNK), series_truth(targets, spec, measured)
    )


def scored_baselines(
    models: Mapping[str, Forecast], train: Any, parts: Sequence[Any], truth: Callable[[Any], Truth]
) -> dict[str, dict[str, float]]:
    """Return the metrics of forecasts; the linear one's also tell the ridge strength it chose and its weights."""
    found = {}
    for name, forecast in models.items():
        found[name] = scores(forecast, parts, truth, training_errors(forecast, train, truth))
        if isinstance(forecast, RidgeForecast):
            found[name] |= {"ridge": forecast.ridge, "parameters": sum(w.size for w in forecast.weights)}
    return found


def trivial_forecasts(targets: np.ndarray, spec: SeriesSpec, linear: LinearForecast) -> dict[str, Forecast]:
    """Return the four forecasts by name; targets: `[N, K]`, standardised."""
    return {
        "repeat_last": repeat_last(targets, spec.horizon),
        "seasonal_naive": seasonal_naive(targets, spec.horizon, spec.season),
        "drift": drift(targets, spec.horizon),
        "linear": linear,
    }
