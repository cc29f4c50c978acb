"""Forecasts of new rows, beyond the last one: of a table, or of the series of a panel, seen in training or not.

Letters: S series, P horizon, K target channels.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gatelab.data.messages import bars
from gatelab.data.series.protocol import Series
from gatelab.data.specs import SeriesBatch, SeriesSpec
from gatelab.tasks.contract import Remark, remark

if TYPE_CHECKING:
    import pandas as pd

TOGETHER = 1024
"""Series of a panel that are forecast in one call."""


def forecast_table(task: Any, reader: Any, file: Path) -> pd.DataFrame:
    """P rows after the last one of a table; see `ForecastTask.predict`."""
    import pandas as pd

    from gatelab.data.series.calendar import following

    spec = task.spec
    series, time = reader.read_input(file, spec)
    remark(file, series.notes)
    check_step(spec, series, file)
    if len(series.values) < spec.lookback:
        raise ValueError(f"{file}: {len(series.values)} rows, but the run looks back over {spec.lookback}")
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (spec.mean, spec.std))
    past = torch.from_numpy(series.values[-spec.lookback :].copy())
    index = list(spec.target_index)
    batch = SeriesBatch(
        ((past - mean) / std)[None].float(),
        torch.zeros(1, spec.horizon, len(index)),
        start=starts_of(series, np.array([len(series.values) - spec.lookback])),
    )
    columns = _forecast(task, batch, mean[index], std[index])
    out = pd.DataFrame({name: values[0].numpy() for name, values in columns.items()})
    if not np.isfinite(out[list(spec.targets)].to_numpy()).all():
        raise ValueError(
            f"{file}: its last {spec.lookback} rows lead to no finite forecast; they hold values of up to "
            f"{float(past.abs().max()):.3g}, far from those of training"
        )
    if time is not None and series.times is not None:
        if series.frequency:
            last = pd.Timestamp(series.times[-1])
            out.insert(0, time, following(last, series.frequency, spec.horizon, series.zone))
        else:
            warnings.warn(
                f"{file}: no dates are written, since its rows have no regular step", Remark, stacklevel=3
            )
    return out


def check_step(spec: SeriesSpec, series: Series, file: Path) -> None:
    """Raise ValueError where the rows of a table have another step than those of training."""
    from gatelab.data.series.calendar import same_step

    if spec.frequency and series.times is not None and not same_step(spec.frequency, series.frequency):
        raise ValueError(
            f"{file}: the step of its rows is {series.frequency or 'not regular'}, the run was trained on "
            f"{spec.frequency}; resample the table to {spec.frequency}, or train on its own step"
        )


def starts_of(series: Series, rows: np.ndarray) -> Tensor | None:
    """`SeriesBatch.start` of windows that begin with these rows of a table."""
    return None if series.steps is None else torch.from_numpy(series.steps[rows])


def forecast_panel(task: Any, reader: Any, file: Path, future: Path | None) -> pd.DataFrame:
    """S * P rows, P after the last one of each series; see `ForecastTask.predict`."""
    given = reader.panel_input(file, task.spec, future)
    remark(file, given.notes)
    parts: list[dict[str, Tensor]] = []
    with bars() as progress:
        tick = progress("series", len(given.ids))
        for start in range(0, len(given.ids), TOGETHER):
            some = np.arange(start, min(start + TOGETHER, len(given.ids)))
            batch = given.windows[some]
            level, spread = (t.double().unsqueeze(1) for t in (batch.level, batch.spread))
            parts.append(_forecast(task, batch, level, spread))
            tick(len(some))
    out = given.stamps.copy()
    for name in parts[0]:
        out[name] = torch.cat([part[name] for part in parts]).flatten().numpy()
    wrong = ~np.isfinite(out[list(task.spec.targets)].to_numpy()).all(axis=1)
    if wrong.any():
        one = given.ids[int(wrong.argmax()) // task.spec.horizon]
        raise ValueError(
            f"{file}: series {one!r} leads to no finite forecast; its values are far from those of training"
        )
    return out


def _forecast(task: Any, batch: SeriesBatch, level: Tensor, spread: Tensor) -> dict[str, Tensor]:
    """The columns of a forecast in original units, each [S, P] float64; level and spread broadcast to [S, P, K]."""
    levels = task.output.levels if task.calibration is None else task.calibration.levels
    with torch.inference_mode():
        answer = task.answer(batch)
        quantiles = answer.quantiles if task.calibration is not None else None
        if quantiles is None and levels:
            quantiles = task.quantiles(batch, levels)
    point, columns = answer.point.double() * spread + level, {}
    for k, name in enumerate(task.spec.targets):
        columns[name] = point[..., k]
        if quantiles is not None:
            values = quantiles[..., k, :].double() * spread[..., k : k + 1] + level[..., k : k + 1]
            columns |= {f"{name}_q{at:g}": values[..., q] for q, at in enumerate(levels)}
    return columns
