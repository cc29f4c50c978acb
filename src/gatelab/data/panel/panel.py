"""A panel in memory: series of any length below each other, and the part that each column of its file has.

Dimensions: `N` rows, `S` series, `C` channels, `M` times of the grid.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from gatelab.data.panel.rows import bounds, ranges


class Columns(NamedTuple):
    """The part of each column: names in the file. categorical: of known and static, the numbers that are names."""

    id: str
    time: str | None
    target: tuple[str, ...]
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()


@dataclass
class Panel:
    """`S` series of any length, below each other.

    ids: their names. starts: `[S + 1]`, where each begins among the rows, then N. values: `[N, C]` float64 of the
        `channels` (targets, then past covariates), nan where missing.
    known, static: numbers `[N]` or `[S]` by name, nan where missing; codes: place in `words[name]` `[N]` or `[S]` of
        the categorical ones, -1 where missing. In the order of the settings.
    times, wall: `[M]` of the grid (see grid.py), empty without stamps; place: `[S]`, the time of each first row.
    """

    ids: tuple[str, ...]
    starts: np.ndarray
    values: np.ndarray
    channels: tuple[str, ...]
    known: dict[str, np.ndarray] = field(default_factory=dict)
    static: dict[str, np.ndarray] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)
    frequency: str = ""
    zone: str = ""
    times: np.ndarray = field(default_factory=lambda: np.zeros(0, "datetime64[us]"))
    wall: np.ndarray = field(default_factory=lambda: np.zeros(0, "datetime64[us]"))
    place: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    fingerprint: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def lengths(self) -> np.ndarray:
        """Rows `[S]` of each series."""
        return np.diff(self.starts)

    def without_last(self, rows: int) -> "Panel":
        """Return the panel without the last `rows` rows of every series; the shorter ones have none left."""
        lengths = (self.lengths - rows).clip(min=0)
        kept = ranges(self.starts[:-1], lengths)
        known = {name: column[kept] for name, column in self.known.items()}
        return replace(self, starts=bounds(lengths), values=self.values[kept], known=known)

    def when(self, series: int, row: int) -> str:
        """The time of a row of a series (from 0), or its number where there are no stamps."""
        if not len(self.times):
            return f"row {row + 1}"
        return str(np.datetime_as_string(self.wall[self.place[series] + row], unit="m")).replace("T", " ")
