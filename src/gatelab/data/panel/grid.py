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
from gatelab.data.series.calendar import (
    Stamps,
    find_grid,
    grid_around,
    is_elapsed,
    off_step,
    offset_of,
    usual_step,
)

_SPARSEST: Final = 100
"""Times of the grid for each row that is there; with more, the file is refused."""


_CHANGE: Final = pd.Timedelta(hours=1)
"""By which a clock is put forward or back."""


class PanelGrid(NamedTuple):
    """Times that all rows lie on.

    step: its name ("h", "W-MON"); zone: of the stamps, "" if they have none. times: `[M]` datetime64, UTC if there is a
    zone, in order within each phase; wall: the same by the clock of the zone. place: `[N]`, which of them each row has.
    others: steps that all rows fit as well, and that lead elsewhere after the last one.
    """

    step: str
    zone: str
    times: np.ndarray
    wall: np.ndarray
    place: np.ndarray
    others: tuple[str, ...] = ()


def panel_grid(
    stamps: Stamps,
    starts: np.ndarray,
    name: Callable[[int, int, int], str],
    expected: str = "",
    frequency: str = "",
) -> PanelGrid:
    """Return the grid of rows in order of series and time, without doubles.

    stamps: of the rows, in microseconds. starts: `[S + 1]`, the first row of each series, then N.
    name: names a series and the rows from the second to the third argument for a message. expected: the step of a run,
    which is taken if no other one fits better; frequency: the only one that is tried, "" for all. Raises `DataError`.
    """
    rows = _Rows(stamps.times.to_numpy(), stamps.wall.to_numpy(), stamps.zone, starts, name)
    reference = _reference(rows.times, starts)
    found = find_grid(rows.stamps(reference), expected, frequency)
    if found is None:
        raise DataError(f"{rows.called(reference)}: {_no_grid(rows.stamps(reference), frequency)}")
    fits, problem = [], None
    for step in (found.step, *found.others):
        try:
            fits.append(_laid_out(rows, step, found.zone, reference))
        except DataError as error:
            problem = problem or error
    if not fits:
        assert problem is not None
        raise problem
    return fits[0]._replace(others=tuple(fit.step for fit in fits[1:]))


class _Rows(NamedTuple):
    """The rows of all series: times and clocks `[N]`, and what `panel_grid` was given with them."""

    times: np.ndarray
    wall: np.ndarray
    zone: str
    starts: np.ndarray
    name: Callable[[int, int, int], str]

    def stamps(self, series: int) -> Stamps:
        """The stamps of one series."""
        span = slice(self.starts[series], self.starts[series + 1])
        return Stamps(pd.Series(self.times[span]), pd.Series(self.wall[span]), self.zone)

    def called(self, series: int) -> str:
        """The name of a series with its rows."""
        return self.name(series, int(self.starts[series]), int(self.starts[series + 1]) - 1)

    def at(self, row: int) -> str:
        """The name of a series with one of its rows."""
        return self.name(int(np.searchsorted(self.starts, row, side="right")) - 1, row, row)


