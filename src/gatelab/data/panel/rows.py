"""Arithmetic of series that lie below each other in one array: `starts [S + 1]` says where each begins.

NumPy alone; nothing here goes through the series one by one.
"""

import numpy as np


def first_of(codes: np.ndarray) -> np.ndarray:
    """Return the place of the first of each code 0, 1, ... (as `pandas.factorize` numbers them)."""
    return np.unique(codes, return_index=True)[1]


def bounds(lengths: np.ndarray) -> np.ndarray:
    """Return the starts `[S + 1]` of series of these lengths."""
    return np.concatenate([[0], np.cumsum(lengths)])


def series_of(starts: np.ndarray) -> np.ndarray:
    """Return the series `[N]` of each row."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def ranges(first: np.ndarray, count: np.ndarray, step: int = 1) -> np.ndarray:
    """Return `first[s] + step * (0 ... count[s] - 1)` for every s, one after the other."""
    ends = np.cumsum(count)
    inside = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count, count)
    return np.repeat(first, count) + step * inside


def sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the sum of each series' rows `[S, ...]`; 0 of a series without rows."""
    # reduceat needs a row at N
    padded = np.concatenate([values, np.zeros((1, *values.shape[1:]), values.dtype)])
    found = np.add.reduceat(padded, starts[:-1], axis=0)
    found[np.diff(starts) == 0] = 0
    return found


def last_true(where: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return, for each row, the last row of its series up to it at which `where` `[N]` is true; -1: there is none."""
    places = np.maximum.accumulate(np.where(where, np.arange(len(where)), -1))
    return np.where(places >= np.repeat(starts[:-1], np.diff(starts)), places, -1)


def quantiles(values: np.ndarray, starts: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Return quantiles `[S, levels]` of the numbers `[N]` of each series, nan left out; nan where there is none.

    Between two numbers by straight lines, as `numpy.quantile` does.
    """
    order = np.lexsort((values, series_of(starts)))  # nan last
    ordered = values[order]
    count = sums((~np.isnan(values)).astype(np.int64), starts)
    found = np.full((len(starts) - 1, len(levels)), np.nan)
    some = count > 0
    for place, level in enumerate(levels):
        at = (count[some] - 1) * level
        low = np.floor(at).astype(np.int64)
        high = np.minimum(low + 1, count[some] - 1)
        a, b = ordered[starts[:-1][some] + low], ordered[starts[:-1][some] + high]
        found[some, place] = a + (b - a) * (at - low)
    return found
