"""The DataModule of forecasting: a named series or any table, standardised and cut into windows.

It joins the parts and publishes the spec: series_sources.py and table.py read, series.py holds the protocol.
"""

from typing import Literal

import numpy as np
from torch.utils.data import Dataset

from gatelab.data.base_module import GatelabDataModule
from gatelab.data.baselines_series import series_baselines
from gatelab.data.corpora import SPLITS, check_fractions
from gatelab.data.errors import DataError
from gatelab.data.order import BatchOrder
from gatelab.data.series import Scaler, Series, SeriesWindows, fraction_borders, mase_scale, window_origins
from gatelab.data.series_sources import load_named
from gatelab.data.specs import SeriesSpec


class SeriesDataModule(GatelabDataModule):
    """Forecasting windows `past [B, lookback, C]` -> `future [B, horizon, K]`.

    series: which data; "table" reads `path` (CSV or Parquet) with the time column `time` (None: rows are in order).
    target: names of the channels to forecast (None: all). split: fractions [train, valid(, test)] where the data set does
    not prescribe its borders (None: 0.7/0.1/0.2). season: steps (None: from the frequency).
    """

    spec: SeriesSpec

    def __init__(
        self,
        series: Literal[
            "etth1", "etth2", "ettm1", "ettm2", "exchange", "embedded_series", "table"
        ] = "embedded_series",
        path: str | None = None,
        time: str | None = None,
        target: list[str] | None = None,
        lookback: int = 96,
        horizon: int = 96,
        split: list[float] | None = None,
        season: int | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 256,
        seed: int = 0,
        num_workers: int = 0,
        mirror: str | None = None,
        cache: str | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed, num_workers=num_workers
        )
        for name, value in (("lookback", lookback), ("horizon", horizon), ("season", season or 1)):
            if value < 1:
                raise DataError(f"data.{name}={value}: give at least 1 step")
        if split is not None:
            check_fractions(split)
        self.series, self.path, self.time, self.target = series, path, time, target
        self.lookback, self.horizon, self.split, self.season = lookback, horizon, split, season
        self.mirror, self.cache = mirror, cache
        self.data: Series | None = None

    def prepare_data(self) -> None:
        """Fetch the file (Lightning calls this on one process per machine)."""
        self._load()

    def setup(self, stage: str | None = None) -> None:
        """Read, standardise by the training rows, lay out the windows; a second call does nothing."""
        if self.data is not None:
            return
        data = self._load()
        target_index = self._targets(data)
        borders = data.borders or fraction_borders(len(data.values), self.split or [0.7, 0.1, 0.2])
        starts = (0, *borders[:-1])
        self.origins = {
            name: window_origins(start, end, self.lookback, self.horizon, name)
            for name, start, end in zip(SPLITS, starts, borders, strict=False)
        }
        train = data.values[: borders[0]]
        self.scaler = Scaler.fit(train)
        self.scaled = self.scaler.transform(data.values)
        season = self.season or data.default_season
        self.splits = tuple(self.origins)
        self.fingerprint, self.notes = dict(data.fingerprint), list(data.notes)
        self.spec = SeriesSpec(
            channels=data.channels,
            targets=tuple(data.channels[i] for i in target_index),
            target_index=target_index,
            lookback=self.lookback,
            horizon=self.horizon,
            season=season,
            frequency=data.frequency,
            mean=tuple(self.scaler.mean.tolist()),
            std=tuple(self.scaler.std.tolist()),
            mase_scale=tuple(mase_scale(train[:, list(target_index)], season).tolist()),
            windows={name: len(origins) for name, origins in self.origins.items()},
        )
        self.data = data

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the metrics of repeat-last, seasonal naive and a closed-form linear forecast on `split`."""
        self._known(split)
        return series_baselines(self.scaled, self.origins, split, self.spec)

    def _load(self) -> Series:
        return load_named(self.series, seed=self.seed, mirror=self.mirror, cache=self.cache)

    def _targets(self, data: Series) -> tuple[int, ...]:
        """Return the places of the target channels."""
        names = list(data.channels) if self.target is None else self.target
        if missing := [name for name in names if name not in data.channels]:
            raise DataError(f"data.target: no channel {missing[0]!r}; there are {', '.join(data.channels)}")
        return tuple(data.channels.index(name) for name in names)

    def _dataset(self, split: str, rank: int, world_size: int) -> tuple[Dataset, BatchOrder]:
        size = self.batch_size if split == "train" else self.eval_batch_size
        origins: np.ndarray = self.origins[split]
        windows = SeriesWindows(
            self.scaled, self.spec.target_index, origins, self.lookback, self.horizon, size // world_size
        )
        shuffle = split == "train"
        order = BatchOrder(
            len(origins), size, shuffle=shuffle, seed=self.seed, rank=rank, world_size=world_size
        )
        return windows, order
