"""The frame of a study's picture: the scales of both axes, the baselines, titles. `picture.py` draws what is in it."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatelab.report.curves import Curves, Point, baselines
from gatelab.run.messages import LABELS
from gatelab.study.analysis.state import Objective, StudyState, short_names, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEHIND = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.6}
INK, FAINT, GRID = "#222222", "#777777", "#e3e3e3"


def scale_x(axes: Axes, found: Curves, state: StudyState) -> None:
    """Powers of two where whole numbers span a factor of 4, powers of ten where others do and should; else plain."""
    xs = sorted({p.x for line in found.lines.values() for p in line} | {p.x for p in found.others})
    names = short_names([found.x, *(key for key in state.keys if key != found.x)])
    match = re.fullmatch(r"parameters:match\((.+)\)", str(state.settings.get("budget")))
    of = f" of {match[1]} (the others: equal parameters)" if match and found.x.endswith("hidden_size") else ""
    axes.set_xlabel(names[found.x].replace("_", " ") + of, color=INK)
    if found.words:
        axes.set_xlim(-0.5, len(found.ticks or ()) - 0.5)
        axes.set_xticks(range(len(found.ticks or ())), _words(found))
        return
    low, high = xs[0], xs[-1]
    whole = all(float(x).is_integer() for x in xs)
    if low > 0 and high / low >= 4 and (whole or found.log):
        base = 2 if whole else 10
        axes.set_xscale("log", base=base)
        margin = max(1.12, (high / low) ** 0.05)
        axes.set_xlim(low / margin, high * margin)
    else:
        margin = 0.06 * (high - low) or max(0.5, abs(low) * 0.1)
        axes.set_xlim(low - margin, high + margin)
    _ticks_x(axes, found, xs)


def _words(found: Curves) -> list[str]:
    """The choices, with the hidden size that a budget gave them where all points of a choice have the same."""
    sizes: dict[float, set[int | None]] = {}
    for point in (*(p for line in found.lines.values() for p in line), *found.others):
        sizes.setdefault(point.x, set()).add(point.trial.hidden)
    words = []
    for place, tick in enumerate(found.ticks or ()):
        size = sizes[place].pop() if len(sizes[place]) == 1 else None
        words.append(show(tick) if size is None else f"{show(tick)}\nhidden size {size}")
    return words


def _ticks_x(axes: Axes, found: Curves, xs: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    if found.ticks is not None and len(xs) <= 12:
        axes.set_xticks(list(xs), [f"{x:g}" if abs(x) < 1e5 else f"{x:.0e}" for x in xs])
    elif axes.get_xscale() == "log" and all(float(x).is_integer() for x in xs):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    if axes.get_xscale() == "log":
        axes.xaxis.set_minor_locator(NullLocator())


def short(value: float) -> str:
    """`64`, `16k`, `1.5M`."""
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e6 if letter == 'M' else 1e3):.3g}{letter}"
    return f"{value:g}"


def scale_y(axes: Axes, points: Iterable[Point]) -> str:
    """All values in sight, but for a few that would squeeze the others (a run that diverged) and for long intervals.

    Returns:
        what lies out of the frame, in words.
    """
    every = [p for p in points if math.isfinite(p.summary.mean)]
    if not every:
        return ""
    frame = frame_of(every)
    if frame.log:
        _log_y(axes)
    axes.set_ylim(frame.bottom, frame.top)
    return frame.outside(every)


@dataclass(frozen=True)
class Frame:
    """What of the y axis is shown.

    Attributes:
        bottom, top: its ends.
        log: equal steps are equal factors.
        least, most: the lowest and the highest run or end of an interval of the points that it was made for.
    """

    bottom: float
    top: float
    log: bool
    least: float
    most: float

    def outside(self, points: Sequence[Point]) -> str:
        """What of the points lies out of the frame, in words; empty if nothing does."""
        means = [p.summary.mean for p in points]
        outside = [f"{mean:.4g}" for mean in means if not self.bottom <= mean <= self.top]
        words = [f"out of the frame: {', '.join(outside)}"] if outside else []
        words += ["some run out of the frame"] if self.least < self.bottom or self.most > self.top else []
        return "; ".join(words)

    def near(self, value: float) -> bool:
        """Whether a line at `value` belongs into the picture, for which a plain frame may grow by half."""
        span = 0.0 if self.log else 0.5 * (self.top - self.bottom)
        return self.bottom - span <= value <= self.top + span


def frame_of(points: Sequence[Point]) -> Frame:
    """The frame for some points, at least one, whose means are finite."""
    shown = in_sight(list(points))
    low, high = reach(shown)
    ends = [end for p in shown for end in (p.summary.low, p.summary.high) if end is not None]
    least, most = min([low, *ends]), max([high, *ends])
    if low > 0 and high / low > 6:
        return Frame(low / 1.15, high * 1.15, True, least, most)
    span = (high - low) or abs(high) * 0.1 or 1.0
    bottom, top = max(least, low - 0.35 * span), min(most, high + 0.35 * span)
    return Frame(bottom - 0.06 * span, top + 0.06 * span, False, least, most)


def reach(points: Sequence[Point]) -> tuple[float, float]:
    """The least and the largest value of any run or mean."""
    values = [value for p in points for value in (*p.values, p.summary.mean) if math.isfinite(value)]
    return min(values), max(values)


def in_sight(points: list[Point]) -> list[Point]:
    """Without the points, one in ten at most, that would leave all others less than a third of the frame."""
    middle = statistics.median(p.summary.mean for p in points)
    nearest = sorted(points, key=lambda p: max(abs(end - middle) for end in reach([p])))
    low, high = reach(points)
    for count in range(1, len(points) // 10 + 1):
        rest = nearest[:-count]
        least, most = reach(rest)
        if 0 < 3 * (most - least) < high - low:
            return rest
    return points


def _log_y(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_baselines(axes: Axes, state: StudyState) -> None:
    """Dashed lines; the frame grows for one that is near, and what is far away is named at its edge."""
    low, high = axes.get_ylim()
    span = high - low
    far: list[tuple[str, float]] = []
    near: list[float] = []
    linear = axes.get_yscale() == "linear"
    for name, value in baselines(state).items():
        if not (low - 0.5 * span <= value <= high + 0.5 * span if linear else low <= value <= high):
            far.append((name, value))
            continue
        near.append(value)
        bottom, top = axes.get_ylim()
        if linear:
            axes.set_ylim(min(bottom, value - 0.05 * span), max(top, value + 0.07 * span))
        axes.axhline(value, color=FAINT, ls=(0, (4, 3)), lw=1.1, zorder=1)
        text = f"{name.replace('_', ' ')} {value:.4g}"
        options: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
        options |= {"bbox": BEHIND, "ha": "right", "fontsize": 7.5, "color": FAINT, "zorder": 5}
        cells = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
        ends = [float(np.asarray(line.get_ydata())[-1]) for line in cells]
        crowded = linear and any(
            0 <= end - value < 0.08 * span for end in ends
        )  # a line would run through it
        below: dict[str, Any] = {"xytext": (0, -2.5), "va": "top"}
        axes.annotate(
            text, (0.995, value), **(below if crowded else {"xytext": (0, 2.5), "va": "bottom"}), **options
        )
    for edge, sign in (("above", 1.0), ("below", -1.0)):
        there = [f"{n.replace('_', ' ')} {v:.4g}" for n, v in far if (v > high) == (sign > 0)]
        if there:
            bottom, top = axes.get_ylim()
            if linear and sign > 0 and near:  # room for the label of the line below
                axes.set_ylim(bottom, max(top, max(near) + 0.11 * (top - bottom)))
            x, y, ha, va = (0.995, 0.99, "right", "top") if sign > 0 else (0.008, 0.01, "left", "bottom")
            text = f"{edge} the frame: {', '.join(there)}"
            small: dict[str, Any] = {"fontsize": 7.5, "color": FAINT, "bbox": BEHIND, "zorder": 5}
            axes.text(x, y, text, transform=axes.transAxes, ha=ha, va=va, **small)


def label(objective: Objective) -> str:
    """An axis' name with its unit and which way is better."""
    better = "lower is better" if objective.sign > 0 else "higher is better"
    name = LABELS.get(objective.name, objective.name.replace("_", " "))
    return f"{name} ({better})" if "(" not in name else f"{name.removesuffix(')')}; {better})"


def finish(axes: Axes, title: str, *lines: str) -> None:
    """Title, small lines below it, grid and spines."""
    shown = [line for line in lines if line]
    pad = 6.0 + 11.5 * len(shown)
    axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=pad)
    text = "\n".join(shown)
    axes.text(0.0, 1.015, text, transform=axes.transAxes, fontsize=8.2, color=FAINT, linespacing=1.35)
    axes.grid(color=GRID, lw=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
