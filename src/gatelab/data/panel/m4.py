"""The M4 competition (Makridakis et al. 2020): 100,000 series of six frequencies, with its official test steps.

A file holds a series in each row, of different lengths and without stamps (the dates in copies of it are invented), so
there are no calendar features. The test file goes on where the training file ends.
"""

import csv
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from gatelab.data.fetch import fetch
from gatelab.data.messages import DataError
from gatelab.data.panel.panel import Panel


class M4Group(NamedTuple):
    """Name of the files, official horizon and season (steps; MASE and OWA use it), frequency.

    naive2: sMAPE (percent) and MASE of the organisers' reference on the test steps, checked here against published
    OWAs (of Theta, ES-RNN, the RNN benchmark); empty where they were not.
    """

    file: str
    horizon: int
    season: int
    frequency: str
    naive2: dict[str, float] = {}  # noqa: RUF012 - nobody writes


GROUPS: Final = {
    "m4_hourly": M4Group("Hourly", 48, 24, "h", {"smape": 18.383, "mase": 2.395}),
    "m4_daily": M4Group("Daily", 14, 1, "D"),
    "m4_weekly": M4Group("Weekly", 13, 1, "W", {"smape": 9.161, "mase": 2.777}),
    "m4_monthly": M4Group("Monthly", 18, 12, "MS"),
    "m4_quarterly": M4Group("Quarterly", 8, 4, "QS"),
    "m4_yearly": M4Group("Yearly", 6, 1, "YS"),
}
"""The numbers of the competitors' guide."""


def m4_files(name: str) -> tuple[str, str]:
    """Return the training and the test file of a group, as `fetch` knows them."""
    return f"m4/{GROUPS[name].file}-train.csv", f"m4/{GROUPS[name].file}-test.csv"


def read_m4(name: str, *, mirror: str | None, cache: str | None) -> Panel:
    """Return a group as one panel of a channel `y`: of each series the training steps, then the official test steps."""
    files = {file: fetch(file, mirror=mirror, cache=cache) for file in m4_files(name)}
    train, test = (_rows(found.path) for found in files.values())
    if list(train) != list(test):
        raise DataError(f"{', '.join(files)}: the two files do not hold the same series in the same order")
    if odd := next((one for one, steps in test.items() if len(steps) != GROUPS[name].horizon), None):
        raise DataError(
            f"{m4_files(name)[1]}: series {odd} has {len(test[odd])} steps, not {GROUPS[name].horizon}"
        )
    series = [np.concatenate([train[one], test[one]]) for one in train]
    starts = np.concatenate([[0], np.cumsum([len(values) for values in series])])
    return Panel(
        tuple(train),
        starts,
        np.concatenate(series)[:, None],
        ("y",),
        frequency=GROUPS[name].frequency,
        place=np.zeros(len(series), np.int64),
        fingerprint={file: found.sha256 for file, found in files.items()},
        notes=[f"test is the official one, the {GROUPS[name].horizon} steps of {m4_files(name)[1]}"],
    )


def _rows(path: Path) -> dict[str, np.ndarray]:
    """Id -> values `[T]` of each row; cells after the last value are empty."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        next(lines)
        return {line[0]: np.array([float(cell) for cell in line[1:] if cell]) for line in lines if line}
