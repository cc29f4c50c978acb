"""Rolling origin over a panel: windows that begin equally many rows before the end of each of its series.

What an origin is among N of them, `gatelab.data.series.rolling` says; its row is counted in the longest series. The
seasonal error of a window is that of all rows of its series before it.

Dimensions: `S` series, `K` targets, `P` horizon.
"""

from collections.abc import Sequence

import numpy as np

from gatelab.data.panel.baselines import (
    PanelLinear,
    panel_mase_scale,
    panel_truth,
    thinned,
    trivial_forecasts,
)
from gatelab.data.panel.panel import Panel
from gatelab.data.panel.rows import bounds, ranges
from gatelab.data.panel.windows import PanelArrays, PanelWindows, Protocol, Windows
from gatelab.data.series.rolling import BaselineForecast, RollingWindow, baseline_forecasts, rolling_origins


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

    def windows(self, number: int | None, step: int | None, *, seen: bool) -> list[RollingWindow]:
        """Return the last windows; see `PanelDataModule.rolling`."""
        first = self.rows - self.protocol.test_rows
        where = (
            f"the test split (data.test_windows={self.protocol.test_windows}, data.step={self.protocol.step})"
        )
        if seen:  # the shortest series keeps a row to train on
            shortest = self.series[self.panel.lengths[self.series].argmin()]
            rows = int(self.panel.lengths[shortest])
            first = self.rows - rows + self.protocol.held_back + self.protocol.valid_rows + 1
            where = f"what can be forecast of the shortest series, {self.panel.ids[shortest]!r} with {rows:,} rows,"
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
        horizon, starts = self.protocol.horizon, self.arrays.starts

        def past(place: int) -> list[np.ndarray]:
            return [
                linear.filled[starts[one] : row].T for one, row in zip(*self.at(rows[place]), strict=True)
            ]

        return baseline_forecasts(
            trivial_forecasts(self.arrays, horizon, self.season, linear),
            thinned(train),
            panel_truth(self.arrays, horizon),
            lambda place: self.at(rows[place]),
            more,
            past,
            horizon,
            self.season,
        )
