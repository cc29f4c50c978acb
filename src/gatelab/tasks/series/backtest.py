"""Rolling origin: a forecaster and the trivial models scored over the same origins, by window and by horizon step.

Each window is scored alone and all of them together, with sums and one division; every error is divided by the seasonal
error of the rows before its own origin.

Letters: B windows of one origin, N origins, P horizon, K targets, Q levels.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gatelab.data.series.rolling import BaselineForecast, RollingWindow
from gatelab.data.specs import SeriesBatch
from gatelab.tasks.metrics import ForecastError
from gatelab.tasks.series.quantile_metrics import QuantileError

SHOWN = ("mae_original", "mase", "smape", "sql", "wql", "msis", "coverage_80", "coverage_95")
"""Figures of a table by window."""
TOGETHER = 1024
"""Windows that are forecast in one call."""


class Answer(NamedTuple):
    """What a forecaster says to a batch, scaled.

    point: [B, P, K]; quantiles: [B, P, K, Q] at the levels of the quantile metric, and crps: [B, P, K], or None.
    """

    point: Tensor
    quantiles: Tensor | None
    crps: Tensor | None


class Scores:
    """The figures of points and, where levels are given, of quantiles; `scales` as `ForecastError` takes them."""

    def __init__(self, scales: Mapping[str, Any], levels: Sequence[float] | None) -> None:
        self.points = ForecastError(**scales)
        self.quantiles = None if levels is None else QuantileError(levels, **scales)

    def add(self, batch: SeriesBatch, answer: Answer) -> None:
        """Add an answer to a batch."""
        self.points.update(answer.point, batch.future, batch.scored, **batch.scales)
        if self.quantiles is not None and answer.quantiles is not None:
            self.quantiles.update(
                answer.quantiles, batch.future, batch.scored, **batch.scales, crps=answer.crps
            )

    def figures(self) -> dict[str, float]:
        """All figures."""
        found = self.points.compute() | ({} if self.quantiles is None else self.quantiles.compute())
        return {name: float(value) for name, value in found.items()}

    def per_step(self) -> dict[str, list[float]]:
        """The figures that are kept of each horizon step."""
        return self.points.per_step() | ({} if self.quantiles is None else self.quantiles.per_step())

    def per_target(self) -> dict[str, list[float]]:
        """The figures that are kept of each target."""
        return self.points.per_target() | ({} if self.quantiles is None else self.quantiles.per_target())


def in_parts(answer: Callable[[SeriesBatch], Answer], batch: SeriesBatch) -> Answer:
    """The answer to a batch of any size, `TOGETHER` windows at a time."""
    starts = range(0, len(batch.past), TOGETHER)
    parts = [answer(batch.each(itemgetter(slice(start, start + TOGETHER)))) for start in starts]
    return Answer(*(None if part[0] is None else torch.cat(part) for part in zip(*parts, strict=True)))  # type: ignore[arg-type]


def backtest(
    windows: Sequence[RollingWindow],
    answer: Callable[[RollingWindow], tuple[SeriesBatch, Answer]],
    scales: Mapping[str, Any],
    levels: Sequence[float] | None,
    baselines: Mapping[str, BaselineForecast],
) -> dict[str, Any]:
    """Score the answers to all windows.

    Args:
        answer: a window -> the batch that is scored (with level, spread and seasonal error) and the answer to it.
        scales, levels: as `Scores` takes them.
        baselines: by name; they are asked for the place of a window.

    Returns:
        `windows` (a list of `row`, `time`, `metrics` and `per_target`), `metrics`, `unlisted` and `per_step` of all
        together, `baselines` (name -> metrics of all together), `shown` (names for a table).
    """
    total, found = Scores(scales, levels), []
    for window in windows:
        batch, said = answer(window)
        alone = Scores(scales, levels)
        for scores in (alone, total):
            scores.add(batch, said)
        facts = {"row": window.row, "time": window.time}
        found.append({**facts, "metrics": alone.figures(), "per_target": alone.per_target()})
    figures = total.figures()
    return {
        "windows": found,
        "metrics": figures,
        "per_step": total.per_step(),
        "unlisted": {"mape": total.points.mape()},
        "baselines": {name: _of_baseline(windows, scales, model) for name, model in baselines.items()},
        "shown": [name for name in SHOWN if name in figures],
    }


def _of_baseline(
    windows: Sequence[RollingWindow], scales: Mapping[str, Any], model: BaselineForecast
) -> dict[str, float]:
    scores = Scores(scales, model.levels)
    for place, window in enumerate(windows):
        point, quantiles = map(torch.from_numpy, model.answer(place))
        scores.add(window.batch, Answer(point, quantiles, None))
    return scores.figures()
