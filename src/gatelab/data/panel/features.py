"""Covariates of a panel as networks read them: numbers standardised, categories as codes, features of the calendar.

Numbers are standardised by the rows that train (a mean and a standard deviation of all series together). Categories are
codes from 1 on, the most frequent in those rows first; 0 stands for a missing value and for one that training has not
seen. The calendar (`hour`, `weekday`, `day`, `month`) gives codes too, since a network that embeds them needs no
assumption of their shape; Fourier terms give smooth seasons of any length (Hyndman & Athanasopoulos, Forecasting:
principles and practice, 7.4). Both follow the clock of the stamps' zone and are kept once for
each time, not for each row.

Dimensions: `N` rows, `S` series, `M` times of the grid, `F` numbers, `G` categories.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from gatelab.data.messages import DataError, did_you_mean
from gatelab.data.panel.panel import Panel
from gatelab.data.panel.rows import series_of

_DAY: Final = 86_400_000_000
"""Microseconds."""


def _month(wall: np.ndarray) -> np.ndarray:
    return wall.astype("datetime64[M]").astype(np.int64)


CALENDAR: Final[dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]]] = {
    "hour": (24, lambda wall: wall.astype(np.int64) % _DAY // (_DAY // 24)),
    "weekday": (7, lambda wall: (wall.astype(np.int64) // _DAY + 3) % 7),  # 1970 began on a Thursday
    "day": (31, lambda wall: (wall.astype("datetime64[D]") - wall.astype("datetime64[M]")).astype(np.int64)),
    "month": (12, lambda wall: _month(wall) % 12),
}
"""Name -> number of values and the value from 0 on; Monday is 0."""


class Encoded(NamedTuple):
    """Covariates of every row `[N, ...]`, of every time of the grid `[M, ...]` and of every series `[S, ...]`.

    A window's known covariates are those of its rows, then those of its times.
    """

    rows: np.ndarray
    row_codes: np.ndarray
    times: np.ndarray
    time_codes: np.ndarray
    static: np.ndarray
    static_codes: np.ndarray


def check_calendar(calendar: Sequence[str], fourier: Mapping[object, int], time: str | None) -> None:
    """Raise `DataError` for a feature that there is not, or where there are no stamps to make it from."""
    for name in calendar:
        if name not in CALENDAR:
            hint = did_you_mean(str(name), CALENDAR)
            raise DataError(f"data.calendar={name}: expected some of {', '.join(CALENDAR)}.{hint}")
    for period, terms in fourier.items():
        if not re.fullmatch(r"\d+(\.\d+)?", str(period)) or not float(str(period)) >= 2:
            raise DataError(
                f"data.fourier: {period!r} is no season; give steps, at least 2: data.fourier={{24: 3}}"
            )
        if isinstance(terms, bool) or not isinstance(terms, int) or not 1 <= terms <= float(str(period)) / 2:
            raise DataError(
                f"data.fourier: {period}: {terms}: give 1 to {int(float(str(period)) / 2)} pairs of terms"
            )
    if (calendar or fourier) and time is None:
        raise DataError("data.calendar and data.fourier need the stamps of the rows: give data.time=COLUMN")


def fit_scales(panel: Panel, train: np.ndarray) -> dict[str, list[float]]:
    """Return mean and standard deviation of each covariate of numbers on the rows `train`, given by number."""
    found = {}
    for name, values in _of_training(panel, train):
        if name not in panel.words:
            there = values[~np.isnan(values)]
            spread = float(there.std()) if len(there) and np.ptp(there) > 0 else 1.0
            found[name] = [float(there.mean()) if len(there) else 0.0, spread]
    return found


def fit_words(panel: Panel, train: np.ndarray) -> dict[str, list[str]]:
    """Return the values of each category on the rows `train`, the most frequent first, equal ones by name."""
    found = {}
    for name, values in _of_training(panel, train):
        if name in panel.words:
            seen = np.bincount(values[values >= 0], minlength=len(panel.words[name]))
            order = np.argsort(-seen, kind="stable")
            found[name] = [panel.words[name][place] for place in order if seen[place]]
    return found


def _of_training(panel: Panel, train: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each covariate of the file with its values on the training rows, or in the series that have such."""
    series = np.unique(series_of(panel.starts)[train])
    for name, values in panel.known.items():
        yield name, values[train]
    for name, values in panel.static.items():
        yield name, values[series]


