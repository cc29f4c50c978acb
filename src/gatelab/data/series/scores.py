"""Scores of forecasts, as sums to divide: models (`gatelab.tasks`) and baselines are scored by the same lines.

Of a truth y, a point forecast f, a forecast q of the quantile at level a, and the seasonal error s of the series (mean
absolute difference of values one season apart in its training rows; Hyndman & Koehler 2006):

    MSE, MAE            mean over values of (f - y)^2, |f - y|: scaled, and in original units
    MASE                mean over values of |f - y| / s
    sMAPE               mean over values of 200 |f - y| / (|f| + |y|), percent; 0 where both are 0
    ND                  sum of |f - y| / sum of |y|
    quantile loss       L(q, y; a) = 2 max(a (y - q), (a - 1) (y - q))
    CRPS                mean over levels of L: the integral of L over a, on a grid (Gneiting & Raftery 2007)
    SQL                 mean over values of (mean over levels of L) / s, as fev's task metric (Shchur et al. 2025)
    WQL                 mean over levels of (sum of L / sum of |y|), over everything at once, as GIFT-Eval and GluonTS
                        (mean weighted sum quantile loss). fev takes it of each window and target, then the mean.
    MSIS                mean over values of (u - l + 2/a max(l - y, y - u, 0)) / s of the central 95 % interval [l, u],
                        a = .05 (Makridakis et al. 2020)
    coverage            share of truths within the central 50, 80 or 95 % interval

All but ND and WQL weigh every scored value alike and divide by the seasonal error of its own series.

Quantiles around any forecast come from its errors on other windows: split conformal prediction, per horizon step. A
forecast q of the quantile at level a (or a point forecast, taken for every level) is moved by the a-quantile of y - q
over calibration windows, with the rank of a finite sample:

    c_a = the ceil((n + 1) a)-th smallest of the n errors for a >= 1/2, the floor((n + 1) a)-th for a < 1/2

Where calibration and new windows are exchangeable, P(y <= q + c_a) >= a above and <= a below the median, so a central
interval covers at least what it says: Vovk et al. 2005; for quantile forecasts Romano et al. 2019 (conformalized
quantile regression, theorem 2). With fewer windows than a level needs, the largest error stands for it.

Letters: B windows, P horizon, K target channels, Q levels, n calibration windows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
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


def point_errors(
    forecast: Tensor, truth: Tensor, mask: Tensor, scales: tuple[Tensor, Tensor, Tensor]
) -> dict[str, Tensor]:
    """Errors of point forecasts [B, P, K] of truths, both scaled, float64; their sums are for `point_fractions`.

    mask, scales: as `quantile_sums` takes them.
    """
    mean, std, season = scales
    error = torch.where(mask, forecast - truth, 0.0)
    distance, size = (error * std).abs(), torch.where(mask, magnitude(truth, std, mean), 0.0)
    both = size + magnitude(forecast, std, mean)
    defined, nonzero = mask & (season > 0), size > 0
    return {
        "squared": error.square(),
        "absolute": error.abs(),
        "squared_original": distance.square(),
        "absolute_original": distance,
        "scaled": torch.where(defined, distance / season, 0.0),
        "relative": torch.where(both > 0, 200.0 * distance / both, 0.0),
        "ratio": torch.where(nonzero, distance / size, 0.0),
        "size": size,
        "scored": mask,
        "defined": defined,
        "nonzero": nonzero,
    }


def point_fractions(sums: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Figure -> what is divided by what; the figure is the quotient of both sums over all that they have.

    `mse`, `mae`, `mse_original`, `mae_original`, `mase`, `smape`, `nd`. Absent are MASE where no series has a seasonal
    error, and ND where all truths are zero.
    """
    scored = sums["scored"]
    return {
        "mse": (sums["squared"], scored),
        "mae": (sums["absolute"], scored),
        "mse_original": (sums["squared_original"], scored),
        "mae_original": (sums["absolute_original"], scored),
        **({"mase": (sums["scaled"], sums["defined"])} if sums["defined"].any() else {}),
        "smape": (sums["relative"], scored),
        **({"nd": (sums["absolute_original"], sums["size"])} if sums["size"].any() else {}),
    }


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


def error_quantile(errors: np.ndarray, level: float) -> np.ndarray:
    """Return c_a `[P, K]` of errors `[n, P, K]`; NaN are errors that are not known. 0 where none is."""
    count = np.isfinite(errors).sum(axis=0)
    exact = (count + 1) * level
    # a product like 10 * 0.7 may lie a rounding error beside a whole number
    rank = np.ceil(exact - 1e-9) if level >= 0.5 else np.floor(exact + 1e-9)
    place = np.clip(rank.astype(np.int64), 1, np.maximum(count, 1)) - 1
    if not len(errors):
        return np.zeros(errors.shape[1:])
    found = np.take_along_axis(np.sort(errors, axis=0), place[None], axis=0)[0]
    return np.where(count > 0, found, 0.0)


def error_quantiles(errors: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Return c_a `[Q, P, K]` of the errors `[n, P, K]` of a point forecast."""
    return np.stack([error_quantile(errors, level) for level in levels])
