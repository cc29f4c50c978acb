"""Quantiles around any forecast from its errors on other windows: split conformal prediction, per horizon step.

A forecast q of the quantile at level a (or a point forecast, taken for every level) is moved by the a-quantile of
y - q over calibration windows, with the rank of a finite sample:

    c_a = the ceil((n + 1) a)-th smallest of the n errors for a >= 1/2, the floor((n + 1) a)-th for a < 1/2

Where calibration and new windows are exchangeable, P(y <= q + c_a) >= a above and <= a below the median, so a central
interval covers at least what it says: Vovk et al. 2005; for quantile forecasts Romano et al. 2019 (conformalized
quantile regression, theorem 2). With fewer windows than a level needs, the largest error stands for it.

Dimensions: `n` calibration windows, `P` horizon, `K` targets, `Q` levels.
"""

from collections.abc import Sequence

import numpy as np


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
