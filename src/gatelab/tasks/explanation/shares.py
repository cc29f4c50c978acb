"""How much of a unit's variance a property of the step tells, and how long a signal resembles itself.

Letters: n steps, H hidden units, T time, R sequences, D numbers of an input.
"""

import math

import numpy as np
import torch
from torch import Tensor

GROUPS = 64
"""The most values of a probe that are told apart; more are put into as many groups of equal size."""


def autocorrelation_time(x: Tensor, lengths: Tensor | None = None) -> float:
    """Steps after which the autocorrelation of x [T, R, D] falls below 1/e, all numbers together; NaN if it never does.

    Between two steps it is interpolated; sequences are taken from their own mean, up to the shortest length.
    """
    steps = len(x) if lengths is None else int(lengths.min())
    x = x[:steps].double()
    x = x - x.mean(0)
    power = float(x.square().mean())
    if power == 0 or steps < 2:
        return math.nan
    last = 1.0
    for lag in range(1, steps):
        now = float((x[lag:] * x[:-lag]).mean()) / power
        if now < math.exp(-1):
            return lag - 1 + (last - math.exp(-1)) / (last - now)
        last = now
    return math.nan


def share_told(states: Tensor, probe: np.ndarray) -> Tensor:
    """The share of each unit's variance [H] that a probe [n] tells: adjusted R^2 of the mean of each of its values.

    `states` [n, H]. Where the probe is NaN a step is left out; more than `GROUPS` values are put into groups of equal
    size. It is 0 on average for a probe that tells nothing.
    """
    known = ~np.isnan(probe)
    values, chosen = probe[known], states[torch.from_numpy(known)].double()
    distinct, codes = np.unique(values, return_inverse=True)
    if len(distinct) > GROUPS:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, GROUPS + 1)[1:-1]))
        codes = np.searchsorted(edges, values, side="right")
    return share_of_codes(chosen, codes)


def share_of_codes(states: Tensor, codes: np.ndarray) -> Tensor:
    """As `share_told`, of what has one of a few codes at each step [n]."""
    _, codes = np.unique(codes, return_inverse=True)
    n, groups = len(states), int(codes.max()) + 1 if len(codes) else 0
    if groups < 2 or n <= groups + 1:
        return torch.zeros(states.shape[1], dtype=torch.float64)
    total = (states - states.mean(0)).square().sum(0).clamp(min=1e-12)
    within = (states - group_means(states, codes)).square().sum(0)
    return 1 - (within / (n - groups)) / (total / (n - 1))


def group_means(states: Tensor, codes: np.ndarray) -> Tensor:
    """For each step [n] the mean of the states [n, H] over all steps of its code."""
    _, codes = np.unique(codes, return_inverse=True)
    index = torch.from_numpy(codes)
    sums = torch.zeros(int(index.max()) + 1, states.shape[1], dtype=states.dtype).index_add_(0, index, states)
    return (sums / torch.bincount(index)[:, None])[index]


def often(codes: np.ndarray, least: int) -> np.ndarray:
    """The codes [n], with those that stand fewer than `least` times as one: the mean of a few is the few themselves."""
    distinct, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return np.where(counts[places] < least, distinct.min() - 1, codes)
