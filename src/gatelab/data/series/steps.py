"""The number of a time on the grid of its step, which is the same in every file: hours, days, weeks, months.

It says where in a cycle a row stands. Times go by their own clock, so an hour of the day keeps its place in summer.
"""

from typing import Final

import numpy as np
import pandas as pd
from pandas.tseries.offsets import BaseOffset, BusinessDay, BusinessHour, Day, Week

from gatelab.data.series.calendar import is_elapsed, offset_of

_MONDAY: Final = np.datetime64("1970-01-05")
_BEGINNING: Final = pd.Timestamp("1900-01-01")
"""A Monday; some steps of pandas cannot be counted from much earlier times."""


def counts_steps(step: str) -> bool:
    """Whether `step_numbers` can number the times of a step; hours of business it cannot, nor times without a step."""
    return step != "" and not isinstance(offset_of(step), BusinessHour)


def step_numbers(times: np.ndarray, step: str) -> np.ndarray:
    """Number the times `[N]` of a grid by their own clock: the next has the next number, in whatever file it stands.

    Hours, minutes and so on, days and weeks are counted from a Monday, 1970-01-05 00:00, other steps from 1900.
    Where a clock is put forward or back a number is left out or stands twice.
    """
    offset = offset_of(step)
    if is_elapsed(step):
        nanoseconds = offset.nanos
        unit, size = ("us", nanoseconds // 1000) if nanoseconds % 1000 == 0 else ("ns", nanoseconds)
        return (times.astype(f"datetime64[{unit}]") - _MONDAY).astype(np.int64) // size
    first = times[0].astype("datetime64[D]")
    if isinstance(offset, Day | Week):
        length = offset.n * (7 if isinstance(offset, Week) else 1)
        number = int((first - _MONDAY).astype(np.int64)) // length
    else:
        number = _between(_BEGINNING, pd.Timestamp(first), offset)
    return number + np.arange(len(times))


def _between(first: pd.Timestamp, last: pd.Timestamp, offset: BaseOffset) -> int:
    """How many times of a grid lie from `first` on before `last`; negative where `last` is the earlier one."""
    if last < first:
        return -_between(last, first, offset)
    return len(pd.date_range(first, last, freq=offset, inclusive="left"))


def counted_from(step: str) -> str:
    """What the first place of a cycle of such steps is, for a person to read."""
    if is_elapsed(step):
        return "00:00 on a Monday"
    return "a Monday" if isinstance(offset_of(step), Day | Week | BusinessDay) else "the beginning of a year"
