"""The Lorenz (1963) system as a series: three channels of deterministic chaos, to test forecasters without
noise.

    x' = 10 (y - x),    y' = x (28 - z) - y,    z' = x y - 8/3 z

Classical Runge-Kutta of order four in plain Python floats: one operation at a time, so the trajectory has the
same bits on every machine (chaos would blow up the smallest difference). The start depends on the seed; the
first steps are discarded.

Dimensions: `N` steps.
"""

import hashlib
import random
from typing import Final

import numpy as np

from gatelab.data.series import Series

_SIGMA, _RHO, _BETA = 10.0, 28.0, 8.0 / 3.0
_STEP: Final = 0.02
_DISCARDED: Final = 1000

State = tuple[float, float, float]


def _slope(state: State) -> State:
    x, y, z = state
    return _SIGMA * (y - x), x * (_RHO - z) - y, x * y - _BETA * z


def _moved(state: State, slope: State, by: float) -> State:
    return state[0] + by * slope[0], state[1] + by * slope[1], state[2] + by * slope[2]


def _next(state: State) -> State:
    a = _slope(state)
    b = _slope(_moved(state, a, _STEP / 2))
    c = _slope(_moved(state, b, _STEP / 2))
    d = _slope(_moved(state, c, _STEP))
    mean = tuple((a[i] + 2 * b[i] + 2 * c[i] + d[i]) / 6 for i in range(3))
    return _moved(state, (mean[0], mean[1], mean[2]), _STEP)


def lorenz_series(seed: int = 0, steps: int = 10_000) -> Series:
    """Return `[steps, 3]` samples, 0.02 time units apart; the start is drawn from `seed`."""
    draw = random.Random(seed)
    state: State = (draw.uniform(-5, 5), draw.uniform(-5, 5), draw.uniform(20, 30))
    rows = []
    for step in range(_DISCARDED + steps):
        state = _next(state)
        if step >= _DISCARDED:
            rows.append(state)
    values = np.array(rows)
    return Series(
        values=values,
        channels=("x", "y", "z"),
        fingerprint={"lorenz": hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()},
        notes=[f"synthetic: {steps:,} steps of {_STEP} time units from seed {seed}"],
    )
