"""The picture of a study: the metric over hidden size (or any parameter) with intervals, one line a cell.

Drawn without a display. Lines differ by marker as well as by colour, dark and light in turn, so that it can be read
in grey. In a study of several objectives it shows the first two and the Pareto front. Which points there are is
decided in `curves.py`.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from gatelab.run.config.compose import nearest
from gatelab.run.errors import RequestError
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.state import Objective, StudyState, Trial, is_number, short_names, show
from gatelab.study.analysis.statistics import Summary, decimals, over_what, summarise, values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


STYLES = (
    ("#12436d", "o"),
    ("#ee8a3a", "s"),
    ("#157a6e", "^"),
    ("#b08fd8", "D"),
    ("#801650", "v"),
    ("#9a9a9a", "P"),
    ("#3d3d3d", "X"),
    ("#c9a227", "<"),
)


"""Colour and marker of each line; neighbours are dark and light."""


WIDTH, NARROW, HEIGHT, DPI = 7.4, 4.4, 4.6, 150


def write_picture(
    states: Sequence[StudyState],
    path: str | Path,
    *,
    x: str | None = None,
    by: str | None = None,
    note: str | None = None,
) -> Path | None:
    """Draw studies side by side into a PNG file, put in place in one step.

    Args:
        states: those without a finished trial are left out. One study over ranges gets a panel for each of its
            most important parameters, else each study gets one.
        path: of the file.
        x, by: as `curves` takes them.
        note: kept inside the file as its description.

    Returns:
        the path, or None where there was nothing to draw.

    Raises:
        RequestError: no such parameter.
    """
    drawn: list[tuple[StudyState, str | None]] = [(state, x) for state in states if state.done]
    if not drawn:
        return None
    if len(drawn) == 1 and x is None and len(states[0].objectives) == 1:
        drawn = [(drawn[0][0], key) for key in slices(drawn[0][0])]
    same = len({state.name for state, _ in drawn}) == 1
    figure, panels = _figure(len(drawn), WIDTH if len(drawn) == 1 or not same else NARROW, share=same)
    for axes, (state, key) in zip(panels, drawn, strict=True):
        first, last = axes is panels[0] or not same, axes is panels[-1] or not same
        draw(axes, state, x=key, by=by, first=first, last=last)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    figure.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None, "Description": note})
    os.replace(temporary, path)
    return path


def _figure(panels: int, width: float, *, share: bool) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, HEIGHT), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False, sharey=share)[0])


def draw(
    axes: Axes,
    state: StudyState,
    *,
    x: str | None = None,
    by: str | None = None,
    first: bool = True,
    last: bool = True,
) -> None:
    """Draw one study, which has a finished trial, into `axes`.

    Args:
        x, by: as `curves` takes them.
        first, last: of the panels of one study: the first has the titles, the last the legend.
    """
    if len(state.objectives) > 1 and x is None:
        _draw_front(axes, state)
        return
    found = curves(state, x, by)
    assert found is not None
    scale_x(axes, found, state)
    for index, name in enumerate(found.lines):
        colour, marker = STYLES[index % len(STYLES)]
        _draw_line(axes, found, name, colour, marker, _shift(found, index))
    for point in found.others:
        axes.plot(point.x, point.summary.mean, ".", ms=4, color="#bbbbbb", zorder=1)
    cut = scale_y(axes, [*(p for line in found.lines.values() for p in line), *found.others])
    draw_baselines(axes, state)
    best = _mark_best(axes, state, found)
    if last:
        _legend(axes, found)
    if first:
        axes.set_ylabel(label(state.objectives[0]), color=INK)
        finish(axes, state.name, best, _subtitle(state, found, cut))
    else:
        finish(axes, "", " ", " ")


def _subtitle(state: StudyState, found: Curves, cut: str) -> str:
    parts = [over_what(state)]
    if cut:
        parts.append(cut)
    if found.rest and not found.ranged:
        parts.append(f"lines: the best over {', '.join(found.rest)}")
    if state.state != "finished":
        parts.append(f"so far: {len(state.done)} of {len(state.trials)} trials")
    return "; ".join(parts)


def _draw_line(axes: Axes, found: Curves, name: str, colour: str, marker: str, shift: float) -> None:
    points = found.lines[name]
    at = [_shifted(axes, p.x, shift) for p in points]
    means = [p.summary.mean for p in points]
    for x, point in zip(at, points, strict=True):
        if len(point.values) > 1:
            axes.plot([x] * len(point.values), point.values, ".", ms=3.5, alpha=0.55, color=colour, zorder=2)
        if point.summary.half is not None:
            axes.errorbar(
                x, point.summary.mean, point.summary.half, color=colour, capsize=2.5, lw=1.1, zorder=3
            )
    style = "none" if found.ranged or found.words else "-"
    edge: dict[str, Any] = {"mec": "white", "mew": 0.7}
    axes.plot(at, means, ls=style, lw=1.7, color=colour, marker=marker, ms=6.5, label=name, zorder=4, **edge)


def _shift(found: Curves, index: int) -> float:
    """Lines stand a little beside each other, so that their intervals can be seen; 1 is one line further."""
    return 0.0 if found.ranged else index - (len(found.lines) - 1) / 2


def _shifted(axes: Axes, x: float, shift: float) -> float:
    if axes.get_xscale() == "log":
        return float(x * 2.0 ** (0.045 * shift))
    low, high = axes.get_xlim()
    return float(x + 0.008 * (high - low) * shift)


def _mark_best(axes: Axes, state: StudyState, found: Curves) -> str:
    """Put a ring around the best point; say in words which it is."""
    sign = state.objectives[0].sign
    every = [(index, point) for index, line in enumerate(found.lines.values()) for point in line]
    index, best = min(every, key=lambda pair: sign * pair[1].summary.mean)
    x = _shifted(axes, best.x, _shift(found, index))
    axes.plot(x, best.summary.mean, "o", ms=13, mfc="none", mec=INK, mew=1.1, zorder=6)
    names = short_names(state.keys)
    params = [f"{names[key]} {show(value)}" for key, value in best.trial.params.items()]
    return f"ring: the best, {best.summary.text(decimals([best.summary]))} with {', '.join(params)}"


def _legend(axes: Axes, found: Curves) -> None:
    """The lines' names beside the picture, in the order in which the lines end."""
    if list(found.lines) == [""]:
        return
    order = sorted(found.lines, key=lambda name: -found.lines[name][-1].summary.mean)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    title = (found.by or "").rpartition(".")[2].replace("_", " ")
    axes.legend(
        [handles[name] for name in order],
        order,
        title=title,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize=9,
        title_fontsize=9,
    )


