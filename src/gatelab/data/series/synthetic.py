"""Two series made from a seed, for runs without a network: the embedded series and the Lorenz system.

**Embedded**: four hourly channels with daily and weekly cycles. "cloud" and "temperature" are weather with AR(1)
noise; "demand" follows temperature with a lag of six hours through a threshold (cooling above, heating below), and
"price" follows demand two hours later. So a model that looks at the other channels can beat the naive forecasts. The
bits do not depend on the processor: the noise is a sum of integers, sines are tabled once and everything is
rounded to three decimals.

**Lorenz** (1963): three channels of deterministic chaos, to test forecasters without noise.

    x' = 10 (y - x),    y' = x (28 - z) - y,    z' = x y - 8/3 z

Classical Runge-Kutta of order four in plain Python floats: one operation at a time, so the trajectory has the
same bits on every machine (chaos would blow up the smallest difference). The start depends on the seed; the
first steps are discarded.

Dimensions: `N` hours or steps.
"""

import hashlib
import math
import random
from typing import Final

import numpy as np

from gatelab.data.series.protocol import Series

HOURS: Final = 24 * 7 * 52
CHANNELS: Final = ("cloud", "temperature", "demand", "price")
_FIRST_HOUR: Final = "2020-01-06T00"  # a Monday


def _noise(generator: np.random.Generator, hours: int) -> np.ndarray:
    """Return nearly normal noise `[N]`: twelve uniform 16-bit integers summed (Irwin-Hall).

    Exact in float64.
    """
    return generator.integers(0, 65536, size=(hours, 12)).sum(axis=1) / 65536 - 6 + 12 / 131072


def _autoregressive(noise: np.ndarray, coefficient: float) -> np.ndarray:
    """Return x_t = coefficient x_{t-1} + noise_t, started at zero, in plain float arithmetic."""
    state, out = 0.0, np.empty(len(noise))
    for t, shock in enumerate(noise.tolist()):
        state = coefficient * state + shock
        out[t] = state
    return out


def _cycle(hours: int, period: int, phase: int) -> np.ndarray:
    """Return a sine `[N]` with the given period and phase in hours."""
    table = [math.sin(2 * math.pi * (t - phase) / period) for t in range(period)]
    return np.resize(np.array(table), hours)


def _later(values: np.ndarray, lag: int) -> np.ndarray:
    """Return values shifted `lag` hours into the future; the first one fills the front."""
    return np.concatenate([np.full(lag, values[0]), values[:-lag]])


def embedded_series(seed: int = 0, hours: int = HOURS) -> Series:
    """Return the series of a seed, `[hours, 4]`; the sha256 of its rounded values is its fingerprint."""
    generator = np.random.Generator(np.random.PCG64(seed))
    shocks = [_noise(generator, hours) for _ in CHANNELS]
    daily, weekly = _cycle(hours, 24, 9), _cycle(hours, 168, 30)
    cloud = 4 + _autoregressive(0.45 * shocks[0], 0.97)
    warming = daily * np.clip(1.2 - 0.1 * cloud, 0.2, 1.2)
    temperature = (
        14 + 6 * warming + 2 * _cycle(hours, 24 * 7 * 8, 0) + _autoregressive(0.35 * shocks[1], 0.95)
    )
    felt = _later(temperature, 6) - 15
    office = _cycle(hours, 24, 7) + weekly
    demand = (
        50
        + 4 * office
        + 1.6 * np.maximum(felt, 0)
        + 0.8 * np.maximum(-felt, 0)
        + _autoregressive(0.8 * shocks[2], 0.6)
    )
    price = 20 + 0.03 * (_later(demand, 2) - 40) ** 2 + _autoregressive(0.7 * shocks[3], 0.8)
    values = np.round(np.stack([cloud, temperature, demand, price], axis=1), 3)
    thousandths = np.rint(values * 1000).astype("<i8")
    times = np.datetime64(_FIRST_HOUR, "s") + np.arange(hours) * np.timedelta64(3600, "s")
    return Series(
        values=thousandths / 1000,
        channels=CHANNELS,
        frequency="h",
        times=times,
        fingerprint={"embedded_series": hashlib.sha256(thousandths.tobytes()).hexdigest()},
        notes=[f"synthetic: {hours:,} hours made from seed {seed}"],
    )


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
