"""Rolling origin over a panel: windows that begin equally many rows before the end of each of its series.

What an origin is among N of them, `gatelab.data.series.rolling` says; its row is counted in the longest series. The
seasonal error of a window is that of all rows of its series before it.

Dimensions: `S` series, `K` targets, `P` horizon.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gatelab.data.panel.baselines import PanelLinear, panel_mase_scale, training_errors, trivial_forecasts
from gatelab.data.panel.panel import Panel
from gatelab.data.panel.rows import bounds, ranges
from gatelab.data.panel.windows import PanelArrays, PanelWindows, Protocol, Windows
from gatelab.data.series.quantile_scores import SCORED_LEVELS
from gatelab.data.series.rolling import BaselineForecast, RollingWindow, rolling_origins
from gatelab.data.series.statistical import require_statistical, statistical_forecasts


class PanelOrigins:
    """Origins in the test split.

    Args:
        panel, arrays, protocol: as the DataModule has them; season: steps.
        series: those that are forecast, by number.
    """

    def __init__(
        self, panel: Panel, arrays: PanelArrays, protocol: Protocol, season: int, series: np.ndarray
    ) -> None:
        self.panel, self.arrays, self.protocol = panel, arrays, protocol
        self.season, self.series = season, series
        self.rows = int(panel.lengths[series].max())

    def windows(self, number: int | None, step: int | None) -> list[RollingWindow]:
        """Return the last windows; see `PanelDataModule.rolling`."""
        first = self.rows - self.protocol.test_rows
        where = (
            f"the test split (data.test_windows={self.protocol.test_windows}, data.step={self.protocol.step})"
        )
        horizon = self.protocol.horizon
        return [
            self._window(row)
            for row in rolling_origins(self.rows, horizon, number, step, first, where).tolist()
        ]

    def at(self, row: int) -> Windows:
        """The windows `[S]` of an origin."""
        return Windows(self.series, self.panel.starts[1:][self.series] - (self.rows - row))

    def _window(self, row: int) -> RollingWindow:
        part, panel = self.at(row), self.panel
        before = (panel.lengths - (self.rows - row)).clip(min=0)
        values = panel.values[ranges(panel.starts[:-1], before), : self.arrays.targets]
        dataset = PanelWindows(
            self.arrays._replace(mase_scale=panel_mase_scale(values, bounds(before), self.season)),
            part,
            self.protocol.lookback,
            self.protocol.horizon,
            len(part.origin),
            padded=bool((part.origin - self.protocol.lookback < panel.starts[part.series]).any()),
        )
        return RollingWindow(row, self._time(part), dataset[np.arange(len(part.origin))])

    def _time(self, part: Windows) -> str | None:
        """The stamp at which all of the windows begin; None where there is no such."""
        if not len(self.panel.times):
            return None
        places = self.panel.place[part.series] + part.origin - self.panel.starts[part.series]
        stamps = np.unique(self.panel.wall[places].astype("datetime64[m]"))
        return str(np.datetime_as_string(stamps[0])) if len(stamps) == 1 else None

    def baselines(
        self, rows: Sequence[int], linear: PanelLinear, train: Windows, more: Sequence[str]
    ) -> dict[str, BaselineForecast]:
        """Return what trivial models say at `rows`; see `PanelDataModule.rolling_baselines`."""
        require_statistical(more)
        horizon, found = self.protocol.horizon, {}
        for name, forecast in trivial_forecasts(self.arrays, horizon, self.season, linear).items():
            errors = training_errors(forecast, self.arrays, train, horizon)

            def trivial(place: int, forecast: Any = forecast, errors: np.ndarray = errors) -> Any:
                point = forecast(self.at(rows[place])).astype(np.float64)
                return point, point[..., None] + np.moveaxis(errors, 0, -1)

            found[name] = BaselineForecast(trivial, SCORED_LEVELS)

        def statistical(place: int, name: str) -> Any:
            past = [
                linear.filled[self.arrays.starts[one] : row].T
                for one, row in zip(*self.at(rows[place]), strict=True)
            ]
            return statistical_forecasts(name, past, horizon, self.season, SCORED_LEVELS)

        return found | {
            name: BaselineForecast(partial(statistical, name=name), SCORED_LEVELS) for name in more
        }