def _draw_front(axes: Axes, state: StudyState) -> None:
    """The first objective over the second, with the Pareto front as a step line."""
    first, second = state.objectives[:2]
    front = state.pareto
    numbers = {trial.number for trial in front}
    others = [trial for trial in state.done if trial.number not in numbers]
    axes.plot([t.values[1] for t in others], [t.values[0] for t in others], "o", ms=5, mfc="none", mec=FAINT)
    xs = [t.values[1] for t in front]
    if min(t.values[1] for t in state.done) > 0 and max(xs) / min(xs) >= 8:
        axes.set_xscale("log")
    if len(state.objectives) == 2:
        ordered = sorted(front, key=lambda t: t.values[1])
        where: Any = "post" if first.sign == second.sign == 1.0 else "mid"
        at, to = [t.values[1] for t in ordered], [t.values[0] for t in ordered]
        axes.step(at, to, where=where, color=STYLES[0][0], lw=1.2, zorder=2)
    axes.plot(xs, [t.values[0] for t in front], "o", ms=7, color=STYLES[0][0], mec="white", label="front")
    for trial in front:
        text = ", ".join(show(value) for value in trial.params.values())
        axes.annotate(
            text,
            (trial.values[1], trial.values[0]),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=7,
            color=INK,
        )
    axes.set(xlabel=label(second), ylabel=label(first))
    shown = ", ".join(short_names(state.keys).values())
    line = f"filled: the Pareto front, {len(front)} of {len(state.done)} trials (labels: {shown})"
    finish(axes, state.name, line, over_what(state))


