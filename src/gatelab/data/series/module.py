"""The DataModule of forecasting: a named series or any table, standardised and cut into windows.

It joins the parts and publishes the spec: sources.py and table.py read, protocol.py cuts.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, Unpack

import numpy as np
import torch
from torch.utils.data import Dataset

from gatelab.data.base_module import BatchOrder, GatelabDataModule, Loading
from gatelab.data.disk_cache import CacheEntry, cached, sha256_of_array
from gatelab.data.folds import rolling_cuts
from gatelab.data.messages import DataError, counted, did_you_mean, few
from gatelab.data.series.baselines import (
    LinearForecast,
    fit_linear,
    series_baselines,
    series_truth,
    thinned,
    trivial_forecasts,
)
from gatelab.data.series.missing_marks import check_marks
from gatelab.data.series.protocol import (
    Scaler,
    Series,
    SeriesWindows,
    check_step,
    default_season,
    fraction_borders,
    mase_scale,
    measured_windows,
    window_origins,
)
from gatelab.data.series.rolling import (
    BaselineForecast,
    RollingWindow,
    baseline_forecasts,
    rolling_origins,
    seasonal_errors,
)
from gatelab.data.series.sources import published_file, read_series, time_column
from gatelab.data.specs import SPLITS, SeriesSpec, check_fractions

_LARGEST_SPREAD: Final = 1e100
_FARTHEST: Final = 1e15
"""Standard deviations; the square of more is no number of 32 bits in sums over a batch."""


class SeriesDataModule(GatelabDataModule):
    """Forecasting windows `past [B, lookback, C]` -> `future [B, horizon, K]`.

    series: which data; "table" reads `path` (CSV or Parquet) with the time column `time` (None: rows are in
        order), the columns `channels` (None: all), the step `frequency` (None: found from the times, see
        calendar.py) and the answers `gaps` and `missing` to holes (see table.py), `missing_marks` such as -999 among
        them (see missing_marks.py); `separator`, `decimal` and `encoding` of a CSV file (None: found out, see
        csv_file.py). What was filled is not scored.
    target: names of the channels to forecast (None: all). season: steps (None: from the frequency).
    split: fractions [train, valid, test] where the data set does not prescribe its borders (None: 0.7/0.1/0.2).
    borders: instead, the rows at which train, valid and test end, e.g. [8640, 11520, 14400], also in place of
        prescribed ones; rows after the last are not used.
    seed decides the order of training, data_seed the values of a made-up series.
    folds, fold: rolling origin over the rows before the test split (see folds.py); the scaler, MASE and the
        baselines see that fold's training rows only. The test split keeps its rows and is standardised by the same
        scaler, the one that the model was trained with: `mse_original` and `mae_original` compare between folds,
        the standardised errors within one.
    mirror, cache: folders to look for files in before downloading (see fetch.py).
    """

    spec: SeriesSpec

    def __init__(
        self,
        series: Literal[
            "etth1", "etth2", "ettm1", "ettm2", "exchange", "embedded_series", "lorenz", "table"
        ] = "embedded_series",
        path: str | None = None,
        time: str | None = None,
        target: list[str] | None = None,
        channels: list[str] | None = None,
        frequency: str | None = None,
        gaps: Literal["error", "fill", "ignore"] = "error",
        missing: Literal["error", "fill"] = "error",
        missing_marks: list[float] | None = None,
        separator: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        lookback: int = 96,
        horizon: int = 96,
        split: list[float] | None = None,
        borders: list[int] | None = None,
        season: int | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 256,
        data_seed: int = 0,
        mirror: str | None = None,
        cache: str | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(batch_size, eval_batch_size, **loading)
        for name, value in {"lookback": lookback, "horizon": horizon, "season": season}.items():
            if value is not None and value < 1:
                raise DataError(f"data.{name}={value}: give at least 1 step")
        if data_seed < 0:
            raise DataError(f"data.data_seed={data_seed}: give 0 or more")
        if split is not None:
            check_fractions(split)
        if borders is not None:
            if split is not None or self.folds is not None:
                raise DataError("data.borders: give it without data.split and data.folds")
            if len(borders) not in (2, 3) or any(b <= a for a, b in pairwise((0, *borders))):
                raise DataError(f"data.borders={borders}: give two or three rising numbers of rows")
        check_marks(missing_marks)
        if series == "table":
            check_step(frequency, time)
        self.file_format: dict[str, Any] = {
            "frequency": frequency,
            "separator": separator,
            "decimal": decimal,
            "encoding": encoding,
            "missing_marks": missing_marks,
        }
        of_tables = {"path": path, "time": time, "channels": channels, **self.file_format}
        if series != "table" and (given := [name for name, value in of_tables.items() if value is not None]):
            raise DataError(f"data.{given[0]} is for data=table; {series} has its own")
        if series == "table" and path is None:
            raise DataError("data=table needs data.path=FILE (CSV or Parquet)")
        self.series, self.path, self.time, self.target, self.channels = series, path, time, target, channels
        self.gaps, self.missing, self.data_seed = gaps, missing, data_seed
        self.lookback, self.horizon, self.split, self.season = lookback, horizon, split, season
        self.borders = borders
        self.mirror, self.cache = mirror, cache
        self.data: Series | None = None

    @property
    def at_hand(self) -> bool:
        """Whether the series is a table of the user's, a made-up or an embedded one."""
        return published_file(self.series) is None

    def prepare_data(self) -> None:
        """Set up here: the other processes of the machine then find what was worked out."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read, standardise by the training rows, lay out the windows; a second call does nothing."""
        if self.data is not None:
            return
        data = read_series(
            self.series,
            self.path,
            {
                "time": self.time,
                "channels": self.channels,
                "gaps": self.gaps,
                "missing": self.missing,
                **self.file_format,
            },
            seed=self.data_seed,
            mirror=self.mirror,
            cache=self.cache,
        )
        target_index = self._targets(data)
        spans, notes = self._spans(data)
        self.origins = {
            name: window_origins(start, end, self.lookback, self.horizon, name)
            for name, (start, end) in spans.items()
        }
        self.measured = None if data.filled is None else ~data.filled[:, list(target_index)]
        if self.measured is not None:
            notes += self._leave_out_filled(self.measured, spans)
        train = data.values[: spans["train"][1]]
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            self.scaler = Scaler.fit(train)
            self.scaled = self.scaler.transform(data.values)
        self._sizes(data)
        self.splits = tuple(self.origins)
        self.fingerprint = dict(data.fingerprint)
        self.notes = [*data.notes, *notes, *self._constant(data, train, target_index)]
        self.spec = self._spec(data, train, target_index)
        self.notes += self._without_mase()
        self.data = data

    def _leave_out_filled(self, measured: np.ndarray, spans: dict[str, tuple[int, int]]) -> list[str]:
        """Drop the windows that have no measured target; return a note on what is not scored."""
        for name, origins in self.origins.items():
            self.origins[name] = measured_windows(origins, measured, self.horizon, name)
        shares = (f"{name} {1 - measured[start:end].mean():.1%}" for name, (start, end) in spans.items())
        return [f"filled targets are left out of losses and scores: {', '.join(shares)} of the targets"]

    def _spans(self, data: Series) -> tuple[dict[str, tuple[int, int]], list[str]]:
        """Return the rows [start, end) of each split, and what there is to say about them."""
        if self.borders and self.borders[-1] > len(data.values):
            raise DataError(f"data.borders={self.borders}: there are {len(data.values)} rows")
        if data.borders and self.split:
            raise DataError(f"data.split: {self.series} has prescribed borders; leave data.split out")
        borders = self.borders or data.borders
        borders = borders or fraction_borders(len(data.values), self.split or [0.7, 0.1, 0.2])
        spans = dict(zip(SPLITS, pairwise((0, *borders)), strict=False))
        if self.folds is None or self.fold is None:
            return spans, []
        cuts = rolling_cuts(
            spans["valid"][1],
            self.folds,
            lookback=self.lookback,
            horizon=self.horizon,
            season=self._season(data),
        )
        start, end = cuts[self.fold], cuts[self.fold + 1]
        note = (
            f"data.fold={self.fold} of data.folds={self.folds}, rolling origin: train is rows 0 to {start:,}, valid "
            f"{start:,} to {end:,} of the {cuts[-1]:,} before the test split; scaled by these training rows, test too"
        )
        return spans | {"train": (0, start), "valid": (start, end)}, [note]

    def _season(self, data: Series) -> int:
        return self.season or default_season(data.frequency)

    def _constant(self, data: Series, train: np.ndarray, target_index: tuple[int, ...]) -> list[str]:
        """Return a note on inputs that never change in the training rows; a target that never changes is an error."""
        constant = np.flatnonzero(np.ptp(train, axis=0) == 0).tolist()
        targets = set(target_index)
        for i in constant:
            if i in targets:
                raise DataError(
                    f"{self.path or self.series}: column {data.channels[i]!r} is constant ({train[0, i]}) in the "
                    f"{len(train)} training rows, so errors in it have no scale; leave it out of data.target"
                )
        names = few([repr(data.channels[i]) for i in constant], 20)
        return [f"constant in the training rows, hence centred but not scaled: {names}"] if constant else []

    def _sizes(self, data: Series) -> None:
        """Refuse numbers so large or small that squares of them, or of their distance from the mean, are none."""
        file, spread = self.path or self.series, self.scaler.std
        for i in np.flatnonzero(~((spread > 1 / _LARGEST_SPREAD) & (spread < _LARGEST_SPREAD))).tolist():
            raise DataError(
                f"{file}: column {data.channels[i]!r} holds values of up to {np.abs(data.values[:, i]).max():.3g}, "
                "which cannot be squared; write it in another unit, or leave it out of data.channels"
            )
        row, i = np.unravel_index(np.abs(self.scaled).argmax(), self.scaled.shape)
        if not abs(self.scaled[row, i]) < _FARTHEST:
            raise DataError(
                f"{file}: column {data.channels[i]!r}: {data.values[row, i]:.3g} lies {abs(self.scaled[row, i]):.2g} "
                "standard deviations from the mean of the training rows; correct it, or leave the column out of "
                "data.channels"
            )

    def _without_mase(self) -> list[str]:
        """Return a note on targets that MASE leaves out."""
        scales = zip(self.spec.targets, self.spec.mase_scale, strict=True)
        names = few([repr(name) for name, scale in scales if scale == 0], 20)
        before = counted(self.spec.season, "step")
        why = f"every training row repeats the one {before} before, or one of the two was filled"
        return [f"no MASE of {names}: {why}"] if names else []

    def _spec(self, data: Series, train: np.ndarray, target_index: tuple[int, ...]) -> SeriesSpec:
        season = self._season(data)
        return SeriesSpec(
            channels=data.channels,
            targets=tuple(data.channels[i] for i in target_index),
            target_index=target_index,
            lookback=self.lookback,
            horizon=self.horizon,
            season=season,
            frequency=data.frequency,
            mean=tuple(self.scaler.mean.tolist()),
            std=tuple(self.scaler.std.tolist()),
            mase_scale=tuple(
                mase_scale(
                    train[:, list(target_index)],
                    season,
                    None if self.measured is None else self.measured[: len(train)],
                ).tolist()
            ),
            windows={name: len(origins) for name, origins in self.origins.items()},
        )

    def times(self, split: str, window: int) -> list[str] | None:
        """The times [Lb + P] of a window's rows in ISO format, to the minute; None if the rows have none."""
        if self.data is None or self.data.times is None:
            return None
        origin = int(self.origins[split][window])
        return self.data.shown_times(slice(origin - self.lookback, origin + self.horizon))

    def rolling(
        self, windows: int | None = None, step: int | None = None, *, seen: bool = False
    ) -> list[RollingWindow]:
        """Return the last windows as a rolling origin, see rolling.py; they end with the last row of the last split.

        Args:
            windows, step: their number (None: as many as fit) and the steps between them (None: the horizon).
            seen: they may begin before the test split, since the model will be trained on what lies before each.

        Raises:
            DataError: there is no room for them.
        """
        assert self.data is not None
        spans, _ = self._spans(self.data)
        first, end = spans[self.splits[-1]]
        where = f"the {self.splits[-1]} split"
        if seen:
            first, where = max(self.lookback, self.spec.season + 1), "what can be forecast"
        origins = rolling_origins(end, self.horizon, windows, step, first, where)
        targets = list(self.spec.target_index)
        parts = SeriesWindows(
            self.scaled,
            self.spec.target_index,
            origins,
            self.lookback,
            self.horizon,
            1,
            self.measured,
            self.data.steps,
        )
        errors = seasonal_errors(self.data.values[:, targets], origins, self.spec.season, self.measured)
        level, spread = (
            torch.tensor(part[None, targets], dtype=torch.float32)
            for part in (self.scaler.mean, self.scaler.std)
        )
        found = []
        for place, origin in enumerate(origins.tolist()):
            error = torch.tensor(errors[place : place + 1], dtype=torch.float32)
            batch = parts[np.array([place])]._replace(level=level, spread=spread, mase_scale=error)
            found.append(RollingWindow(origin, self._time(origin), batch))
        return found

    def settings_before(self, row: int) -> dict[str, Any]:
        """Return settings of `data` with which the window at `row` is the only test, and all rows before it are used.

        Raises:
            DataError: no row is left to train on.
        """
        valid = len(self.origins["valid"]) + self.horizon - 1
        if row <= valid:
            raise DataError(
                f"--refit: the window at row {row:,} leaves no row to train on before {valid:,} that validate."
            )
        return {"borders": [row - valid, row, row + self.horizon], "split": None}

    def _time(self, row: int) -> str | None:
        if self.data is None or self.data.times is None:
            return None
        return self.data.shown_times(slice(row, row + 1))[0]

    def rolling_baselines(self, rows: Sequence[int], more: Sequence[str] = ()) -> dict[str, BaselineForecast]:
        """Return what the trivial models say to windows that begin at `rows`; `more` as statistical.py names them.

        Raises:
            DataError: a model of `more` is unknown, or its library is not installed.
        """
        assert self.data is not None
        origins, spec = np.array(rows), self.spec
        targets = np.ascontiguousarray(self.scaled[:, list(spec.target_index)])
        return baseline_forecasts(
            trivial_forecasts(targets, spec, self._linear),
            thinned(self.origins["train"]),
            series_truth(targets, spec, self.measured),
            lambda place: origins[place : place + 1],
            more,
            lambda place: targets[: rows[place]].T[None],
            self.horizon,
            spec.season,
        )

    def trivial(self, split: str, windows: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the trivial models say to windows `[n]` of a split, by number: `[n, P, K]`, standardised."""
        targets = np.ascontiguousarray(self.scaled[:, list(self.spec.target_index)])
        models = trivial_forecasts(targets, self.spec, self._linear)
        return {name: forecast(self.origins[split][windows]) for name, forecast in models.items()}

    def read_input(self, file: str | Path, spec: SeriesSpec) -> tuple[Series, str | None]:
        """Read new rows as training reads its own: the run's channels, time column, step and answers to holes.

        Returns:
            the rows, and the name of the time column (None: there is none).
        """
        from gatelab.data.series.table import read_table

        time = self.time or time_column(self.series)
        table = read_table(
            file,
            time=time,
            channels=list(spec.channels),
            gaps=self.gaps,
            missing=self.missing,
            **self.file_format,
            step=spec.frequency,
            settings=False,
        )
        return table, time

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the metrics of repeat-last, seasonal naive, drift and a closed-form linear forecast on `split`."""
        self._known(split)
        arrays = {name: sha256_of_array(origins) for name, origins in self.origins.items()}
        arrays["scaled"] = sha256_of_array(self.scaled)
        if self.measured is not None:
            arrays["measured"] = sha256_of_array(self.measured)
        return cached(
            self.cache,
            lambda: {
                "what": "baselines",
                "version": 2,
                "split": split,
                "arrays": arrays,
                "spec": self.spec.to_dict(),
            },
            lambda: CacheEntry(
                {}, series_baselines(self.scaled, self.origins, split, self.spec, self._linear, self.measured)
            ),
        ).facts

    @cached_property
    def _linear(self) -> LinearForecast:
        """The same for every split that it is scored on."""
        return fit_linear(self.scaled, self.origins, self.spec, self.measured)

    def _targets(self, data: Series) -> tuple[int, ...]:
        """Return the places of the target channels."""
        names = list(data.channels) if self.target is None else self.target
        if isinstance(names, str) or not names or len(set(names)) < len(names):
            raise DataError(f"data.target={names}: give a list of different columns, or null for all")
        places = {name: place for place, name in enumerate(data.channels)}
        if missing := [name for name in names if name not in places]:
            hint = did_you_mean(missing[0], data.channels) or f" There are {few(data.channels, 20)}."
            raise DataError(f"data.target: no channel {missing[0]!r}.{hint}")
        return tuple(places[name] for name in names)

    def _dataset(self, split: str, rank: int, world_size: int) -> tuple[Dataset, BatchOrder]:
        origins: np.ndarray = self.origins[split]
        share = self._batch_size(split) // world_size
        windows = SeriesWindows(
            self.scaled,
            self.spec.target_index,
            origins,
            self.lookback,
            self.horizon,
            share,
            self.measured,
            None if self.data is None else self.data.steps,
        )
        return windows, self._order(split, len(origins), rank, world_size)
