"""Where a forecaster errs: by horizon step and by series, on the validation split, beside trivial models.

Every figure is one of `ForecastError`: sums over the windows and one division.

Letters: P horizon.
"""

import math
from typing import Any, Final

import numpy as np
import torch

from gatelab.tasks.contract import CurveSample, Sample, TableSample
from gatelab.tasks.metrics import ForecastError

COMPARED: Final = ("seasonal_naive", "linear")
"""The trivial models that stand beside."""
MOST_WINDOWS: Final = 4096
"""Windows of the validation split that are scored, whole batches, evenly spaced."""
WORST: Final = 10


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
        rows = {"level": batch.level, "spread": batch.spread, "mase_scale": batch.mase_scale}
        for name, forecast in said.items():
            errors[name].update(forecast, batch.future, batch.scored, **rows, series=batch.series)
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
