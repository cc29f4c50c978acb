"""What a forecaster gives `gatelab explain`: windows of the validation split or of a table, with their calendar.

Letters: N windows, Lb look-back, C channels, P horizon, K targets; R rows of the core (N, or N times K where channels
are independent), S steps of the core (Lb / patch).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatelab.data.specs import SeriesBatch
from gatelab.tasks.contract import RunSource
from gatelab.tasks.explanation.reading import Part, Prediction, Reading, cropped, powers
from gatelab.tasks.series.new_rows import check_step, starts_of

WINDOWS, SHOWN = 192, 4
"""Windows that are read, and rows that are shown."""
BINS = 20
"""Groups of the value that was just read."""


def read_windows(task: Any, run: RunSource, file: Path | None) -> Reading:
    """Windows at random places of the validation split, or of `file`, for `Task.reading`.

    Raises ValueError on a file that is too short or of another kind.
    """
    batch, times = _validation(run.data) if file is None else _of_file(task.spec, run.reader, file)
    batch = task.on_device(batch)
    net, spec = task.net, task.spec
    patch = int(getattr(net, "patch", 1))
    rows = len(spec.targets) if getattr(net, "channel_independent", False) else 1
    values, steps = _as_read(batch, spec, patch, rows), spec.lookback // patch
    probes = {name: np.repeat(one, rows, axis=0) for name, one in calendar(times, patch, steps).items()}
    probes["steps since the window began"] = np.tile(np.arange(steps, dtype=float), (len(values), 1))
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    labels = _labels(times, patch, steps, len(batch.past))

    def losses() -> Tensor:
        each: Tensor = task.window_losses(batch)
        return each

    def carried(k: int) -> tuple[Tensor, Tensor]:
        whole = losses()
        with cropped(net.core, k + 1):
            return losses(), whole

    where = "the validation split" if file is None else file
    return Reading(
        note=f"{len(batch.past)} windows of {where}, {spec.lookback} steps of the past and {spec.horizon} to forecast.",
        unit="standardised" if task.distribution is None else "nats or quantile loss",
        losses=losses,
        parts=[
            Part(
                "core",
                net.core,
                [label for label in labels for _ in range(rows)][:SHOWN],
                "series",
                probes,
                np.digitize(values, edges),
                {"value read, of its window's mean": values[:SHOWN]},
            )
        ],
        carried=carried,
        contexts=powers(steps - 1),
        context_unit="steps" if patch == 1 else f"patches of {patch} steps",
        prediction=_prediction(task, batch.each(lambda part: part[:1]), times[0] if times else None),
    )


def _validation(data: Any) -> tuple[SeriesBatch, list[list[str] | None]]:
    """Some windows, and the times of their rows."""
    count = data.spec.windows["valid"]
    chosen = np.sort(np.random.default_rng(0).permutation(count)[:WINDOWS])
    found, start = [], 0
    for batch in data.dataloader("valid"):
        here = torch.from_numpy(chosen[(chosen >= start) & (chosen < start + len(batch.past))] - start)
        found.append(batch.each(lambda part, here=here: part[here]))
        start += len(batch.past)
    whole: list[Any] = [None if parts[0] is None else torch.cat(parts) for parts in zip(*found, strict=True)]
    return SeriesBatch(*whole), [data.times("valid", int(window)) for window in chosen]


def _of_file(spec: Any, reader: Any, file: Path) -> tuple[SeriesBatch, list[list[str] | None]]:
    if not hasattr(reader, "read_input"):
        raise ValueError("only windows of a table can be read from a file; leave --input out")
    series, _ = reader.read_input(file, spec)
    check_step(spec, series, file)
    need = spec.lookback + spec.horizon
    if len(series.values) < need:
        raise ValueError(
            f"{file}: {len(series.values)} rows; a window with what is to be forecast needs {need}"
        )
    room = len(series.values) - need + 1
    starts = np.sort(np.random.default_rng(0).permutation(room)[:WINDOWS])
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (spec.mean, spec.std))
    scaled = ((torch.from_numpy(series.values.copy()) - mean) / std).float()
    windows = torch.stack([scaled[start : start + need] for start in starts])
    past, future = windows[:, : spec.lookback], windows[:, spec.lookback :, list(spec.target_index)]
    batch = SeriesBatch(past, future, start=starts_of(series, starts))
    if series.times is None:
        return batch, [None] * len(starts)
    texts = series.shown_times()
    return batch, [texts[start : start + need] for start in starts]


def _as_read(batch: SeriesBatch, spec: Any, patch: int, rows: int) -> np.ndarray:
    """The mean of each patch [R, S] of a row's own channel, or of the first target, from its window's mean."""
    channels = list(spec.target_index) if rows > 1 else [spec.target_index[0]]
    past = batch.past[..., channels].cpu()
    moved = past - past.mean(1, keepdim=True)
    return moved.unflatten(1, (-1, patch)).mean(2).transpose(1, 2).flatten(0, 1).double().numpy()


def calendar(times: list[list[str] | None], patch: int, steps: int) -> dict[str, np.ndarray]:
    """Hour of the day, day of the week (0: Monday) and month of the last row of each patch, [N, S]; those that vary."""
    if not times or times[0] is None:
        return {}
    ends = np.array(
        [(window or ["NaT"] * steps * patch)[: steps * patch][patch - 1 :: patch] for window in times]
    )
    moments = ends.astype("datetime64[m]")
    missing = np.isnat(moments)
    days = moments.astype("datetime64[D]")
    found = {
        "hour of the day": (moments - days).astype("timedelta64[h]").astype(float),
        "day of the week": (days.astype("int64") + 3) % 7 + 0.0,
        "month": moments.astype("datetime64[M]").astype("int64") % 12 + 1.0,
    }
    return {name: np.where(missing, np.nan, values) for name, values in found.items()}


def _labels(times: list[list[str] | None], patch: int, steps: int, windows: int) -> list[list[str]]:
    """The time of each patch's first row, or its number."""
    numbers = [str(step * patch) for step in range(steps)]
    known = times or [None] * windows
    return [numbers if one is None else one[: steps * patch : patch] for one in known]


def _prediction(task: Any, one: SeriesBatch, times: list[str] | None) -> Prediction:
    """The last step of the forecast of the first target in one window; compared with the window's mean."""
    spec = task.spec
    past = one.past[0]
    baseline = past.mean(0, keepdim=True).expand_as(past).clone()

    def score(x: Tensor) -> Tensor:
        return task.output.point(task.parameters_of(one._replace(past=x[None])))[0, -1, 0]

    steps = [str(step) for step in range(len(past))] if times is None else times[: len(past)]
    note = (
        f"The forecast of {spec.targets[0]}, {spec.horizon} steps ahead of a window of the validation split, scaled; "
        "the baseline is the window's mean at every step."
    )
    return Prediction(note, score, past, baseline, steps, "series", spec.channels)
