"""Rolling origin: the last windows of a table, one after the other, as a forecaster in use would meet them.

Window i of N with step S begins at row R - P - (N - 1 - i) S of R rows (Tashman 2000; `n_windows` and `step` of
cross-validation in forecasting libraries, `num_windows` and `window_step_size` of fev). The seasonal error that scales
MASE and SQL is that of all rows before the window's origin, as fev takes it, not that of the training split.

Dimensions: `R` rows, `K` targets, `P` horizon, `N` origins, `B` windows of one of them, `Q` levels.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gatelab.data.messages import DataError
from gatelab.data.series.baselines import Forecast, Truth, training_errors
from gatelab.data.series.scores import SCORED_LEVELS
from gatelab.data.series.statistical import require_statistical, statistical_forecasts
from gatelab.data.specs import SeriesBatch


class RollingWindow(NamedTuple):
    """One origin.

    row: the first row that is forecast, of a panel in its longest series; time: its stamp in ISO format, None where
    there is none or series end at different times; batch: the windows that begin there (of one table, one; of a panel,
    one a series), with level, spread and seasonal error of their own.
    """

    row: int
    time: str | None
    batch: SeriesBatch


class BaselineForecast(NamedTuple):
    """What a trivial model says, scaled.

    answer: the place of an origin -> point `[B, P, K]` and quantiles `[B, P, K, Q]` at `levels`, of the `B` windows
    that begin there.
    """

    answer: Callable[[int], tuple[np.ndarray, np.ndarray]]
    levels: tuple[float, ...]


def rolling_origins(
    rows: int, horizon: int, windows: int | None, step: int | None, first: int, where: str
) -> np.ndarray:
    """Return the first future rows `[N]` of the windows.

    Args:
        windows: N; None: as many as there is room for. step: S; None: the horizon.
        first: the first row that may be forecast; where: what begins there, for the message.

    Raises:
        DataError: there is no room for them.
    """
    step = horizon if step is None else step
    for name, value in (("--windows", windows), ("--step", step)):
        if value is not None and value < 1:
            raise DataError(f"{name} {value}: give at least 1")
    room = (rows - horizon - first) // step + 1 if rows - horizon >= first else 0
    if room < (windows or 1):
        fix = f"give --windows {room} or fewer, or a smaller --step" if room else "shorten data.horizon"
        raise DataError(
            f"--windows {windows or 1} --step {step}: {where} begins at row {first:,} of {rows:,}, which has room for "
            f"{room} windows of {horizon} steps; {fix}"
        )
    return rows - horizon - step * np.arange((windows or room) - 1, -1, -1)


def seasonal_errors(
    values: np.ndarray, origins: np.ndarray, season: int, measured: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean absolute seasonal difference `[N, K]` of the rows before each origin; values: `[R, K]`.

    0 where MASE is undefined: too few rows, or rows that repeat the season. measured: as `mase_scale`.
    """
    differences = np.abs(values[season:] - values[:-season])
    both = np.ones_like(differences) if measured is None else measured[season:] & measured[:-season]
    zero = np.zeros((1, values.shape[1]))
    totals, counts = (np.concatenate([zero, part.cumsum(axis=0)]) for part in (differences * both, both))
    place = np.clip(origins - season, 0, len(differences))
    return totals[place] / np.maximum(counts[place], 1)


def baseline_forecasts(
    models: Mapping[str, Forecast],
    train: Any,
    truth: Callable[[Any], Truth],
    at: Callable[[int], Any],
    more: Sequence[str],
    past: Callable[[int], Iterable[Iterable[np.ndarray]]],
    horizon: int,
    season: int,
) -> dict[str, BaselineForecast]:
    """Return what trivial models, and those of `more` as statistical.py names them, say to windows.

    Args:
        train, truth: as `scored_baselines` takes them.
        at: the place of an origin -> the part of its windows; past: -> the `K` targets `[T]` before it, of each window.

    Raises:
        DataError: a model of `more` is unknown, or its library is not installed.
    """
    require_statistical(more)

    def trivial(forecast: Forecast, errors: np.ndarray, place: int) -> tuple[np.ndarray, np.ndarray]:
        point = forecast(at(place)).astype(np.float64)
        return point, point[..., None] + np.moveaxis(errors, 0, -1)

    def statistical(name: str, place: int) -> tuple[np.ndarray, np.ndarray]:
        return statistical_forecasts(name, past(place), horizon, season, SCORED_LEVELS)

    answers = {
        name: partial(trivial, model, training_errors(model, train, truth)) for name, model in models.items()
    }
    answers |= {name: partial(statistical, name) for name in more}
    return {name: BaselineForecast(answer, SCORED_LEVELS) for name, answer in answers.items()}
