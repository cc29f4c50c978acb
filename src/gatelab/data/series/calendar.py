"""Time in tables: stamps are read, their step is found with its anchor, and the step is continued.

A stamp must name its year, month and day; one that could be read in two ways is refused. As in ISO 8601, `2024-01`
stands for a month, `2024-W05` for a week (its Monday), `2024-W05-3` for a day of it, and `2024-01-31 24:00` for the
midnight that ends the day. Quarters and dates without signs (`2024Q1`, `20240131`) are those of written_dates.py. Other
large numbers are UNIX time: seconds, milli-, micro- or nanoseconds since 1970 in UTC.
The step is taken from the stamps: `W-MON` for Mondays, `QS-FEB` for quarters from February, `90min`, `B`. A fixed day
of the month has no name in pandas; here it is `MS-15`, or `3MS-15` every third month. A step counts elapsed time if it
is shorter than a day, days of the wall clock otherwise: a day with a change of the clock has 23 or 25 hours, and one
midnight, also where clocks skip it. Where several steps fit equally well, one is taken and the others are told.

All errors are `DataError`s that name column and row (counted from 1 after the header); the caller adds the file.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset, Day, Tick

from gatelab.data.messages import DataError, shown
from gatelab.data.series.written_dates import as_iso, of_digits

ISO: Final = "write ISO dates (2024-01-31 13:00; 2024-01 for a month)"
_MONTHS: Final = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS: Final = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]
_OFFSET: Final = (
    r"^(.*(?::\d{2}(?:\.\d+)?(?:\s?[AaPp][Mm])?|[T ]\d{2}(?:\d{2}){0,2}))\s?"
    r"(Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$"
)
_NAMED_ZONE: Final = r":\d{2}(?:\.\d+)?\s?(?!AM|PM)(?:[A-Z]{2,5}|[A-Z][a-z]+/[A-Za-z_]+)$"
_TIME_ONLY: Final = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:\s?[AaPp][Mm])?"
_MIDNIGHT: Final = r"(?<=[T ])24(?=:00(?::00(?:\.0+)?)?$)"
_UNIX: Final = {
    "s": ("seconds", 1e9),
    "ms": ("milliseconds", 1e12),
    "us": ("microseconds", 1e15),
    "ns": ("nanoseconds", 1e18),
}
"""Units of UNIX time, and the least number in each that is taken for a time: September 2001."""
_DAY_AND_MONTH: Final = r"(?<![\d:.])(\d{1,2})\s*[/.,\- ]\s*(\d{1,2})\s*[/.,\- ]\s*\d{4}"
_YEARS: Final = (1, 9999)
_UNANCHORED: Final = ("W", "QS", "QE", "YS", "YE")
_FIXED_DAY: Final = r"(\d*)MS-(\d{1,2})"
_SPARSEST: Final = 100
"""Times of a grid for each row that is there; with more, it is not called a grid with gaps."""
_AHEAD: Final = 12
"""Steps after the last row within which two steps that fit the rows must part to be told: months and business months
do so within six, years and business years too."""


class Stamps(NamedTuple):
    """The times `[N]` of a table's rows, `datetime64` without a zone.

    times: UTC where the file gives offsets or a zone, else as they stand there. wall: as they stand there. zone: the
    zone, or the offset of the last time (`+01:00`); "" if the file gives none.
    """

    times: pd.Series
    wall: pd.Series
    zone: str


class Grid(NamedTuple):
    """Regular times `[M]` with the row `[M]` at or before each, the name of the step, and the zone of its stamps.

    others: steps that the times fit as well, and that lead elsewhere after the last one.
    """

    times: pd.DatetimeIndex
    source: np.ndarray
    step: str
    zone: str
    others: tuple[str, ...] = ()


# reading


def read_times(column: pd.Series, notes: list[str]) -> Stamps:
    """Return the times of a column; empty, unreadable, incomplete and ambiguous ones are errors."""
    name = column.name
    if (empty := column.isna()).any():
        raise DataError(f"column {name!r}, {row(empty)}: the time is missing; fill it in or remove the row")
    if (digits := of_digits(column)) is not None:
        notes.append(f"{name!r} was read as dates: {column.iloc[0]} is {digits.iloc[0]}")
        stamps = Stamps(digits, digits, "")
    elif pd.api.types.is_numeric_dtype(column):
        stamps = _read_numbers(column, notes)
    elif pd.api.types.is_datetime64_any_dtype(column):
        zone = column.dt.tz
        stamps = Stamps(
            column.dt.tz_convert("UTC").dt.tz_localize(None) if zone is not None else column,
            column.dt.tz_localize(None),
            str(zone or ""),
        )
    else:
        stamps = _read_text(column.astype(str).str.strip())
    if (odd := ~stamps.wall.dt.year.between(*_YEARS)).any():
        raise DataError(
            f"column {name!r}, {row(odd)}: {_of(column, odd)} is not of the years 1 to 9999; {ISO}"
        )
    return _with_skipped_midnights(stamps) if stamps.zone else stamps


def zone_note(name: str, zone: str) -> str:
    """What is told of a column of times with a zone; zone: that of the grid that was found."""
    written = f"with {zone}" if zone != "UTC" else "in UTC"
    return f"times of {name!r} were converted to UTC; forecasts are stamped {written}"


def _with_skipped_midnights(stamps: Stamps) -> Stamps:
    """Put days whose time of day a clock that was put forward skipped at that time on their wall."""
    clock, offsets = stamps.wall - stamps.wall.dt.normalize(), stamps.wall - stamps.times
    usual = clock.mode().iloc[0]
    late = clock - usual
    odd = late != pd.Timedelta(0)
    others = offsets[~odd]
    # the day before has the offset from which the clock was put forward, the day after the one since then
    changes = (offsets[odd] - late[odd]).isin(others) & offsets[odd].isin(others)
    if odd.any() and (late[odd] > pd.Timedelta(0)).all() and changes.all():
        return stamps._replace(wall=stamps.wall.where(~odd, stamps.wall - late))
    return stamps


def _read_numbers(numbers: pd.Series, notes: list[str]) -> Stamps:
    for unit, (called, least) in _UNIX.items():
        if numbers.between(least, 9 * least).all():
            notes.append(f"{numbers.name!r} was read as {called} since 1970 in UTC")
            times = pd.to_datetime(numbers, unit=unit)  # type: ignore[call-overload]  # a unit by its name
            return Stamps(times, times, "UTC")
    raise DataError(
        f"column {numbers.name!r} holds numbers, not dates; {ISO}, or leave data.time out, and remove the column, if "
        "the rows are in order and equally spaced"
    )


def _read_text(text: pd.Series) -> Stamps:
    parts = text.str.extract(_OFFSET)
    zoned = parts[1].notna()
    if zoned.any() and not zoned.all():
        raise DataError(
            f"column {text.name!r}, {row(~zoned)}: {_of(text, ~zoned)} has no offset from UTC, other times have one; "
            "write it with every time, or with none"
        )
    if (named := ~zoned & text.str.contains(_NAMED_ZONE, regex=True)).any():
        raise DataError(
            f"column {text.name!r}, {row(named)}: {_of(text, named)}: write the offset from UTC instead of the zone's "
            "name (2024-01-31 13:00+01:00)"
        )
    written = as_iso(text.where(~zoned, parts[0]))
    ends_day = written.str.contains(_MIDNIGHT, regex=True)
    written = written.str.replace(_MIDNIGHT, "00", regex=True)
    _complete(written)
    try:
        wall = _one_reading(written)
    except DataError:
        raise
    except ValueError:  # pandas: several offsets in places where _OFFSET does not look
        wall = pd.Series(dtype="datetime64[ns, UTC]")
    if getattr(wall.dtype, "tz", None) is not None:
        raise DataError(
            f"column {text.name!r}: the offset from UTC must end the time (2024-01-31 13:00+01:00)"
        )
    if (wrong := wall.isna()).any():
        words = wrong & pd.to_numeric(text, errors="coerce").isna()  # a note below seconds since 1970
        wrong = words if words.any() else wrong
        raise DataError(
            f"column {text.name!r}, {row(wrong)}: {_of(text, wrong)} is not a date; {ISO}"
            + ", or remove the row if it is none of the table" * (not wrong.all())
        )
    wall = wall + pd.to_timedelta(ends_day.astype(int), unit="D")
    if not zoned.any():
        return Stamps(wall, wall, "")
    digits = parts[1].str.replace(":", "").where(parts[1].str.match(r"[+-]"), "+0000").str.ljust(5, "0")
    minutes = digits.str[1:3].astype(int) * 60 + digits.str[3:].astype(int)
    offset = pd.to_timedelta(minutes.where(digits.str[0] == "+", -minutes), unit="min")
    times = wall - offset
    last = digits.iloc[int(times.to_numpy().argmax())]
    return Stamps(times, wall, "UTC" if (minutes == 0).all() else f"{last[:3]}:{last[3:]}")


def _complete(text: pd.Series) -> None:
    """Raise `DataError` for times that lack a part, which parsers would fill with one of their own."""
    shapes = text.str.replace(r"\d", "9", regex=True).str.replace(r"[^\W\d_]", "a", regex=True)
    for place in shapes.drop_duplicates().index:
        if lacks := _lacks(text[place]):
            raise DataError(
                f"column {text.name!r}, row {int(place) + 1}: {shown(text[place])} {lacks}; {ISO}"
            )


def _lacks(text: str) -> str:
    """Say which part of a date is missing in a text; "" if none is (or if it is no date at all)."""
    from dateutil.parser import parse  # type: ignore[import-untyped]

    if re.fullmatch(r"\d{4}-\d{1,2}", text):
        return ""
    try:
        one, other = parse(text, default=datetime(2004, 1, 1)), parse(text, default=datetime(2008, 3, 2))
    except (ValueError, OverflowError):
        return ""
    missing = [part for part in ("year", "month", "day") if getattr(one, part) != getattr(other, part)]
    if len(missing) == 3:
        return "has no date: year, month and day are missing"
    numbers = re.findall(r"\d+", re.sub(r"\d+:.*", "", text))
    if missing and len(numbers) == 1 and len(numbers[0]) < 3:
        return "lacks a year or a day"
    if missing:
        return f"lacks {' and '.join(f'a {part}' for part in missing)}"
    return "" if f"{one.year:04d}" in text else "has a year of two digits"


def _one_reading(text: pd.Series) -> pd.Series:
    """Parse dates. Those that begin with day or month must show somewhere in the column which of the two it is."""
    if text.str.match(r"\d{4}-\d{1,2}").all() and not text.str.contains(r"[AaPp][Mm]$").any():
        return pd.to_datetime(text, errors="coerce", format="ISO8601")
    if (swapped := text.str.match(r"\d{4}[/.\- ](?:1[3-9]|[23]\d)[/.\- ]\d{1,2}")).any():
        raise DataError(
            f"column {text.name!r}, {row(swapped)}: {_of(text, swapped)} has no month between year and day; {ISO}"
        )
    numbers = text.str.extract(_DAY_AND_MONTH).astype(float)
    day_first, month_first = numbers[0] > 12, numbers[1] > 12
    if numbers[0].notna().any() and day_first.any() == month_first.any():
        both = day_first | month_first if day_first.any() else numbers[0].notna()
        why = (
            "changes between day first and month first"
            if day_first.any()
            else "can be read day first or month first"
        )
        raise DataError(f"column {text.name!r}, {row(both)}: {_of(text, both)} {why}; {ISO}")
    year_first = text.str.match(r"\d{4}[/.\- ]")  # which parsers would turn with the others
    others, ordered = (
        pd.to_datetime(part, errors="coerce", format="mixed", dayfirst=day)
        for part, day in ((text.where(~year_first), bool(day_first.any())), (text.where(year_first), False))
    )
    return others.where(~year_first, ordered)


def holds_times_of_day(column: pd.Series) -> bool:
    """Whether a column holds times without dates: `13:00`."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return False
    return bool(column.astype(str).str.strip().str.fullmatch(_TIME_ONLY).all())


