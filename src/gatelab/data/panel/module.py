"""The DataModule of many series: a long frame or a group of the M4 competition, cut into windows of one global model.

It joins the parts and publishes the spec: long_frame.py, build.py and m4.py read, features.py encodes the covariates,
windows.py scales and cuts.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack

import numpy as np
from torch.utils.data import Dataset

from gatelab.data.base_module import BatchOrder, GatelabDataModule, Loading
from gatelab.data.disk_cache import CacheEntry, cached, sha256_of_array
from gatelab.data.messages import DataError, counted, few
from gatelab.data.orders import SeriesOrder
from gatelab.data.panel.baselines import (
    PanelLinear,
    panel_baselines,
    panel_mase_scale,
    trivial_forecasts,
)
from gatelab.data.panel.features import (
    check_calendar,
    code_sizes,
    encode,
    fit_scales,
    fit_words,
    number_names,
)
from gatelab.data.panel.m4 import GROUPS
from gatelab.data.panel.panel import Columns, Panel
from gatelab.data.panel.rolling import PanelOrigins
from gatelab.data.panel.rows import bounds, ranges, sums
from gatelab.data.panel.sources import read_series_panel
from gatelab.data.panel.windows import PanelArrays, PanelScaler, PanelWindows, Protocol, Windows
from gatelab.data.series.protocol import check_step, default_season
from gatelab.data.series.rolling import BaselineForecast, RollingWindow
from gatelab.data.specs import SeriesSpec

if TYPE_CHECKING:
    from gatelab.data.panel.new_rows import PanelInput

_LARGEST: Final = 1e100
_FARTHEST: Final = 1e15
"""Spreads from the level; the square of more is no number of 32 bits in sums over a batch."""


class PanelDataModule(GatelabDataModule):
    """Forecasting windows of many series, `SeriesBatch`es of one global model.

    series: "panel" reads `path` (a CSV or Parquet file, a pattern, or a folder of parts), a long frame with a row for
        each series and time (see panel.py); "retail_panel" is one made from `data_seed` (see retail.py); the others are
        groups of the M4 competition (see m4.py), without stamps.
    id, time, target: columns (time None: the rows of a series are in order and equally spaced). past: further inputs,
        known up to now. known_future: covariates that are known for the steps to forecast. static: facts of each series
        (a column that changes within one is refused). Text is categorical, and so are the numbers of `categorical`.
    frequency: the step (None: found from the times, see calendar.py).
    calendar: features made from the stamps, some of hour, weekday, day, month. fourier: season in steps -> pairs of
        sine and cosine.
    gaps, missing: "error" refuses absent rows and empty cells; "mask" takes them as missing: zero to the network with
        `observed` False, neither learned nor scored as targets.
    scaling: per series, fitted on its training rows: standard, mean_absolute, robust or none (see `PanelScaler`).
    weighting: "window" meets every training window once an epoch, "series" every series equally often.
    lookback, horizon: steps. test_windows, valid_windows: of each series, at its end, `step` apart (None: horizon).
        leave_out: rows at the end of each series that are not read, as if it ended before them.
        min_past: rows before a training window (None: the look-back, or all of a series too short for one); what a
        look-back lacks is padded. A series too short to have one training row is left out and told.
    season: steps (None: from the frequency). folds, fold: rolling origin; fold k of K validates on the windows that lie
        K - 1 - k times `valid_windows` before those of the last one. seed decides the order of training.
    separator, decimal, encoding: of CSV files; mirror, cache: folders to look for files in before downloading.
    """

    spec: SeriesSpec

    def __init__(
        self,
        series: Literal[
            "panel",
            "retail_panel",
            "m4_hourly",
            "m4_daily",
            "m4_weekly",
            "m4_monthly",
            "m4_quarterly",
            "m4_yearly",
        ] = "panel",
        path: str | None = None,
        id: str = "unique_id",
        time: str | None = None,
        target: list[str] | None = None,
        past: list[str] | None = None,
        known_future: list[str] | None = None,
        static: list[str] | None = None,
        categorical: list[str] | None = None,
        frequency: str | None = None,
        calendar: list[str] | None = None,
        fourier: dict[Any, int] | None = None,
        gaps: Literal["error", "mask"] = "error",
        missing: Literal["error", "mask"] = "error",
        scaling: Literal["standard", "mean_absolute", "robust", "none"] = "standard",
        weighting: Literal["window", "series"] = "window",
        lookback: int = 96,
        horizon: int = 24,
        step: int | None = None,
        valid_windows: int = 1,
        test_windows: int = 1,
        leave_out: int = 0,
        min_past: int | None = None,
        season: int | None = None,
        separator: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 256,
        data_seed: int = 0,
        mirror: str | None = None,
        cache: str | None = None,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(batch_size, eval_batch_size, **loading)
        counts = {
            "lookback": lookback,
            "horizon": horizon,
            "step": step,
            "valid_windows": valid_windows,
            "test_windows": test_windows,
            "min_past": min_past,
            "season": season,
        }
        for name, value in counts.items():
            if value is not None and value < 1:
                raise DataError(f"data.{name}={value}: give at least 1")
        if leave_out < 0:
            raise DataError(f"data.leave_out={leave_out}: give 0 rows or more")
        names = {"target": target, "past": past, "known_future": known_future, "static": static}
        for key, columns in (names | {"categorical": categorical, "calendar": calendar}).items():
            if isinstance(columns, str) or len(set(columns or ())) < len(columns or ()):
                raise DataError(
                    f"data.{key}={columns}: give a list of different names, such as data.{key}=[{columns}]"
                )
        self.file_format = {"separator": separator, "decimal": decimal, "encoding": encoding}
        if series == "retail_panel":
            if path is not None or data_seed < 0:
                raise DataError(
                    "data=retail_panel is made from data.data_seed, 0 or more; leave data.path out"
                )
        elif series == "panel":
            if path is None or not target:
                missing_key = "path=FILE (a file, pattern or folder)" if path is None else "target=[COLUMN]"
                raise DataError(f"data=panel needs data.{missing_key}")
            check_step(frequency, time)
        elif given := [
            name
            for name, v in {
                "path": path,
                "time": time,
                **names,
                **self.file_format,
                "frequency": frequency,
            }.items()
            if v
        ]:
            raise DataError(f"data.{given[0]} is for data=panel; {series} has its own")
        elif horizon != GROUPS[series].horizon or test_windows != 1 or leave_out:
            raise DataError(
                f"the official test of {series} is one window of {GROUPS[series].horizon} steps, the last ones: leave "
                "data.horizon, data.test_windows and data.leave_out out"
            )
        check_calendar(calendar or [], fourier or {}, time)
        self.series, self.path, self.id, self.time = series, path, id, time
        self.target, self.past, self.known_future = target or ["y"], past or [], known_future or []
        self.static, self.categorical = static or [], categorical or []
        self.calendar, self.fourier = calendar or [], fourier or {}
        self.gaps, self.missing, self.scaling, self.weighting = gaps, missing, scaling, weighting
        self.lookback, self.horizon, self.step, self.min_past = lookback, horizon, step or horizon, min_past
        self.valid_windows, self.test_windows, self.season = valid_windows, test_windows, season
        self.leave_out, self.frequency = leave_out, frequency
        self.data_seed, self.mirror, self.cache = data_seed, mirror, cache
        self.panel: Panel | None = None

    @property
    def at_hand(self) -> bool:
        """Whether the panel is in the user's own files, or made up."""
        return self.series in ("panel", "retail_panel")

    @property
    def series_names(self) -> tuple[str, ...]:
        """The ids of the series, in the order in which `SeriesBatch.series` counts them."""
        assert self.panel is not None
        return self.panel.ids

    def prepare_data(self) -> None:
        """Set up here: the other processes of the machine then find what was worked out."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read, scale each series by its training rows, encode the covariates, lay out the windows."""
        if self.panel is not None:
            return
        panel = self._read().without_last(self.leave_out)
        protocol = self._protocol()
        train_rows, targets = protocol.train_rows(panel.lengths), len(self.target)
        rows = ranges(panel.starts[:-1], train_rows)
        train, train_starts = panel.values[rows], bounds(train_rows)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            self.scaler = PanelScaler.fit(self.scaling, train, train_starts)
            scaled = self.scaler.transform(panel.values, panel.starts)
        self._sizes(panel, scaled)
        measured = ~np.isnan(panel.values)
        usable = sums(measured[rows, :targets].any(axis=1).astype(np.int64), train_starts) > 0
        self.notes = list(panel.notes)
        self.windows = self._windows(panel, protocol, measured[:, :targets], usable)
        self.splits = tuple(self.windows)
        season = self._season(panel.frequency)
        scales, words = fit_scales(panel, rows), fit_words(panel, rows)
        self.arrays = PanelArrays(
            panel.starts,
            scaled,
            None if measured.all() else measured,
            encode(panel, scales, words, self.calendar, self.fourier),
            panel.place,
            self.scaler.level[:, :targets],
            self.scaler.spread[:, :targets],
            panel_mase_scale(train[:, :targets], train_starts, season),
            targets,
        )
        before_test = (panel.lengths - protocol.test_rows).clip(min=0)
        tested = panel.values[ranges(panel.starts[:-1], before_test), :targets]
        self._test_scale = panel_mase_scale(tested, bounds(before_test), season)
        self.spec = self._spec(panel, train, season, scales, words)
        self._tell(usable)
        self.fingerprint = dict(panel.fingerprint)
        self.panel = panel

    def _protocol(self) -> Protocol:
        later = 0 if self.folds is None or self.fold is None else self.folds - 1 - self.fold
        return Protocol(
            self.lookback,
            self.horizon,
            self.step,
            self.valid_windows,
            self.test_windows,
            self.min_past,
            held_back=later * self.valid_windows * self.step,
        )

    def _season(self, frequency: str) -> int:
        own = GROUPS[self.series].season if self.series in GROUPS else default_season(frequency)
        return self.season or own

    def _arrays(self, split: str) -> PanelArrays:
        """The arrays with the MASE scales of a split: of the rows that train; in the test split, of all before it."""
        return self.arrays._replace(mase_scale=self._test_scale) if split == "test" else self.arrays

    def _read(self) -> Panel:
        return read_series_panel(
            self.series, self.path, self._columns, self._options, self.mirror, self.cache, self.data_seed
        )

    @property
    def _columns(self) -> Columns:
        names = (self.target, self.past, self.known_future, self.static, self.categorical)
        return Columns(self.id, self.time, *map(tuple, names))

    @property
    def _options(self) -> dict[str, Any]:
        return {"frequency": self.frequency, "gaps": self.gaps, "missing": self.missing, **self.file_format}

    def _windows(
        self, panel: Panel, protocol: Protocol, measured: np.ndarray, usable: np.ndarray
    ) -> dict[str, Windows]:
        """The windows of usable series that have something to score; tells what is left out."""
        found = {}
        before = np.concatenate([[0], measured.any(axis=1).cumsum()])
        for split, windows in protocol.windows(panel.starts).items():
            there = before[windows.origin + self.horizon] > before[windows.origin]
            found[split] = windows.keep(there & usable[windows.series])
        if short := np.flatnonzero(~usable).tolist():
            names = few([f"{panel.ids[one]!r} ({panel.lengths[one]:,} rows)" for one in short], 5)
            need = protocol.test_rows + protocol.held_back + protocol.valid_rows + 1
            why = (
                f"shorter than {need:,} rows (test, validation, and one measured row to train on), or nothing measured "
                "before its validation"
            )
            if len(short) == len(usable):
                raise DataError(
                    f"{self.path}: every series is {why}: {names}; shorten data.horizon, or take fewer "
                    "data.test_windows and data.valid_windows"
                )
            self.notes.append(f"{len(short):,} of {len(usable):,} series left out, {why}: {names}")
        for split, windows in found.items():
            if not len(windows.origin):
                hint = (
                    f"no series has {self.horizon + 1} training rows: shorten data.horizon"
                    if split == "train"
                    else "no target is measured there"
                )
                raise DataError(f"{self.path or self.series}: the {split} split has no window; {hint}")
        self.padded = any(
            bool((windows.origin - self.lookback < panel.starts[windows.series]).any())
            for windows in found.values()
        )
        if without := int(usable.sum()) - len(np.unique(found["train"].series)):
            self.notes.append(
                f"{without:,} series too short for a training window are validated and tested only"
            )
        if not measured.all():
            shares = (
                f"{split} {1 - self._scored(measured, windows):.1%}" for split, windows in found.items()
            )
            self.notes.append(f"missing targets are left out of losses and scores: {', '.join(shares)}")
        return found

    def _scored(self, measured: np.ndarray, windows: Windows) -> float:
        """The share of a split's targets that were measured."""
        before = np.concatenate([np.zeros((1, measured.shape[1]), np.int64), measured.cumsum(axis=0)])
        there = (before[windows.origin + self.horizon] - before[windows.origin]).sum()
        return float(there / (len(windows.origin) * self.horizon * measured.shape[1]))

    def _sizes(self, panel: Panel, scaled: np.ndarray) -> None:
        """Refuse values so large, or so far from their series' level, that squares of them are no numbers."""
        wrong = ~(np.abs(scaled) < _FARTHEST) | (np.abs(panel.values) > _LARGEST)
        if wrong.any():
            row, place = (int(i) for i in np.argwhere(wrong)[0])
            one = int(np.searchsorted(panel.starts, row, side="right") - 1)
            raise DataError(
                f"{self.path or self.series}: series {panel.ids[one]!r}, "
                f"{panel.when(one, row - int(panel.starts[one]))}, column {panel.channels[place]!r}: "
                f"{panel.values[row, place]:.3g} is too far from the training rows of its series, or cannot be "
                "squared; correct it"
            )

    def _spec(
        self,
        panel: Panel,
        train: np.ndarray,
        season: int,
        scales: dict[str, list[float]],
        words: dict[str, list[str]],
    ) -> SeriesSpec:
        there = ~np.isnan(train)
        count = there.sum(axis=0).clip(min=1)
        mean = np.where(there, train, 0).sum(axis=0) / count
        std = np.sqrt(np.where(there, np.square(train - mean), 0).sum(axis=0) / count)
        scale = self.arrays.mase_scale
        return SeriesSpec(
            channels=panel.channels,
            targets=tuple(self.target),
            target_index=tuple(range(len(self.target))),
            lookback=self.lookback,
            horizon=self.horizon,
            season=season,
            frequency=panel.frequency,
            mean=tuple(mean.tolist()),
            std=tuple(np.where(std > 0, std, 1.0).tolist()),
            mase_scale=tuple((scale.sum(axis=0) / (scale > 0).sum(axis=0).clip(min=1)).tolist()),
            windows={split: len(windows.origin) for split, windows in self.windows.items()},
            series=len(panel.ids),
            known=number_names(self.known_future, words, self.fourier),
            known_codes=code_sizes(self.known_future, words, self.calendar),
            static=number_names(self.static, words),
            static_codes=code_sizes(self.static, words),
            reference=dict(GROUPS[self.series].naive2) if self.series in GROUPS else {},
            scales=scales,
            words=words,
            clock=(panel.zone or "none") if self.calendar or self.fourier else "",
            scaled=self.scaling != "none",
        )

    def _tell(self, usable: np.ndarray) -> None:
        if without := int(((self.arrays.mase_scale == 0).all(axis=1) & usable).sum()):
            self.notes.append(
                f"no MASE of {without:,} of {int(usable.sum()):,} scored series: their "
                f"training rows repeat those {counted(self.spec.season, 'step')} before, or are too few"
            )

    def times(self, split: str, window: int) -> list[str] | None:
        """The times [Lb + P] of a window's rows in ISO format, to the minute; None where there are none, or before a
        series begins.
        """
        if self.panel is None:
            return None
        series, origin = (int(part[window]) for part in self.windows[split])
        row = origin - int(self.panel.starts[series])
        if not len(self.panel.times) or row < self.lookback:
            return None
        first = int(self.panel.place[series]) + row - self.lookback
        times = self.panel.wall[first : first + self.lookback + self.horizon]
        return np.datetime_as_string(times.astype("datetime64[m]")).tolist()

    def panel_input(
        self, file: str | Path, spec: SeriesSpec, future: str | Path | None = None
    ) -> "PanelInput":
        """Read new rows as training reads its own, of these or other series, to forecast what comes after each.

        future: a file of what is known of the steps to forecast (None: it stands in `file`, in rows without a target).
        """
        from gatelab.data.panel.new_rows import read_panel_input

        return read_panel_input(
            str(file),
            None if future is None else str(future),
            self._columns,
            self._options,
            spec,
            (self.calendar, self.fourier),
            self.scaling,
        )

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the metrics of repeat-last, seasonal naive, drift and a linear forecast on `split`."""
        self._known(split)
        arrays = self._arrays(split)
        parts = {
            "origin": self.windows[split].origin,
            "train": self.windows["train"].origin,
            "valid": self.windows["valid"].origin,
            "values": self.arrays.values,
            "starts": self.arrays.starts,
        }
        parts |= {name: getattr(arrays, name) for name in ("level", "spread", "mase_scale", "measured")}
        hashes = {name: sha256_of_array(part) for name, part in parts.items() if part is not None}
        return cached(
            self.cache,
            lambda: {
                "what": "panel baselines",
                "version": 2,
                "arrays": hashes,
                "spec": self.spec.to_dict(),
            },
            lambda: CacheEntry(
                {},
                panel_baselines(arrays, self.windows, split, self.horizon, self.spec.season, self._linear),
            ),
        ).facts

    @cached_property
    def _linear(self) -> PanelLinear:
        """The same for every split that it is scored on."""
        linear = PanelLinear(self.arrays, self.lookback, self.horizon)
        linear.fit(self.windows["train"], self.windows["valid"])
        return linear

    def trivial(self, split: str, windows: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the trivial models say to windows `[n]` of a split, by number: `[n, P, K]`, scaled."""
        part = self.windows[split].keep(windows)
        models = trivial_forecasts(self.arrays, self.horizon, self.spec.season, self._linear)
        return {name: forecast(part) for name, forecast in models.items()}

    @property
    def _origins(self) -> PanelOrigins:
        assert self.panel is not None
        tested = np.unique(self.windows["test"].series)
        return PanelOrigins(self.panel, self.arrays, self._protocol(), self.spec.season, tested)

    def rolling(
        self, windows: int | None = None, step: int | None = None, *, seen: bool = False
    ) -> list[RollingWindow]:
        """Return the last windows of every series with a test window as a rolling origin, see rolling.py.

        Args:
            windows, step: their number (None: as many as fit) and the steps between them (None: the horizon).
            seen: they may begin before the test split, since the model will be trained on what lies before each.

        Raises:
            DataError: there is no room for them.
        """
        return self._origins.windows(windows, step, seen=seen)

    def settings_before(self, row: int) -> dict[str, Any]:
        """Return settings of `data` that end every series with the window at `row` (of `rolling`), its only test."""
        return {"leave_out": self.leave_out + self._origins.rows - row - self.horizon, "test_windows": 1}

    def rolling_baselines(self, rows: Sequence[int], more: Sequence[str] = ()) -> dict[str, BaselineForecast]:
        """Return what the trivial models say to the windows of `rolling` that begin at `rows`; `more`: statistical.py.

        Raises:
            DataError: a model of `more` is unknown, or its library is not installed.
        """
        return self._origins.baselines(rows, self._linear, self.windows["train"], more)

    def _dataset(self, split: str, rank: int, world_size: int) -> tuple[Dataset, BatchOrder]:
        windows = self.windows[split]
        share = self._batch_size(split) // world_size
        dataset = PanelWindows(
            self._arrays(split), windows, self.lookback, self.horizon, share, padded=self.padded
        )
        if split == "train" and self.weighting == "series":
            return dataset, self._order(split, windows.series, rank, world_size, SeriesOrder)
        return dataset, self._order(split, len(windows.series), rank, world_size)
