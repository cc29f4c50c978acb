"""What is shown of a forecaster: its forecasts, and where it errs on the validation split, beside trivial models.

A window has the past, the truth where it is known, forecast and intervals, in original units. Every error is one of
`ForecastError`: sums over the windows and one division.

Letters: P horizon, K targets, Q levels.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from gatelab.data.series.protocol import Series
from gatelab.data.series.scores import INTERVALS
from gatelab.data.specs import SeriesBatch, SeriesSpec
from gatelab.tasks.contract import Band, CurveSample, Sample, SeriesSample, TableSample, Window
from gatelab.tasks.metrics import ForecastError

if TYPE_CHECKING:
    import pandas as pd

    from gatelab.data.panel.new_rows import PanelInput

BANDS = (95, 80, 50)
"""Percent of the intervals that are drawn, the widest first."""
COMPARED: Final = ("seasonal_naive", "linear")
"""The trivial models that stand beside the errors."""
MOST_WINDOWS: Final = 4096
"""Windows of the validation split that are scored, whole batches, evenly spaced."""
WORST: Final = 10


def shown_window(
    start: int,
    batch: SeriesBatch,
    answer: Any,
    levels: Sequence[float] | None,
    spec: SeriesSpec,
    target: int = 0,
) -> Window:
    """A target of a batch's first window: twice the horizon of the past, truth, forecast and intervals.

    levels: of the answer's quantiles [B, P, K, Q].
    """
    channel = spec.target_index[target]
    level, spread = spec.mean[channel], spec.std[channel]
    if batch.level is not None and batch.spread is not None:
        level, spread = float(batch.level[0, target]), float(batch.spread[0, target])

    def original(values: torch.Tensor) -> list[float]:
        return (values.double() * spread + level).tolist()

    places = {} if answer.quantiles is None else {round(a, 6): place for place, a in enumerate(levels or ())}
    bands = tuple(
        Band(percent, *(original(answer.quantiles[0, :, target, places[a]]) for a in INTERVALS[percent]))
        for percent in BANDS
        if all(a in places for a in INTERVALS[percent])
    )
    past, truth, point = (
        batch.past[0, -2 * spec.horizon :, channel],
        batch.future[0, :, target],
        answer.point[0, :, target],
    )
    return Window(start, original(past), original(truth), original(point), None, bands)


def predicted_samples(series: Series, frame: "pd.DataFrame", spec: SeriesSpec) -> list[SeriesSample]:
    """What was predicted after the last row of a table, with the rows before it: a sample a target.

    series: the rows that were read; frame: what `predict` made of them, whose quantiles are `NAME_q0.1` ...
    """
    steps, shown = min(len(series.values), 2 * spec.horizon), []
    stamps = [name for name in frame.columns if name not in spec.targets and frame[name].dtype.kind == "M"]
    times: list[str] | None = None
    if stamps and series.times is not None:
        ahead = frame[stamps[0]].dt.tz_localize(None).to_numpy().astype("datetime64[m]")
        times = [*series.shown_times(slice(-steps, None)), *np.datetime_as_string(ahead).tolist()]
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


def error_samples(task: Any, data: Any) -> list[Sample]:
    """The error at each horizon step, and the series (of one table, the targets) with the largest error.

    Empty where the DataModule has no trivial models (`trivial`) or no scale for MASE.
    """
    if not hasattr(data, "trivial"):
        return []
    errors, windows = _errors(task, data)
    total = task.spec.windows["valid"]
    extent = f"{windows:,} {'of ' + format(total, ',') + ' ' if windows < total else ''}windows of the validation split"
    found: list[Sample] = []
    steps = {name: error.per_step().get("mase", []) for name, error in errors.items()}
    if task.spec.horizon > 1 and all(steps.values()):
        found.append(CurveSample(f"Errors by horizon step: {extent}.", "MASE", "steps ahead", steps))
    names = data.series_names if task.spec.series else task.spec.targets
    each = {
        name: error.per_series() if task.spec.series else error.per_target().get("mase", [])
        for name, error in errors.items()
    }
    if len(names) > 1 and all(each.values()):
        found.append(_worst("series" if task.spec.series else "target", names, each, extent))
    return found


def _errors(task: Any, data: Any) -> tuple[dict[str, ForecastError], int]:
    """The errors of the task ("this run") and of the trivial models over the same windows, and their number."""
    spec = task.spec
    errors = {name: ForecastError(**task.scales, series=spec.series) for name in ("forecaster", *COMPARED)}
    batches = math.ceil(spec.windows["valid"] / data.eval_batch_size)
    most = max(1, MOST_WINDOWS // data.eval_batch_size)
    kept = set(np.linspace(0, batches - 1, min(batches, most)).astype(int).tolist())
    first = 0
    for place, batch in enumerate(data.dataloader("valid")):
        numbers = np.arange(first, first + len(batch.past))
        first += len(numbers)
        if place not in kept:
            continue
        with torch.inference_mode():
            point = task.output.point(task.parameters_of(task.on_device(batch))).cpu()
        said = {"forecaster": point}
        said |= {n: torch.from_numpy(p) for n, p in data.trivial("valid", numbers).items() if n in COMPARED}
        for name, forecast in said.items():
            errors[name].update(forecast, batch.future, batch.scored, **batch.scales, series=batch.series)
    return errors, int(errors["forecaster"].windows)


def _worst(what: str, names: Any, each: dict[str, list[float]], extent: str) -> TableSample:
    """The names with the largest MASE of the forecaster; those that have none are left out."""
    own = each["forecaster"]
    order = sorted((place for place, value in enumerate(own) if math.isfinite(value)), key=lambda i: -own[i])
    rows = [
        (str(names[place]), *(f"{values[place]:.3f}" for values in each.values())) for place in order[:WORST]
    ]
    note = f"The {what} with the largest MASE, {len(rows)} of {len(order):,}: {extent}."
    columns = (what, *(name.replace("_", " ") for name in each))
    return TableSample(note, columns, tuple(rows))