def row(where: pd.Series) -> str:
    """Name the first row at which `where` is true, as the reader counts it."""
    return f"row {int(where.index[where.to_numpy()][0]) + 1}"


def _of(text: pd.Series, where: pd.Series) -> str:
    return shown(text[where].iloc[0])


# the step


def find_grid(stamps: Stamps, expected: str = "", frequency: str = "") -> Grid | None:
    """Return the grid on which all times lie and which they fill best; None if there is none.

    stamps: in order. expected: the step of a run, which is taken if no other one fits better. frequency: the only step
    that is tried, "" for all.
    """
    times, wall = pd.DatetimeIndex(stamps.times), pd.DatetimeIndex(stamps.wall)
    if not stamps.zone:
        return _best(times, times, expected, frequency, "")
    if is_elapsed(frequency) if frequency else usual_step(times) < pd.Timedelta(hours=20):
        return _best(times, times, expected, frequency, stamps.zone)
    by_wall = _best(wall, times, expected, frequency, stamps.zone)
    return by_wall or _best(times, times, expected, frequency, "UTC")


def _best(
    index: pd.DatetimeIndex, times: pd.DatetimeIndex, expected: str, frequency: str, zone: str
) -> Grid | None:
    """The grid of the times `index` of one clock; `times`: the same in UTC."""
    best: Grid | None = None
    others: list[str] = []
    for step in [frequency] if frequency else _steps(index, expected):
        grid = _range(index[0], index[-1], step, _SPARSEST * len(index))
        if grid is None or not index.isin(grid).all():
            continue
        if best is None or len(grid) < len(best.times):
            source = index.searchsorted(grid, side="right") - 1
            # an absent row has the offset from UTC of the row before it
            best, others = Grid(grid - (index - times)[source], source, step, zone), []
        elif len(grid) == len(best.times) and step not in (best.step, *others):
            others.append(step)
    if best is None or best.step == expected or not others:
        return best
    return best._replace(others=tuple(_elsewhere(index[-1], best.step, others)))


