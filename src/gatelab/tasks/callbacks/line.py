"""One line of text about a run that fits a width: figures, times and rates in few characters, and a bar.

Pure text: it neither prints nor knows a Trainer (`progress.py` does). Where a line is too narrow, whole fields go,
the least important first; a number is never cut.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

BAR_LEAST, BAR_MOST = 4, 30
"""Characters of the bar; where fewer are left there is none."""


class Field(NamedTuple):
    """A part of the line; `rank` 0 always stays, and the highest rank goes first."""

    text: str
    rank: int = 0


def fit(fields: Sequence[Field], width: int) -> str:
    """Join the fields with two spaces, leaving out the highest ranks until the line has `width` characters."""
    kept = list(fields)
    while len(line := "  ".join(field.text for field in kept)) > width:
        droppable = [field for field in kept if field.rank]
        if not droppable:
            return line[:width]
        kept.remove(max(droppable, key=lambda field: field.rank))
    return line


def bar_line(title: str, share: float, fields: Sequence[Field], width: int, filled: str, empty: str) -> str:
    """`title ━━━━──── 45%  fields`: the bar takes the room that the fields of rank up to 3 leave.

    Args:
        share: of the work that is done, 0 to 1.
        filled, empty: one character each.
    """
    percent = f"{min(int(100 * share), 100):3d}%"
    room = width - len(fit([Field(f"{title} {percent}"), *(f for f in fields if f.rank <= 3)], width)) - 1
    bar = ""
    if room >= BAR_LEAST:
        length = min(room, BAR_MOST)
        done = min(int(length * share), length)
        bar = f" {filled * done}{empty * (length - done)}"
    return fit([Field(f"{title}{bar} {percent}"), *fields], width)


def figure(value: float) -> str:
    """Four significant digits, of the same length for values of one size: 0.3810, 144.1, 1.200e-05."""
    return f"{value:#.4g}".removesuffix(".") if math.isfinite(value) else str(value)


def rate(value: float, unit: str) -> str:
    """`12.3k windows/s`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:#.3g}".removesuffix(".") + f"{letter} {unit}/s"
    return f"{value:.3g} {unit}/s"


def clock(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`, `3 d 04:05`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
