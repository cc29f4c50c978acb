"""Is a time axis regular? Finds the step, and reports, fills or ignores gaps as asked. It never resamples.

A grid is either a fixed step (15min, h, D) or a calendar one (business days, weeks, months, quarters, years).
"""

from pathlib import Path
from typing import Final

import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset, BusinessDay, Day, MonthBegin, MonthEnd

from gatelab.data.messages import DataError

_MONTHS: Final = {1: "M", 3: "Q", 12: "Y"}
_SPARSEST: Final = 100
"""Times of a grid for each row that is there; with more, it is not called a grid with gaps."""


def regular_grid(path: Path, rows: pd.DataFrame, gaps: str, notes: list[str]) -> tuple[pd.DataFrame, str]:
    """Return the rows on a grid without gaps and its frequency ("" if there is none).

    rows are sorted by their DatetimeIndex. gaps: "error" refuses, "fill" repeats the row before a gap,
    "ignore" takes the rows as consecutive. Raises `DataError` naming the first gap.
    """
    index = pd.DatetimeIndex(rows.index)
    if len(index) < 3:
        raise DataError(f"{path}: {len(index)} rows are too few to tell the time step")
    step = _step(index)
    # irregular stamps of a tiny step over years would make a grid of billions: it may be _SPARSEST times too long
    grid = pd.date_range(index[0], min(index[-1], index[0] + _SPARSEST * len(index) * step), freq=step)
    if index.equals(grid.as_unit(index.unit)):
        return rows, _name(step)
    if gaps == "ignore":
        notes.append("the time grid is not regular; rows were taken as consecutive (data.gaps=ignore)")
        return rows, ""
    if not index.isin(grid).all():
        odd = int((~index.isin(grid)).argmax())
        raise DataError(
            f"{path}: the times lie on no regular grid (or hardly any of it is there): the usual step from {index[0]} "
            f"on is {_name(step)}, which does not lead to {index[odd]}; resample the file to one step, or take the "
            "rows as consecutive with data.gaps=ignore"
        )
    absent = grid.difference(index)
    if gaps == "error":
        raise DataError(
            f"{path}: {len(absent)} times are missing in the {_name(step)} grid, the first is {absent[0]}; add the "
            "rows, repeat the row before each gap with data.gaps=fill, or take the rows as consecutive with "
            "data.gaps=ignore"
        )
    notes.append(
        f"{len(absent)} missing times (first {absent[0]}) were given the values of the row before them"
    )
    # only whole rows that are absent: a missing value inside a row is data.missing's question
    source = index.searchsorted(grid, side="right") - 1
    return rows.iloc[source].set_axis(grid, axis=0), _name(step)


def _step(index: pd.DatetimeIndex) -> BaseOffset:
    """Return the usual step: whole months if all stamps begin (or end) one, business days, else the most common one."""
    usual = pd.Timedelta(index.to_series().diff().mode().iloc[0])
    if usual >= pd.Timedelta(days=27) and (index.is_month_start.all() or index.is_month_end.all()):
        months = pd.Series(12 * index.year + index.month).diff().mode().iloc[0]
        offset = MonthBegin if index.is_month_start.all() else MonthEnd
        return offset(int(months))
    if usual == pd.Timedelta(days=1) and (index.day_of_week < 5).all():
        return BusinessDay()
    # pandas 3 calls whole days "24h" when they are measured
    return Day(usual.days) if usual == pd.Timedelta(days=usual.days) else to_offset(usual)


def _name(step: BaseOffset) -> str:
    """Return pandas' short name of the step: "h", "15min", "D", "B", "W", "MS", "QE", ..."""
    if isinstance(step, MonthBegin | MonthEnd) and step.n in _MONTHS:
        return _MONTHS[step.n] + ("S" if isinstance(step, MonthBegin) else "E")
    return "W" if step.freqstr == "7D" else str(step.freqstr)