def _elsewhere(last: pd.Timestamp, step: str, others: list[str]) -> Iterator[str]:
    """Those of the other steps that lead elsewhere after the last row, each way once."""
    ways = [following(last, step, _AHEAD)]
    for other in others:
        way = following(last, other, _AHEAD)
        if not any(way.equals(known) for known in ways):
            ways.append(way)
            yield other


def told_step(step: str, others: tuple[str, ...]) -> str:
    """What is told where the times fit several steps."""
    fits = " and ".join(others)
    return (
        f"the times fit the step {step}, which was taken, and {fits}: give "
        f"{' or '.join(f'data.frequency={other}' for other in (step, *others))} to say which is right"
    )


def check_frequency(frequency: str | None) -> str:
    """Return the name of a step that the user gave as this module writes it; "" for None. Raises `DataError`."""
    if frequency is None:
        return ""
    try:
        offset = offset_of(frequency)
        if offset is None or pd.Timestamp(0) + offset <= pd.Timestamp(0):
            raise ValueError("a step leads forward")
    except (ValueError, TypeError) as error:
        raise DataError(
            f"data.frequency={frequency}: no such step ({' '.join(str(error).split())[:200]}); give a name of pandas: "
            "h, 15min, D, B, W-MON, MS, ME, QS-JAN, YS-JAN, 2W-FRI; or MS-15 for the 15th of each month"
        ) from None
    if re.fullmatch(_FIXED_DAY, frequency):
        return frequency
    return str(offset.freqstr)