def _laid_out(rows: _Rows, step: str, found_zone: str, reference: int) -> PanelGrid:
    """The grid of a step; `DataError` where a series has another one."""
    zone, starts, fixed = rows.zone, rows.starts, is_elapsed(step)
    offset = offset_of(step)
    by_wall = bool(zone) and not fixed and found_zone == zone
    clock = rows.wall if by_wall else rows.times
    if isinstance(offset, Tick | Day):
        grid, place = _fixed(
            clock, int(pd.Timedelta(offset.nanos if fixed else f"{offset.n}D").value) // 1000, starts
        )
    else:
        grid, place = _calendar(clock, step, clock[starts[reference]])
    if not len(grid):
        sparsest = int(((clock[starts[1:] - 1] - clock[starts[:-1]]) / np.diff(starts)).argmax())
        if (own := find_grid(rows.stamps(sparsest))) is None or own.step == step:
            raise DataError(
                f"{rows.called(sparsest)}: hardly any of its times is there; look for stray dates"
            )
        raise DataError(_other_step(rows, sparsest, step, reference))
    series = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    if (off := place < 0).any():
        raise DataError(_other_step(rows, int(series[off.argmax()]), step, reference))
    steps = np.diff(place)
    inside = series[1:] == series[:-1]
    shortest = np.full(len(starts) - 1, np.iinfo(np.int64).max)
    np.minimum.at(shortest, series[1:][inside], steps[inside])
    slower = (shortest > 1) & (np.diff(starts) > 2)
    if slower.any():
        raise DataError(_other_step(rows, int(slower.argmax()), step, reference))
    utc, local = _both_clocks(grid, zone, by_wall)
    # a zone by its name is one clock, whatever its offsets were (Pacific/Apia)
    if zone and "/" not in zone:
        _refuse_two_clocks(rows, place, len(grid))
    if zone and not by_wall:
        local[place] = rows.wall  # with the offset of the season
    return PanelGrid(step, zone if by_wall or fixed else zone and "UTC", utc, local, place)


def _refuse_two_clocks(rows: _Rows, place: np.ndarray, times: int) -> None:
    """Raise `DataError` where rows are written with offsets that no single zone has."""
    offsets = rows.wall - rows.times
    least, most = int(offsets.argmin()), int(offsets.argmax())
    if offsets[most] - offsets[least] <= _CHANGE:
        first = np.zeros(times, np.int64)
        first[place[::-1]] = np.arange(len(place))[::-1]  # the first row at each time
        differs = offsets != offsets[first[place]]
        if not differs.any():
            return
        most = int(differs.argmax())
        least = int(first[place[most]])
    one, other = (f"{rows.at(row)} with {_offset(offsets[row])}" for row in (least, most))
    raise DataError(
        f"times are written by two clocks, {one} and {other}; write all of them by one clock, or in UTC"
    )


def _offset(offset: np.timedelta64) -> str:
    minutes = int(offset / np.timedelta64(1, "m"))
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def _no_grid(stamps: Stamps, frequency: str) -> str:
    """Say why a series has no step."""
    index = pd.DatetimeIndex(stamps.times)
    if frequency:
        found = find_grid(stamps)
        fits = f", which have the step {' or '.join((found.step, *found.others))}" if found else ""
        off = off_step(pd.DatetimeIndex(stamps.wall), frequency)
        return f"the step is to be {frequency}, which {off}{fits}"
    if len(index) < 3:
        return "too few rows to tell the time step (data.frequency=D, and the like, says it)"
    return f"the times lie on no regular grid (the usual step is {usual_step(index)})"


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


def _other_step(rows: _Rows, series: int, step: str, reference: int) -> str:
    own = find_grid(rows.stamps(series))
    index = pd.DatetimeIndex(rows.stamps(series).times)
    if own is not None and own.step != step:
        says = f"its step is {own.step}"
    elif len(index) > 1:
        says = f"its usual step is {usual_step(index)}, or it lies off the grid"
    else:
        says = "its time lies off the grid"
    return (
        f"{rows.called(series)}: {says}; the panel has the step {step}, as {rows.called(reference)}; one step for all: "
        "resample the series, or leave it out"
    )


def _fixed(clock: np.ndarray, step: int, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grid `[M]` and place `[N]` (-1: off the grid) of a step of so many microseconds, a phase after the other.

    The grid is empty where hardly any of it would be there.
    """
    microseconds = clock.astype(np.int64)
    number, phase = np.divmod(microseconds, step)
    own = np.repeat(phase[starts[:-1]], np.diff(starts))
    grids, place, used = [], np.full(len(clock), -1), 0
    for one in np.unique(own):
        here = own == one
        first, last = int(number[here].min()), int(number[here].max())
        if used + last - first > _SPARSEST * len(clock):
            return np.zeros(0, "datetime64[us]"), place
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
