"""Marks for missing values: numbers such as -999 or 1e20 that a file holds where nothing was measured.

`missing_marks` makes those that were named missing. Any other number that looks like a mark is told and read as the
number it is: only the owner of a table knows what it means.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pandas as pd

from gatelab.data.messages import DataError, counted
from gatelab.data.series.calendar import row

_MARK: Final = re.compile(r"-99(\.9+)?|-?9{3,}(\.9+|\.25)?|-?32767|-32768|-?2147483647|-2147483648")
"""-999.25 is that of well logs, the last ones are the ends of whole numbers with 16 and 32 bits."""
_ENDLESS: Final = 1e20
"""Climate models mark with 1e20, netCDF with 9.97e36."""


def check_marks(marks: Sequence[float] | None) -> None:
    """Refuse marks that are no finite numbers (`DataError`)."""
    if marks is not None and (not marks or not all(map(math.isfinite, marks))):
        raise DataError(
            f"data.missing_marks={list(marks)}: give finite numbers such as [-999], or null for none"
        )


def without_marks(
    numbers: pd.DataFrame,
    marks: Sequence[float] | None,
    notes: list[str],
    fix: str,
    named: Callable[[pd.Series], str] = row,
) -> pd.DataFrame:
    """Return the channels with NaN where one of the marks stands; note that, and what else may be a mark.

    fix: what to do about what may be one ({}: the mark; "": nothing). named: names the first row where something is so.
    """
    for column in numbers:
        for mark in marks or ():
            if (marked := numbers[column] == mark).any():
                notes.append(
                    f"column {column!r}: {_times(mark, marked, named)} is missing (data.missing_marks)"
                )
                numbers[column] = numbers[column].mask(marked)
        for mark in _suspected(numbers[column].to_numpy()):
            way = f"; if it marks missing values, {fix.format(f'{mark:.10g}')}" * bool(fix)
            told = _times(mark, numbers[column] == mark, named)
            notes.append(f"column {column!r}: {told}, far from all other values, is read as a number{way}")
    return numbers


def _times(mark: float, marked: pd.Series, named: Callable[[pd.Series], str]) -> str:
    return f"{mark:.10g} ({counted(int(marked.sum()), 'time')}, first in {named(marked)})"


def _suspected(values: np.ndarray) -> list[float]:
    """The values that look like marks and lie farther from all others than these lie from each other."""
    values = values[~np.isnan(values)]
    if not len(values) or not (_like_a_mark(values.min()) or _like_a_mark(values.max())):
        return []
    distinct = np.unique(values)
    marks = [
        float(value) for value in distinct[:3].tolist() + distinct[3:][-3:].tolist() if _like_a_mark(value)
    ]
    others = distinct[~np.isin(distinct, marks)]
    if not len(others):
        return []
    low, high = others.min(), others.max()
    return [mark for mark in marks if max(low - mark, mark - high) > high - low]


def _like_a_mark(value: float) -> bool:
    return abs(value) >= _ENDLESS or _MARK.fullmatch(f"{value:.10g}") is not None