def is_elapsed(step: str) -> bool:
    """Whether a step counts elapsed time, not days of the wall clock."""
    offset = offset_of(step)
    return isinstance(offset, Tick) and not isinstance(offset, Day)


def usual_step(index: pd.DatetimeIndex) -> pd.Timedelta:
    """The most common difference of times in order; zero if there is none."""
    return pd.Timedelta(index.to_series().diff().mode().iloc[0]) if len(index) > 1 else pd.Timedelta(0)


def _steps(index: pd.DatetimeIndex, expected: str) -> Iterator[str]:
    """Names of the steps that the times may have: the expected one, calendar steps before fixed ones."""
    if expected not in ("", *_UNANCHORED):
        yield expected
    if len(index) < 3:
        return
    usual = usual_step(index)
    if usual >= pd.Timedelta(days=27):
        yield from _month_steps(index)
    elif usual >= pd.Timedelta(days=1):
        yield from _half_month_steps(index)
        days = index.to_numpy().astype("datetime64[D]")
        business = _usual(np.busday_count(days[:-1], days[1:]))
        if business == 1:
            yield "B"
    if usual == pd.Timedelta(days=7):
        yield f"W-{_DAYS[index[0].day_of_week]}"
    elif usual == pd.Timedelta(days=usual.days):
        yield _times(usual.days, "D")  # pandas 3 calls whole days "24h" when they are measured
    else:
        yield str(to_offset(usual).freqstr)
    # rarer ones, which a few rows may fit by chance
    if usual >= pd.Timedelta(days=27):
        yield from _weekday_steps(index)
    elif usual >= pd.Timedelta(days=1) and business % 5 and business > 1:
        yield _times(business, "B")


def _month_steps(index: pd.DatetimeIndex) -> Iterator[str]:
    """Steps of whole months: by the first or last (business) day, or a fixed one.

    A fixed day that a month lacks (30 February) is the last one of that month.
    """
    months = _months_between(index)
    month = int(index.month[0]) - 1
    # pandas' own names: quarters begin in JAN, FEB or MAR, and end in OCT, NOV or DEC
    for name, quarter in (
        ("MS", month % 3),
        ("ME", month % 3 + 9),
        ("BMS", month % 3),
        ("BME", month % 3 + 9),
    ):
        if months in (3, 12):
            letter, anchor = ("Q", quarter) if months == 3 else ("Y", month)
            yield f"{name.replace('M', letter)}-{_MONTHS[anchor]}"
        else:
            yield _times(months, name)
    yield f"{_times(months, 'MS')}-{index.day.max()}"


