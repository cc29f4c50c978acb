"""Forecasts as a PNG file: the past, the truth where it is known, the forecast and its intervals.

Each sample has a panel. It knows no task: a sample says what it shows (`gatelab.tasks.contract.SeriesSample`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.data.files import atomic_file
from gatelab.report.picture import DPI, FAINT, STYLES, WIDTH, finish
from gatelab.tasks.contract import SeriesSample, Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_HEIGHT = 2.8
MOST_PANELS = 6
"""Samples that are drawn; the others are named as left out."""
SHADES = {95: 0.12, 80: 0.18, 50: 0.28}
"""Percent of an interval -> how dark it is."""


def write_forecasts(samples: Sequence[SeriesSample], path: Path) -> None:
    """Draw samples below each other into a PNG file, which is replaced in one step."""
    from matplotlib.figure import Figure

    drawn = samples[:MOST_PANELS]
    figure = Figure(figsize=(WIDTH * 1.4, PANEL_HEIGHT * len(drawn) + 0.6), layout="constrained")
    for axes, sample in zip(figure.subplots(len(drawn), 1, squeeze=False)[:, 0], drawn, strict=True):
        draw_sample(axes, sample)
    left = len(samples) - len(drawn)
    if left:
        figure.supxlabel(f"{left} more not shown", fontsize=8.2, color=FAINT)
    with atomic_file(path) as file:
        figure.savefig(file, dpi=DPI, format="png", metadata={"Software": None})


def draw_sample(axes: Axes, sample: SeriesSample) -> None:
    """Draw one sample into `axes`."""
    seen: set[str] = set()

    def once(label: str) -> str | None:
        new = label not in seen
        seen.add(label)
        return label if new else None

    for place, window in enumerate(sample.windows):
        colour = STYLES[place % len(STYLES)][0]
        times = _axis(window)
        begin = len(window.past)
        known = [*window.past, *window.future]
        if place == 0 or not window.past:
            axes.plot(times[: len(known)], known, color=FAINT, lw=1.2, label=once("truth"))
        else:
            axes.plot(times[begin : len(known)], window.future, color=FAINT, lw=1.2)
        after = times[begin:]
        for band in window.bands:
            shade: dict[str, Any] = {"color": colour, "alpha": SHADES.get(band.percent, 0.15), "lw": 0}
            axes.fill_between(after, band.low, band.high, label=once(f"{band.percent} %"), **shade)
        axes.plot(after, window.forecast, color=colour, lw=1.6, label=once("forecast"))
        axes.axvline(after[0], color=FAINT, lw=0.8, ls=":")
    axes.set_xlabel(sample.steps)
    axes.set_ylabel(sample.label)
    axes.legend(fontsize=8, frameon=False, loc="upper left", ncols=5)
    finish(axes, "", sample.note)


def _axis(window: Window) -> list[Any]:
    if window.times is not None:
        return [datetime.fromisoformat(time) for time in window.times]
    return list(range(window.start - len(window.past), window.start + len(window.forecast)))
