"""The times of a panel: one step for all series, each of which may begin and end anywhere.

The step is that of the series with most of the usual differences (calendar.py finds its name). Series whose step is
shorter than a day may have different phases (one at :00, one at :30); longer steps have one anchor for all. A series
of another step is refused by name and rows.

Dimensions: `N` rows in order of series and time, `S` series, `M` times of the grid.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from pandas.tseries.offsets import Day, Tick

from gatelab.data.messages import DataError
from gatelab.data.series.calendar import Stamps, find_grid, grid_around, offset_of, usual_step

_SPARSEST: Final = 100
"""Times of the grid for each row that is there; with more, the file is refused."""


class PanelGrid(NamedTuple):
    """Times that all rows lie on.

    step: its name ("h", "W-MON"); zone: of the stamps, "" if they have none. times: `[M]` datetime64, UTC if there is a
    zone, in order within each phase; wall: the same by the clock of the zone. place: `[N]`, which of them each row has.
    """

    step: str
    zone: str
    times: np.ndarray
    wall: np.ndarray
    place: np.ndarray


def panel_grid(
    times: np.ndarray,
    wall: np.ndarray,
    zone: str,
    starts: np.ndarray,
    name: Callable[[int, int, int], str],
    expected: str = "",
) -> PanelGrid:
    """Return the grid of rows in order of series and time, without doubles.

    times, wall: `[N]` datetime64[us], see `Stamps`. starts: `[S + 1]`, the first row of each series, then N.
    name: names a series and the rows from the second to the third argument for a message. expected: the step of a run,
    which is taken if no other one fits better. Raises `DataError`.
    """
    reference = _reference(times, starts)
    span = slice(starts[reference], starts[reference + 1])
    found = find_grid(Stamps(pd.Series(times[span]), pd.Series(wall[span]), zone), expected)
    if found is None:
        why = (
            "too few rows to tell the time step"
            if len(times[span]) < 3
            else f"the times lie on no regular grid (the usual step is {usual_step(pd.DatetimeIndex(times[span]))})"
        )
        raise DataError(f"{name(reference, *_ends(starts, reference))}: {why}")
    offset = offset_of(found.step)
    fixed = isinstance(offset, Tick) and not isinstance(offset, Day)
    by_wall = bool(zone) and not fixed and found.zone == zone
    clock = wall if by_wall else times
    if isinstance(offset, Tick | Day):
        grid, place = _fixed(
            clock, int(pd.Timedelta(offset.nanos if fixed else f"{offset.n}D").value) // 1000, starts
        )
    else:
        grid, place = _calendar(clock, found.step, clock[span.start])
    series = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    if (off := place < 0).any():
        one = int(series[off.argmax()])
        raise DataError(_other_step(one, found.step, reference, times, starts, name))
    steps = np.diff(place)
    inside = series[1:] == series[:-1]
    shortest = np.full(len(starts) - 1, np.iinfo(np.int64).max)
    np.minimum.at(shortest, series[1:][inside], steps[inside])
    slower = (shortest > 1) & (np.diff(starts) > 2)
    if slower.any():
        raise DataError(_other_step(int(slower.argmax()), found.step, reference, times, starts, name))
    utc, local = _both_clocks(grid, zone, by_wall)
    return PanelGrid(found.step, zone if by_wall or fixed else zone and "UTC", utc, local, place)


def _reference(times: np.ndarray, starts: np.ndarray) -> int:
    """The series that has most of the most common differences."""
    differences = np.diff(times).astype(np.int64)
    first = starts[1:-1] - 1
    differences[first] = -1  # from one series to the next
    values, counts = np.unique(differences[differences > 0], return_counts=True)
    if not len(values):
        return int(np.diff(starts).argmax())
    usual = np.append(differences == values[counts.argmax()], False)
    return int(np.add.reduceat(usual, starts[:-1]).argmax())


def _ends(starts: np.ndarray, series: int) -> tuple[int, int]:
    return int(starts[series]), int(starts[series + 1]) - 1


def _other_step(
    series: int,
    step: str,
    reference: int,
    times: np.ndarray,
    starts: np.ndarray,
    name: Callable[[int, int, int], str],
) -> str:
    own = usual_step(pd.DatetimeIndex(times[starts[series] : starts[series + 1]]))
    return (
        f"{name(series, *_ends(starts, series))}: its usual step is {own}, or it lies off the grid; the panel has the "
        f"step {step}, as {name(reference, *_ends(starts, reference))}; one step for all: resample the series, or "
        "leave it out"
    )


def _fixed(clock: np.ndarray, step: int, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grid `[M]` and place `[N]` (-1: off the grid) of a step of so many microseconds, a phase after the other."""
    microseconds = clock.astype(np.int64)
    number, phase = np.divmod(microseconds, step)
    own = np.repeat(phase[starts[:-1]], np.diff(starts))
    grids, place, used = [], np.full(len(clock), -1), 0
    for one in np.unique(own):
        here = own == one
        first, last = int(number[here].min()), int(number[here].max())
        if used + last - first > _SPARSEST * len(clock):
            raise DataError("hardly any time of the grid is there: look for stray dates")
        grids.append(np.arange(first, last + 1) * step + one)
        place[here] = np.where(phase[here] == one, number[here] - first + used, -1)
        used += last - first + 1
    return np.concatenate(grids).astype("datetime64[us]"), place


def _calendar(clock: np.ndarray, step: str, anchor: np.datetime64) -> tuple[np.ndarray, np.ndarray]:
    """Grid and place of a step of the calendar that goes through `anchor`."""
    grid = grid_around(pd.Timestamp(anchor), pd.Timestamp(clock.min()), pd.Timestamp(clock.max()), step)
    times = grid.to_numpy().astype("datetime64[us]")
    place = np.searchsorted(times, clock).clip(max=len(times) - 1)
    return times, np.where(times[place] == clock, place, -1)


def _both_clocks(grid: np.ndarray, zone: str, by_wall: bool) -> tuple[np.ndarray, np.ndarray]:
    """The grid in UTC and by the clock of its zone."""
    if not zone:
        return grid, grid
    index = pd.DatetimeIndex(grid)
    if by_wall:
        there = index.tz_localize(zone, ambiguous=np.ones(len(index), bool), nonexistent="shift_forward")
        return there.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]"), grid
    there = index.tz_localize("UTC").tz_convert(zone)
    return grid, there.tz_localize(None).to_numpy().astype("datetime64[us]")
