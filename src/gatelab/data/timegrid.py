"""Is a time axis regular? Finds the step, and reports, fills or ignores gaps as asked. It never resamples.

A grid is either a fixed step (15min, h, D) or a calendar one (business days, weeks, months, quarters, years).
"""

from pathlib import Path
from typing import Final

import pandas as pd

from gatelab.data.errors import DataError

_CALENDARS: Final = ("B", "MS", "ME", "QS", "QE", "YS", "YE")


def regular_grid(path: Path, rows: pd.DataFrame, gaps: str, notes: list[str]) -> tuple[pd.DataFrame, str]:
    """Return the rows on a grid without gaps and its frequency ("" if there is none).

    rows are sorted by their DatetimeIndex. gaps: "error" refuses, "fill" repeats the row before a gap,
    "ignore" takes the rows as consecutive. Raises `DataError` naming the first gap.
    """
    index = pd.DatetimeIndex(rows.index)
    if len(index) < 3:
        raise DataError(f"{path}: {len(index)} rows are too few to tell the time step")
    if frequency := pd.infer_freq(index):
        return rows, frequency
    grid = _grid_with_gaps(index)
    if gaps == "ignore":
        notes.append("the time grid is not regular; rows were taken as consecutive (data.gaps=ignore)")
        return rows, ""
    if grid is None:
        step = index.to_series().diff()
        usual = step.mode().iloc[0]
        odd = int((step.iloc[1:] != usual).to_numpy().argmax()) + 1
        raise DataError(
            f"{path}: the times lie on no regular grid: the usual step is {usual}, but {index[odd]} comes "
            f"{step.iloc[odd]} after the row before; resample the file to one step, or take the rows as consecutive "
            "with data.gaps=ignore"
        )
    absent = grid.difference(index)
    if gaps == "error":
        raise DataError(
            f"{path}: {len(absent)} times are missing in the {grid.freqstr} grid, the first is {absent[0]}; add the "
            "rows, repeat the row before each gap with data.gaps=fill, or take the rows as consecutive with "
            "data.gaps=ignore"
        )
    notes.append(
        f"{len(absent)} missing times (first {absent[0]}) were given the values of the row before them"
    )
    # only whole rows that are absent: a missing value inside a row is data.missing's question
    source = index.searchsorted(grid, side="right") - 1
    return rows.iloc[source].set_axis(grid, axis=0), str(grid.freqstr)


def _grid_with_gaps(index: pd.DatetimeIndex) -> pd.DatetimeIndex | None:
    """Return the full grid on which all stamps lie, although some of its times are absent.

    None if there is none.
    """
    steps = index.to_series().diff().iloc[1:]
    usual = steps.mode().iloc[0]
    candidates: list[str | pd.Timedelta] = [usual]
    if usual >= pd.Timedelta(days=1):
        candidates = [*_CALENDARS, usual]
    for frequency in candidates:
        grid = pd.date_range(index[0], index[-1], freq=frequency)
        # at least half of a grid must be there to speak of gaps: monthly stamps also lie on a grid of days
        if len(grid) and len(grid) <= 2 * len(index) and index.isin(grid).all():
            return grid
    return None