def _weekday_steps(index: pd.DatetimeIndex) -> Iterator[str]:
    """Steps of whole months by a weekday, such as the third or the last Friday."""
    months = _months_between(index)
    weekday = _DAYS[index[0].day_of_week]
    yield _times(months, f"WOM-{(int(index.day[0]) + 6) // 7}{weekday}")
    yield _times(months, f"LWOM-{weekday}")


def _months_between(index: pd.DatetimeIndex) -> int:
    return _usual(np.diff(12 * index.year + index.month))


def _half_month_steps(index: pd.DatetimeIndex) -> Iterator[str]:
    """Two days a month: the first and another one, or another one and the last."""
    for name, edge in (("SMS", index.day == 1), ("SME", index.is_month_end)):
        others = set(index.day[~edge])
        if len(others) == 1:
            yield f"{name}-{others.pop()}"


def _usual(numbers: np.ndarray) -> int:
    """The most common number, at least 1."""
    return max(1, int(np.bincount(numbers).argmax()))


def _times(number: int, name: str) -> str:
    return name if number == 1 else f"{number}{name}"


def offset_of(step: str) -> BaseOffset:
    """The step of a name; `ValueError` if it is none."""
    if match := re.fullmatch(_FIXED_DAY, step):
        return pd.DateOffset(months=int(match[1] or 1), day=int(match[2]))
    return to_offset(step)


def _range(first: pd.Timestamp, last: pd.Timestamp, step: str, most: int) -> pd.DatetimeIndex | None:
    """Return the times from `first` to `last`; None if `first` is none of them, or if there are more than `most`."""
    try:
        offset = offset_of(step)
    except ValueError:
        return None
    fixed = re.fullmatch(_FIXED_DAY, step)
    if fixed and first.day != min(int(fixed[2]), first.days_in_month):
        return None
    if first != last and (last - first) / most > _shortest(offset):
        return None
    grid = pd.date_range(first, last, freq=offset).as_unit(first.unit)
    return grid if len(grid) and grid[0] == first else None


def _shortest(offset: BaseOffset) -> pd.Timedelta:
    """The shortest time that the step takes: from Friday a business day takes three, from Monday one."""
    return pd.Timedelta(pd.date_range("2023-01-01", periods=_AHEAD + 2, freq=offset).to_series().diff().min())


def off_step(times: pd.DatetimeIndex, step: str) -> str:
    """Say to which of the times in order a step does not lead from the first."""
    grid = _range(times[0], times[-1], step, _SPARSEST * len(times))
    if grid is None:
        return f"does not begin at {times[0]}, or hardly any of its times is there"
    return f"does not lead from {times[0]} to {times[~times.isin(grid)][0]}"


def grid_around(anchor: pd.Timestamp, first: pd.Timestamp, last: pd.Timestamp, step: str) -> pd.DatetimeIndex:
    """Return the times of the grid of `step` through `anchor` that lie from `first` to `last` (or just beyond)."""
    offset = offset_of(step)
    steps = int((anchor - first) / _shortest(offset)) + 2
    before = pd.date_range(end=anchor, periods=steps, freq=offset)
    after = pd.date_range(anchor, max(last, anchor), freq=offset)
    grid = pd.DatetimeIndex(before.append(after).unique())
    return grid[(grid >= first) & (grid <= last)]


def same_step(recorded: str, found: str) -> bool:
    """Whether a table's step is that of a run; records of old hold `W`, `QS`, `QE`, `YS` and `YE` without an anchor."""
    return recorded == found or (recorded in _UNANCHORED and recorded == found.partition("-")[0])


def following(last: pd.Timestamp, step: str, steps: int, zone: str = "") -> pd.DatetimeIndex:
    """Return the `steps` times after `last`, which lies on the grid of `step`.

    last: in UTC if a zone is given; the times returned carry the zone.
    """
    offset = offset_of(step)
    if not zone:
        return pd.date_range(last, periods=steps + 1, freq=offset)[1:]
    if is_elapsed(step):
        return pd.date_range(last, periods=steps + 1, freq=offset)[1:].tz_localize("UTC").tz_convert(zone)
    wall = last.tz_localize("UTC").tz_convert(zone).tz_localize(None)
    days = pd.date_range(wall, periods=steps + 1, freq=offset)[1:]
    return days.tz_localize(zone, ambiguous=np.ones(steps, bool), nonexistent="shift_forward")


def clock_change(times: pd.DatetimeIndex) -> str:
    """What to do about times that are absent or doubled where clocks are put forward or back; "" elsewhere."""
    if len(times) and ((times.day_of_week == 6) & (times.hour < 4)).all():
        return " (where clocks change? write every time with its offset, 2024-10-27 02:00+01:00, or in UTC)"
    return ""
