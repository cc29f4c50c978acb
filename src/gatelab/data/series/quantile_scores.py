"""Scores of forecasts that say how sure they are: quantile losses, interval scores and coverage, as sums to divide.

What is summed, of a truth y, a forecast q of its quantile at level a, and the seasonal error s of the series (mean
absolute difference of values one season apart in its training rows; Hyndman & Koehler 2006):

    quantile loss       L(q, y; a) = 2 max(a (y - q), (a - 1) (y - q))
    CRPS                mean over levels of L: the integral of L over a, on a grid (Gneiting & Raftery 2007)
    SQL                 mean over values of (mean over levels of L) / s, as fev's task metric (Shchur et al. 2025)
    WQL                 mean over levels of (sum of L / sum of |y|), over everything at once, as GIFT-Eval and GluonTS
                        (mean weighted sum quantile loss). fev takes it of each window and target, then the mean.
    MSIS                mean over values of (u - l + 2/a max(l - y, y - u, 0)) / s of the central 95 % interval [l, u],
                        a = .05 (Makridakis et al. 2020)
    coverage            share of truths within the central 50, 80 or 95 % interval

All but WQL weigh every scored value alike and divide by the seasonal error of its own series. Models
(`gatelab.tasks.series.quantile_metrics`) and baselines are scored by the same lines.

Letters: B windows, P horizon, K target channels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

LEVELS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of the quantile losses, as fev and GIFT-Eval take them."""
INTERVALS: Final = {50: (0.25, 0.75), 80: (0.1, 0.9), 95: (0.025, 0.975)}
"""Percent -> levels of the central interval."""
SCORED_LEVELS: Final = tuple(sorted({*LEVELS, *(level for pair in INTERVALS.values() for level in pair)}))
"""All that the scores ask for."""


ROUNDING: Final = 2.0**-22
"""Of a level: scaled values are kept in 32 bits, so a zero comes back as this share of it at most."""


def magnitude(scaled: Any, std: Any, mean: Any) -> Any:
    """Return `|scaled * std + mean|` of arrays or tensors, a zero as zero: figures divide by it."""
    value = abs(scaled * std + mean)
    return value * (value > ROUNDING * abs(mean))


def loss_levels(levels: Sequence[float]) -> list[float]:
    """The levels that quantile losses are taken over: those of .1 to .9 that are there, over all where none is."""
    return [level for level in levels if level in LEVELS] or list(levels)


def intervals(levels: Sequence[float]) -> list[int]:
    """The central intervals, in percent, whose both ends are among the levels."""
    return [percent for percent, pair in INTERVALS.items() if {*pair} <= {*levels}]


def quantile_sums(
    at: Callable[[float], Tensor],
    truth: Tensor,
    mask: Tensor,
    scales: tuple[Tensor, Tensor, Tensor],
    levels: Sequence[float],
) -> dict[str, Tensor]:
    """Sums over a batch of windows, for `quantile_fractions`.

    Args:
        at: level -> quantiles [B, P, K], scaled as `truth` [B, P, K], float64; mask: [B, P, K], what is scored.
        scales: mean, std and seasonal error, each [K] or [B, 1, K]: original = scaled * std + mean.

    Returns:
        `pinball` [Q, P, K] (original units), `scaled`, `interval` and `size` [P, K], `inside` [I, P, K], and the counts
        `scored` and `defined` (where there is a seasonal error) [P, K], which are int64.
    """
    mean, std, season = scales
    truth = torch.where(mask, truth, 0.0)
    defined = mask & (season > 0)

    def total(values: Tensor, where: Tensor) -> Tensor:
        return torch.where(where, values, 0.0).sum(0)

    pinball, inside = [], []
    mean_loss, interval = torch.zeros_like(truth), torch.zeros_like(truth)
    for a in (losses := loss_levels(levels)):
        distance = (truth - at(a)) * std
        loss = 2 * torch.maximum(a * distance, (a - 1) * distance)
        pinball.append(total(loss, mask))
        mean_loss += loss / len(losses)
    for percent in intervals(levels):
        low, high = (at(level) for level in INTERVALS[percent])
        below, above = low - truth, truth - high
        inside.append(total(((below <= 0) & (above <= 0)).to(torch.float64), mask))
        if percent == 95:
            missed = (below.clamp(min=0) + above.clamp(min=0)) * 2 / (1 - percent / 100)
            interval = (high - low + missed) * std / season
    return {
        "pinball": torch.stack(pinball),
        "inside": torch.stack(inside) if inside else truth.new_zeros(0, *truth.shape[1:]),
        "scaled": total(mean_loss / season, defined),
        "interval": total(interval, defined),
        "size": total(magnitude(truth, std, mean), mask),
        "scored": mask.sum(0),
        "defined": defined.sum(0),
    }


def quantile_fractions(
    sums: Mapping[str, Tensor], levels: Sequence[float]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Figure -> what is divided by what, each [P, K]; the figure is the quotient of both sums over P and K.

    `sql`, `wql`, `crps` (original units), `msis`, `coverage_50`, `coverage_80`, `coverage_95` (shares). Absent are SQL
    and MSIS where no series has a seasonal error, WQL where all truths are zero, and what the levels do not reach.
    """
    loss, known = sums["pinball"].mean(0), intervals(levels)
    found = {"crps": (loss, sums["scored"])}
    if sums["size"].any():
        found = {"wql": (loss, sums["size"]), **found}
    if sums["defined"].any():
        found = {"sql": (sums["scaled"], sums["defined"]), **found}
        if 95 in known:
            found["msis"] = sums["interval"], sums["defined"]
    for percent, inside in zip(known, sums["inside"], strict=True):
        found[f"coverage_{percent}"] = inside, sums["scored"]
    return found