FACTS = {"solved_size": "hidden", "parameters": "parameters", "seconds": "seconds"}


"""What x can be beside a parameter, and the trial's attribute that holds it."""


MOST_LINES, MOST_PANELS = 8, 3


@dataclass(frozen=True)
class Point:
    """One trial in the picture.

    Attributes:
        x: of the axis; the position of a choice that is no number.
        summary: mean and interval of its runs.
        values: of the runs.
        trial: the facts.
    """

    x: float
    summary: Summary
    values: tuple[float, ...]
    trial: Trial


@dataclass(frozen=True)
class Curves:
    """Everything that a picture needs.

    Attributes:
        x, by: keys of the axis and of the lines (None: one line).
        ticks: the values of x where they are a list (words or numbers), else None.
        words: the ticks are no numbers; x counts them from 0.
        lines: name -> its points by x, the best trial of each x.
        others: points that are not the best at their x.
        ranged: x comes from a range, so that points are not to be joined.
        log: equal steps of x are equal factors.
        rest: short names of parameters that neither axis shows.
    """

    x: str
    by: str | None
    ticks: tuple[Any, ...] | None
    words: bool
    lines: dict[str, list[Point]]
    others: list[Point]
    ranged: bool
    log: bool
    rest: tuple[str, ...]


def curves(state: StudyState, x: str | None = None, by: str | None = None) -> Curves | None:
    """The points of a study's picture; None while no trial has finished.

    Args:
        x: key of the axis, also in short (`hidden_size`), or one of `FACTS`; None: chosen.
        by: key that tells the lines apart; None: chosen; an empty text: one line.

    Raises:
        RequestError: no such parameter, or no finished trial has it.
    """
    if not state.done:
        return None
    x = _named(state, x) if x else choose_x(state)
    by = _named(state, by) if by else (choose_by(state, x) if by is None else None)
    trials = [trial for trial in state.done if value_at(trial, x) is not None]
    if not trials:
        raise RequestError(
            f"{x}: no finished trial of {state.name} has it, so it cannot be the picture's axis."
        )
    values = [value_at(trial, x) for trial in trials]
    words = not all(is_number(value) for value in values)
    ticks = tuple(_order(values, words))
    place = {repr(value): index for index, value in enumerate(ticks)}
    ranged = x in FACTS or (not words and _is_ranged(trials, x))
    lines: dict[str, list[Point]] = {}
    others: list[Point] = []
    for trial, value in zip(trials, values, strict=True):
        point = _point(trial, float(place[repr(value)]) if words else float(value))
        line = lines.setdefault(_line(trial, by), [])
        if ranged:
            line.append(point)
        else:
            _place(state.objectives[0].sign, line, others, point)
    names = short_names(state.keys)
    rest = tuple(names[key] for key in state.keys if key not in (x, by) and _varies(trials, key))
    ordered = {name: sorted(lines[name], key=lambda p: p.x) for name in lines}
    return Curves(x, by, None if ranged else ticks, words, ordered, others, ranged, _is_log(trials, x), rest)


def _place(sign: float, line: list[Point], others: list[Point], point: Point) -> None:
    """Add a point to its line, unless a better one stands at the same x."""
    for index, there in enumerate(line):
        if there.x == point.x:
            better = sign * point.summary.mean < sign * there.summary.mean
            others.append(there if better else point)
            line[index] = point if better else there
            return
    line.append(point)


def _point(trial: Trial, x: float) -> Point:
    values = tuple(values_of(trial.runs).values()) or (trial.values[0],)
    return Point(x, summarise(values), values, trial)


