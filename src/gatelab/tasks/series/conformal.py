"""Conformal intervals: a finished forecaster's quantiles, moved by its errors on the validation split.

Split conformal prediction, and for quantile forecasts conformalized quantile regression (Romano et al. 2019), per
level, horizon step and target, pooled over windows and series on the network's scale; the rule is in
`gatelab.data.series.scores`. Coverage holds as far as validation and new windows are exchangeable, so it is shown
beside. The calibrated quantiles are sorted, hence never cross.

Letters: B windows, P horizon, K target channels, Q levels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from gatelab.data.series.scores import SCORED_LEVELS, error_quantile
from gatelab.data.specs import SeriesBatch

MOST_WINDOWS: Final = 2048
"""Evenly spaced validation windows that are used; more make the ranks no finer than anyone needs."""


class Conformal(NamedTuple):
    """A calibration: quantile at level a = forecast at the nearest level that the output has + shift.

    levels: Q; shifts: [Q, P, K] float64, on the network's scale; windows: how many they were taken from.
    """

    levels: tuple[float, ...]
    shifts: Tensor
    windows: int

    def quantiles(self, forecast: Callable[[Sequence[float]], Tensor], own: Sequence[float] | None) -> Tensor:
        """Return the calibrated quantiles [B, P, K, Q].

        forecast: levels -> the model's own quantiles; own: the levels that its output has, see `nearest`.
        """
        raw = forecast([nearest(level, own) for level in self.levels])
        moved = raw.to(torch.float64) + self.shifts.to(raw.device).movedim(0, -1)
        return moved.sort(dim=-1).values

    def to_dict(self) -> dict[str, Any]:
        """The calibration as plain data."""
        return {"levels": list(self.levels), "windows": self.windows, "shifts": self.shifts.tolist()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], shape: Sequence[int]) -> Self:
        """What `to_dict` returned, for forecasts of `shape` (P, K).

        Raises:
            ValueError: it is not one of such forecasts.
        """
        levels = tuple(map(float, plain["levels"]))
        shifts = torch.tensor(plain["shifts"], dtype=torch.float64)
        if list(shifts.shape) != [len(levels), *shape] or not bool(shifts.isfinite().all()):
            raise ValueError(f"the calibration is {list(shifts.shape)}, not {[len(levels), *shape]}")
        return cls(levels, shifts, int(plain["windows"]))


def nearest(level: float, own: Sequence[float] | None) -> float:
    """The level that is forecast in place of `level`: itself within the range of `own` (None: everywhere)."""
    return level if own is None else min(max(level, min(own)), max(own))


def fit_conformal(
    forecast: Callable[[SeriesBatch, Sequence[float]], Tensor],
    data: Any,
    own: Sequence[float] | None,
    levels: Sequence[float] = SCORED_LEVELS,
) -> Conformal:
    """Calibrate on the validation split.

    Args:
        forecast: a batch and levels -> the model's own quantiles [B, P, K, Q].
        data: the DataModule; `dataloader("valid")` yields `SeriesBatch`es.
        own: as `Conformal.quantiles`. A point forecast has the one level .5.

    Raises:
        ValueError: there are too few windows for the outermost level, or too few of them have a truth at some step.
    """
    total = int(data.spec.windows["valid"])
    kept = np.unique(np.linspace(0, total - 1, min(total, MOST_WINDOWS)).astype(int))
    need = round(1 / min(min(levels), 1 - max(levels))) - 1
    if len(kept) < need:
        raise ValueError(
            f"conformal intervals need at least {need} validation windows for level {min(levels)}, and there are "
            f"{total}; give a larger validation split"
        )
    asked = sorted({nearest(level, own) for level in levels})
    errors, first = [], 0
    for batch in data.dataloader("valid"):
        rows = torch.from_numpy(kept[(kept >= first) & (kept < first + len(batch.past))] - first)
        first += len(batch.past)
        if len(rows):
            part = batch.each(lambda values, rows=rows: values[rows])
            error = part.future[..., None] - forecast(part, asked)
            if part.scored is not None:
                error = error.masked_fill(~part.scored[..., None], torch.nan)
            errors.append(error.float().cpu().numpy())
    found = np.concatenate(errors)
    known = np.isfinite(found).all(-1).sum(0)  # [P, K]
    if (least := int(known.min())) < need:
        step, target = np.unravel_index(known.argmin(), known.shape)
        raise ValueError(
            f"conformal intervals need at least {need} validation windows with a truth at every step for level "
            f"{min(levels)}, and step {step + 1} of target {target + 1} has {least} (the others are missing); "
            "give a larger validation split"
        )
    shifts = [error_quantile(found[..., asked.index(nearest(level, own))], level) for level in levels]
    return Conformal(tuple(levels), torch.from_numpy(np.stack(shifts)).double(), len(kept))