def code_sizes(
    names: Sequence[str], words: Mapping[str, list[str]], calendar: Sequence[str] = ()
) -> dict[str, int]:
    """Return the number of codes, 0 included, of the categories among `names` and of the calendar."""
    return {name: len(words[name]) + 1 for name in names if name in words} | {
        name: CALENDAR[name][0] + 1 for name in calendar
    }


def number_names(
    names: Sequence[str], words: Mapping[str, list[str]], fourier: Mapping[object, int] = {}
) -> tuple[str, ...]:
    """Return the names of the numbers among `names` and of the Fourier terms, as `encode` lays them out."""
    terms = [
        f"{wave}_{period}_{k}"
        for period, most in fourier.items()
        for k in range(1, most + 1)
        for wave in ("sin", "cos")
    ]
    return tuple(name for name in names if name not in words) + tuple(terms)


def encode(
    panel: Panel,
    scales: Mapping[str, list[float]],
    words: Mapping[str, list[str]],
    calendar: Sequence[str],
    fourier: Mapping[object, int],
) -> Encoded:
    """Return the covariates of a panel on the scales and with the codes of the training rows."""

    def numbers(columns: Mapping[str, np.ndarray], items: int) -> np.ndarray:
        scaled = [(values - scales[n][0]) / scales[n][1] for n, values in columns.items() if n not in words]
        return np.nan_to_num(_side_by_side(scaled, items, np.float32))

    def codes(columns: Mapping[str, np.ndarray], items: int) -> np.ndarray:
        coded = []
        for name, values in columns.items():
            if name in words:
                code = {word: place for place, word in enumerate(words[name], 1)}
                table = [code.get(word, 0) for word in panel.words[name]]
                coded.append(np.array([*table, 0])[values])  # -1, missing: the last
        return _side_by_side(coded, items, np.int32)

    rows, series, times = int(panel.starts[-1]), len(panel.ids), len(panel.wall)
    waves, number = [], step_numbers(panel.wall, panel.frequency) if fourier else np.zeros(0)
    for period, most in fourier.items():
        for k in range(1, most + 1):
            angle = 2 * np.pi * k * (number / float(str(period)) % 1.0)
            waves += [np.sin(angle), np.cos(angle)]
    return Encoded(
        numbers(panel.known, rows),
        codes(panel.known, rows),
        _side_by_side(waves, times, np.float32),
        _side_by_side([CALENDAR[name][1](panel.wall) + 1 for name in calendar], times, np.int32),
        numbers(panel.static, series),
        codes(panel.static, series),
    )


def _side_by_side(columns: Sequence[np.ndarray], rows: int, dtype: type) -> np.ndarray:
    return np.stack(columns, axis=1).astype(dtype) if columns else np.zeros((rows, 0), dtype)


def step_numbers(wall: np.ndarray, step: str) -> np.ndarray:
    """Return how many steps lie between 1970 and each time, so that training and forecasting agree on the phase."""
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(?:-.*)?", step)
    number, unit = (int(match[1] or 1), match[2]) if match else (1, "")
    months = {"MS": 1, "ME": 1, "BMS": 1, "BME": 1, "WOM": 1, "LWOM": 1, "QS": 3, "QE": 3, "BQS": 3, "BQE": 3}
    months |= dict.fromkeys(("YS", "YE", "BYS", "BYE"), 12)
    if unit in months:
        return _month(wall) / (months[unit] * number)
    if unit in ("SMS", "SME"):
        return (
            2 * _month(wall) + (wall.astype("datetime64[D]") - wall.astype("datetime64[M]")).astype(int) // 14
        )
    if unit == "B":
        return np.busday_count("1970-01-01", wall.astype("datetime64[D]")) / number
    length = {
        "W": 7 * _DAY,
        "D": _DAY,
        "h": _DAY // 24,
        "min": _DAY // 1440,
        "s": 1_000_000,
        "ms": 1000,
        "us": 1,
    }
    return wall.astype(np.int64) / (length.get(unit, 1) * number)