def _line(trial: Trial, by: str | None) -> str:
    return "" if by is None else show(trial.params.get(by, "none"))


def choose_x(state: StudyState) -> str:
    """A hidden size if it varies, else the parameter with the most numbers, else the one with most choices."""
    keys = [key for key in state.keys if _varies(state.done, key)]
    for key in keys:
        if key.rpartition(".")[2] == "hidden_size":
            return key
    if not keys:
        return state.keys[0] if state.keys else "parameters"

    def rank(key: str) -> tuple[bool, int]:
        values = [t.params[key] for t in state.done if key in t.params]
        return all(is_number(value) for value in values), len({repr(value) for value in values})

    return max(keys, key=rank)


def slices(state: StudyState) -> list[str]:
    """The axes of a picture: one, or where x comes from a range up to three, the most important parameters first."""
    x = choose_x(state)
    varied = [key for key in state.keys if _varies(state.done, key)]
    if not _is_ranged(state.done, x) or len(varied) < 2:
        return [x]
    ranked = [share.key for share in importance(state).shares if share.key]
    return (ranked or varied)[:MOST_PANELS]


def choose_by(state: StudyState, x: str) -> str | None:
    """`model` if it varies, else the parameter with the fewest values, two to eight."""
    counts = {key: len({repr(t.params.get(key)) for t in state.done}) for key in state.keys if key != x}
    fit = {key: count for key, count in counts.items() if 2 <= count <= MOST_LINES}
    if "model" in fit:
        return "model"
    words = {k for k in fit if not all(is_number(t.params.get(k, 0)) for t in state.done)}
    return min(fit, key=lambda key: (key not in words, fit[key]), default=None)


def _named(state: StudyState, name: str) -> str:
    known = [*state.keys, *FACTS]
    found = [key for key in known if key == name or key.endswith(f".{name}")]
    if not found:
        raise RequestError(
            f"{name}: no parameter of this study.{nearest(name, [*known, *short_names(known).values()])} "
            f"Parameters: {', '.join(known)}."
        )
    return found[0]


def value_at(trial: Trial, key: str) -> Any:
    """A parameter's value, or one of `FACTS`; None where the trial has none."""
    return getattr(trial, FACTS[key]) if key in FACTS else trial.params.get(key)


def _varies(trials: Sequence[Trial], key: str) -> bool:
    return len({repr(value_at(trial, key)) for trial in trials}) > 1


def _is_ranged(trials: Sequence[Trial], key: str) -> bool:
    kinds = {type(t.distributions[key]).__name__ for t in trials if key in t.distributions}
    return bool(kinds - {"CategoricalDistribution"})


def _is_log(trials: Sequence[Trial], key: str) -> bool:
    """Whether a range says so; a list of numbers counts as meant so."""
    known = [t.distributions[key] for t in trials if key in t.distributions]
    return all(getattr(distribution, "log", True) for distribution in known)


def _order(values: Sequence[Any], words: bool) -> list[Any]:
    distinct = list({repr(value): value for value in values}.values())
    return distinct if words else sorted(distinct)


def baselines(state: StudyState) -> dict[str, float]:
    """Name -> the trivial model's value of the first objective, on what the runs were validated on.

    With folds: the mean over the folds of the first finished trial. Empty where no run tells.
    """
    if state.baselines is not None:
        return dict(state.baselines)
    for trial in state.done:
        found = [_baselines_of(run.directory, state.objectives[0].name) for run in trial.runs]
        names = [name for name in (found[0] if found else {}) if all(name in values for values in found)]
        if names:
            return {name: fmean(values[name] for values in found) for name in names}
    return {}


def _baselines_of(run: Path, metric: str) -> dict[str, float]:
    try:
        result = json.loads((run / "result.json").read_text())
        known = result["splits"]["valid"]["baselines"]
        return {name: float(scores[metric]) for name, scores in known.items() if metric in scores}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # the picture does without


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
    name = objective.label
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
