"""AutoETS and AutoARIMA of `statsforecast`, fitted anew at each origin on all rows before it: bars for a backtest.

They are slow (seconds to minutes a window), so they are scored only where they are named. `pip install
"gatelab[forecast]"` brings the library.

Dimensions: `T` rows before the origin, `P` horizon, `Q` levels.
"""

import importlib
from collections.abc import Iterable, Sequence

import numpy as np

from gatelab.data.messages import DataError, did_you_mean

MODELS = {"auto_ets": "AutoETS", "auto_arima": "AutoARIMA"}


def require_statistical(names: Sequence[str]) -> None:
    """Raise `DataError` unless the models are known and their library is installed."""
    for name in names:
        if name not in MODELS:
            raise DataError(f"--baselines {name}: there are {', '.join(MODELS)}.{did_you_mean(name, MODELS)}")
    if names:
        try:
            importlib.import_module("statsforecast")
        except ImportError:
            raise DataError(
                f'--baselines {names[0]} needs statsforecast, which is not installed: pip install "gatelab[forecast]"'
            ) from None


def statistical_forecast(
    name: str, past: np.ndarray, horizon: int, season: int, levels: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the point forecast `[P]` and the quantiles `[P, Q]` after `past` `[T]`, in its unit."""
    model = getattr(importlib.import_module("statsforecast.models"), MODELS[name])(season_length=season)
    percents = sorted({_percent(level) for level in levels if level != 0.5})
    found = model.forecast(y=np.asarray(past, dtype=np.float64), h=horizon, level=percents)
    point = np.asarray(found["mean"], dtype=np.float64)

    def at(level: float) -> np.ndarray:
        side = "lo" if level < 0.5 else "hi"
        return point if level == 0.5 else np.asarray(found[f"{side}-{_percent(level)}"], dtype=np.float64)

    return point, np.stack([at(level) for level in levels], axis=1)


def statistical_forecasts(
    name: str, past: Iterable[Iterable[np.ndarray]], horizon: int, season: int, levels: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return points `[B, P, K]` and quantiles `[B, P, K, Q]` after the `K` targets `[T]` of each of `B` series."""
    answers = [
        [statistical_forecast(name, values, horizon, season, levels) for values in one] for one in past
    ]
    point, quantiles = (
        np.stack([np.stack([answer[part] for answer in one], axis=1) for one in answers]) for part in (0, 1)
    )
    return point, quantiles


def _percent(level: float) -> int:
    """The central interval, in percent, that a level is an end of."""
    return round(200 * abs(level - 0.5))
