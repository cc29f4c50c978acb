"""Forecasts as a picture shows them: past, truth where it is known, forecast and intervals, in original units.

Letters: P horizon, K targets, Q levels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from gatelab.data.series.protocol import Series
from gatelab.data.series.scores import INTERVALS
from gatelab.data.specs import SeriesBatch, SeriesSpec
from gatelab.tasks.contract import Band, SeriesSample, Window

if TYPE_CHECKING:
    import pandas as pd

    from gatelab.data.panel.new_rows import PanelInput

BANDS = (95, 80, 50)
"""Percent of the intervals that are drawn, the widest first."""


def shown_window(
    start: int, batch: SeriesBatch, answer: Any, levels: Sequence[float] | None, spec: SeriesSpec
) -> Window:
    """The first target of a batch's first window: twice the horizon of the past, truth, forecast and intervals.

    levels: of the answer's quantiles [B, P, K, Q].
    """
    channel = spec.target_index[0]
    level, spread = spec.mean[channel], spec.std[channel]
    if batch.level is not None and batch.spread is not None:
        level, spread = float(batch.level[0, 0]), float(batch.spread[0, 0])

    def original(values: torch.Tensor) -> list[float]:
        return (values.double() * spread + level).tolist()

    places = {} if answer.quantiles is None else {round(a, 6): place for place, a in enumerate(levels or ())}
    bands = tuple(
        Band(percent, *(original(answer.quantiles[0, :, 0, places[a]]) for a in INTERVALS[percent]))
        for percent in BANDS
        if all(a in places for a in INTERVALS[percent])
    )
    past, truth, point = (
        batch.past[0, -2 * spec.horizon :, channel],
        batch.future[0, :, 0],
        answer.point[0, :, 0],
    )
    return Window(start, original(past), original(truth), original(point), None, bands)


def predicted_samples(series: Series, frame: "pd.DataFrame", spec: SeriesSpec) -> list[SeriesSample]:
    """What was predicted after the last row of a table, with the rows before it: a sample a target.

    series: the rows that were read; frame: what `predict` made of them, whose quantiles are `NAME_q0.1` ...
    """
    import numpy as np

    steps, shown = min(len(series.values), 2 * spec.horizon), []
    stamps = [name for name in frame.columns if name not in spec.targets and frame[name].dtype.kind == "M"]
    times: list[str] | None = None
    if stamps and series.times is not None:
        ahead = frame[stamps[0]].dt.tz_localize(None).to_numpy()
        all_times = np.concatenate([series.times[-steps:], ahead]).astype("datetime64[m]")
        times = np.datetime_as_string(all_times).tolist()
    for target in spec.targets:
        past = series.values[-steps:, series.channels.index(target)].tolist()
        window = Window(
            len(series.values), past, [], frame[target].tolist(), times, _bands_of_columns(frame, target)
        )
        note = f"{spec.horizon} steps after row {len(series.values):,}"
        shown.append(SeriesSample(note, target, "time" if times else "row", (window,)))
    return shown


def predicted_series(given: "PanelInput", frame: "pd.DataFrame", spec: SeriesSpec) -> list[SeriesSample]:
    """What was predicted after the last row of each series of a panel: as `predicted_samples`, for every series."""
    import numpy as np

    panel, shown = given.panel, []
    for number, (name, end) in enumerate(zip(given.ids, given.ends.tolist(), strict=True)):
        begin, steps = int(panel.starts[number]), min(end, 2 * spec.horizon)
        rows = frame.iloc[number * spec.horizon : (number + 1) * spec.horizon]
        times: list[str] | None = None
        if len(panel.wall):
            place = int(panel.place[number])
            stamps = panel.wall[place + end - steps : place + end + spec.horizon].astype("datetime64[m]")
            times = np.datetime_as_string(stamps).tolist()
        for k, target in enumerate(spec.targets):
            past = panel.values[begin + end - steps : begin + end, k].tolist()
            window = Window(end, past, [], rows[target].tolist(), times, _bands_of_columns(rows, target))
            note = f"{name}: {spec.horizon} steps after its row {end:,}"
            shown.append(SeriesSample(note, target, "time" if times else "row", (window,)))
    return shown


def _bands_of_columns(frame: "pd.DataFrame", target: str) -> tuple[Band, ...]:
    names = {percent: [f"{target}_q{level:g}" for level in INTERVALS[percent]] for percent in BANDS}
    return tuple(
        Band(percent, *(frame[name].tolist() for name in pair))
        for percent, pair in names.items()
        if all(name in frame for name in pair)
    )
