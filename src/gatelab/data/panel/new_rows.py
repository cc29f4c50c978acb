"""New rows of a panel, read as training reads its own: one window a series, whose future begins after its last row.

The series need not be those of training: each is scaled by its own rows here. What is known of the future stands in a
second file, or below the history in the same file, in rows without any target. An id without history, a known value
that is missing, and a known future that ends too early are refused by name.

Dimensions: `S` series, `N` rows, `P` horizon, `K` targets.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gatelab.data.messages import DataError, few, shown
from gatelab.data.panel.build import build_panel
from gatelab.data.panel.features import encode
from gatelab.data.panel.long_frame import LongFrame, read_long_frame
from gatelab.data.panel.panel import Columns, Panel
from gatelab.data.panel.rows import bounds, ranges
from gatelab.data.panel.windows import PanelArrays, PanelScaler, PanelWindows, Scaling, Windows
from gatelab.data.series.calendar import check_frequency, following, same_step, zone_note
from gatelab.data.specs import SeriesSpec


class PanelInput(NamedTuple):
    """One window `[S]` for each series, its future unknown.

    windows: `windows[np.arange(a, b)]` is the `SeriesBatch` of series a to b; value = scaled * spread + level.
    stamps: the id and, if there are stamps, the time of each forecast, `S * P` rows in order of series and step.
    panel: the series with their rows to forecast, whose targets are missing; ends: where each of these begins, `[S]`,
        counted from its series' first row.
    """

    ids: tuple[str, ...]
    windows: PanelWindows
    stamps: pd.DataFrame
    notes: list[str]
    panel: Panel
    ends: np.ndarray


def read_panel_input(
    path: str,
    future: str | None,
    columns: Columns,
    options: Mapping[str, Any],
    spec: SeriesSpec,
    features: tuple[list[str], dict[Any, int]],
    scaling: Scaling,
) -> PanelInput:
    """Return the rows to forecast from.

    options: `frequency`, `gaps`, `missing` and the format of files; features: see `encode`.
    """
    notes: list[str] = []
    file_format = {name: options[name] for name in ("separator", "decimal", "encoding")}
    # what was words in training is words here, whatever these rows hold of it
    columns = columns._replace(categorical=tuple(dict.fromkeys([*columns.categorical, *spec.words])))
    text = (columns.id, *columns.categorical)
    long = read_long_frame(path, notes, file_format, text)
    ahead = None if future is None else read_long_frame(future, notes, file_format, text)
    try:
        history = whole = build_panel(
            long,
            columns,
            options["gaps"],
            "mask",
            notes,
            spec.frequency,
            check_frequency(options["frequency"]),
        )
        _check_step(history, spec)
        notes += _clock_note(spec.clock, history.zone or "none")
        ends = history.lengths
        if future is not None and ahead is not None:
            if not columns.known:
                raise DataError(f"--future {future}: the run has no data.known_future; leave it out")
            long = _below(long, ahead, columns)
            # a gap is told as what is not known of the steps to forecast
            whole = build_panel(long, columns, "mask", "mask", [], frequency=history.frequency)
            if whole.zone != history.zone:
                told = zone_note(str(columns.time), history.zone)
                notes = [zone_note(str(columns.time), whole.zone) if note == told else note for note in notes]
            if only := whole.ids[len(history.ids) :]:
                raise DataError(
                    f"{len(only):,} series without history in {future}: {few(only)} "
                    f"({long.rows(_places(long, columns.id, only))}); add their rows to the input, or remove these"
                )
        elif columns.known:
            ends = _last_measured(history, len(columns.target)) + 1
        if odd := whole.words.keys() - spec.words.keys():
            name = min(odd)
            words = few([shown(word) for word in whole.words[name]])
            raise DataError(
                f"column {name!r} holds words ({words}) and held numbers in training; write numbers"
            )
        for name, there in whole.words.items():
            if new := [shown(word) for word in there if word not in spec.words[name]]:
                notes.append(f"column {name!r}: training has not seen {few(new)}; read as any unseen value")
        _check(history, whole, ends, columns, options["missing"], spec.horizon)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    panel = _with_future(whole, ends, spec.horizon)
    rows = ranges(panel.starts[:-1], ends)
    scaler = PanelScaler.fit(scaling, panel.values[rows], bounds(ends))
    measured, targets = ~np.isnan(panel.values), len(columns.target)
    arrays = PanelArrays(
        panel.starts,
        scaler.transform(panel.values, panel.starts),
        None if measured[rows].all() else measured,
        encode(panel, spec.scales, spec.words, *features),
        panel.place,
        scaler.level[:, :targets],
        scaler.spread[:, :targets],
        np.zeros((len(ends), targets)),
        targets,
    )
    windows = Windows(np.arange(len(ends)), panel.starts[:-1] + ends)
    padded = bool((ends < spec.lookback).any())
    dataset = PanelWindows(arrays, windows, spec.lookback, spec.horizon, len(ends), padded=padded)
    return PanelInput(panel.ids, dataset, _stamps(panel, ends, columns, spec.horizon), notes, panel, ends)


def _clock_note(trained: str, here: str) -> list[str]:
    """What is told where hours and weekdays go by another clock than in training; of two offsets nobody can know."""
    offsets = trained[:1] in "+-" and here[:1] in "+-"
    if not trained or trained == here or offsets:
        return []
    with_zone, without = "a zone ({})", "no zone"
    then, now = (without if zone == "none" else with_zone.format(zone) for zone in (trained, here))
    return [
        f"the run's calendar features went by times with {then}, these times have {now}: they are read by their own "
        "clock; write them as training's were, if they are of the same place"
    ]


def _below(history: LongFrame, future: LongFrame, columns: Columns) -> LongFrame:
    """The future's rows below the history's, without what nobody knows yet.

    A row of a series and time that the history has too, as of a calendar of the whole year, gets the history's other
    columns: then it repeats that row, or its known values differ and `build_panel` refuses both.
    """
    missing = [c for c in (columns.id, columns.time, *columns.known) if c and c not in future.frame.columns]
    if missing:
        raise DataError(f"{future.files[0]}: the column {missing[0]!r} is not in the file of the future")
    known = future.frame.drop(columns=[*columns.target, *columns.past], errors="ignore")
    if columns.time is not None:
        keys = [
            pd.MultiIndex.from_frame(f[[columns.id, columns.time]].astype(str))
            for f in (history.frame, known)
        ]
        first = ~keys[0].duplicated()
        place = np.flatnonzero(first)[keys[0][first].get_indexer(keys[1])]
        there = keys[1].isin(keys[0])
        for name in history.frame.columns.difference(known.columns):
            known[name] = history.frame[name].iloc[place].where(there).to_numpy()
    frame = pd.concat([history.frame, known], ignore_index=True)
    begins = np.append(history.begins, future.begins + len(history.frame))
    return LongFrame(frame, history.files + future.files, begins)


def _places(long: LongFrame, column: str, ids: Sequence[str]) -> np.ndarray:
    """The rows of some series."""
    return np.flatnonzero(long.frame[column].astype(str).isin(ids))


def _last_measured(panel: Panel, targets: int) -> np.ndarray:
    """The last row of each series with a target, counted from its first; -1 where there is none."""
    there = ~np.isnan(panel.values[:, :targets]).all(axis=1)
    last = np.maximum.accumulate(np.where(there, np.arange(len(there)), -1))[panel.starts[1:] - 1]
    return np.maximum(last - panel.starts[:-1], -1)


def _check_step(panel: Panel, spec: SeriesSpec) -> None:
    if spec.frequency and len(panel.times) and not same_step(spec.frequency, panel.frequency):
        raise DataError(
            f"the step of its rows is {panel.frequency}, the run was trained on {spec.frequency}; resample the panel, "
            "or train on its own step"
        )


def _check(
    history: Panel, whole: Panel, ends: np.ndarray, columns: Columns, missing: str, horizon: int
) -> None:
    """Raise `DataError` for a series without a value, and for a future that is not known as far as it must be."""
    targets = len(columns.target)
    if (empty := _last_measured(history, targets) < 0).any():
        raise DataError(
            f"series {shown(history.ids[int(empty.argmax())])} has no target to forecast from; leave it out"
        )
    if missing == "error":
        holes = np.isnan(history.values[ranges(history.starts[:-1], ends)])
        if holes.any():
            column = history.channels[int(holes.any(axis=0).argmax())]
            raise DataError(
                f"column {column!r} has missing values; the run was trained without any (data.missing=error)"
            )
    for name in columns.known:
        values = whole.known[name]
        for one in range(len(ends)):
            begin = int(whole.starts[one] + ends[one])
            there = values[begin : min(begin + horizon, int(whole.starts[one + 1]))]
            lacking = there < 0 if there.dtype == np.int32 else np.isnan(there)
            steps = int(lacking.argmax()) if lacking.any() else len(there)
            if steps < horizon:
                raise DataError(
                    f"data.known_future: {name!r} of series {shown(whole.ids[one])} is known for {steps} of the "
                    f"{horizon} steps after {history.when(one, int(ends[one]) - 1)}; give its values in rows "
                    "after the history, with the target left empty"
                )


def _with_future(panel: Panel, ends: np.ndarray, horizon: int) -> Panel:
    """The series up to `ends`, each with the `horizon` rows after it, known or not; every row has a time of its own."""
    series = len(ends)
    starts = bounds(ends + horizon)
    kept = np.minimum(panel.lengths[:series], ends + horizon)
    source, target = ranges(panel.starts[:series], kept), ranges(starts[:-1], kept)

    def moved(column: np.ndarray) -> np.ndarray:
        absent = -1 if column.dtype == np.int32 else np.nan
        rows = np.full((starts[-1], *column.shape[1:]), absent, column.dtype)
        rows[target] = column[source]
        return rows

    values = moved(panel.values)
    values[ranges(starts[:-1] + ends, np.full(series, horizon))] = np.nan
    times = wall = np.zeros(0, "datetime64[us]")
    if len(panel.times):
        times, wall = (_times(panel, clock, ends, horizon) for clock in ("times", "wall"))
    return Panel(
        panel.ids[:series],
        starts,
        values,
        panel.channels,
        {name: moved(column) for name, column in panel.known.items()},
        {name: column[:series] for name, column in panel.static.items()},
        panel.words,
        panel.frequency,
        panel.zone,
        times,
        wall,
        starts[:-1].copy() if len(times) else np.zeros(series, np.int64),
    )


def _times(panel: Panel, clock: str, ends: np.ndarray, horizon: int) -> np.ndarray:
    """The times of the rows of `_with_future`, in UTC ("times") or by their own clock ("wall")."""
    parts, after = [], {}
    for place, end in zip(panel.place.tolist(), ends.tolist(), strict=False):
        parts.append(getattr(panel, clock)[place : place + end])
        last = place + end - 1
        if last not in after:
            steps = following(pd.Timestamp(panel.times[last]), panel.frequency, horizon, panel.zone)
            if panel.zone:
                steps = steps.tz_convert("UTC") if clock == "times" else steps
                steps = steps.tz_localize(None)
            after[last] = steps.to_numpy().astype("datetime64[us]")
        parts.append(after[last])
    return np.concatenate(parts)


def _stamps(panel: Panel, ends: np.ndarray, columns: Columns, horizon: int) -> pd.DataFrame:
    index = pd.DataFrame({columns.id: np.repeat(np.array(panel.ids, object), horizon)})
    if columns.time is not None:
        rows = ranges(panel.starts[:-1] + ends, np.full(len(ends), horizon))
        stamps = pd.DatetimeIndex(panel.times[rows])
        index[columns.time] = stamps.tz_localize("UTC").tz_convert(panel.zone) if panel.zone else stamps
    return index
