"""The picture of a study: the metric over hidden size (or any parameter) with intervals, one line a cell.

`curves` chooses the axes and gives the points as numbers, for the page's interactive pictures, too. Where several
trials have the same x and the same line, the line passes through the best of them. Drawn without a display. Lines
differ by marker as well as by colour, dark and light in turn, so that they can be told apart in grey. In a study of
several objectives the picture shows the first two and the Pareto front.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatelab.data.files import atomic_file
from gatelab.data.messages import did_you_mean
from gatelab.run.errors import RequestError
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.state import Objective, StudyState, Trial, is_number, short_names, show
from gatelab.study.analysis.statistics import Summary, decimals, over_what, summarise, values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FACTS = {"solved_size": "hidden", "parameters": "parameters", "seconds": "seconds"}
"""Names that x can have beside a parameter's -> the attribute of the trial."""
MOST_LINES, MOST_PANELS = 8, 3
STYLES = (
    ("#12436d", "o"), ("#ee8a3a", "s"), ("#157a6e", "^"), ("#b08fd8", "D"),
    ("#801650", "v"), ("#9a9a9a", "P"), ("#3d3d3d", "X"), ("#c9a227", "<"),
)  # fmt: skip
"""Colour and marker of each line; neighbours are dark and light."""
INK, FAINT, GRID = "#222222", "#777777", "#e3e3e3"
SMALL: dict[str, Any] = {
    "fontsize": 7.5,
    "color": FAINT,
    "bbox": {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.6},
}
WIDTH, NARROW, HEIGHT, DPI = 7.4, 4.4, 4.6, 150


@dataclass(frozen=True)
class Point:
    """One trial in the picture.

    Attributes:
        x: of the axis; the position of a choice that is not a number.
        summary: mean and interval of its runs.
        values: of the runs.
        trial: its parameters and facts.
    """

    x: float
    summary: Summary
    values: tuple[float, ...]
    trial: Trial


@dataclass(frozen=True)
class Curves:
    """Axes and points of a picture.

    Attributes:
        x, by: keys of the axis and of the lines (None: one line).
        ticks: the values of x where they are a list (words or numbers), else None.
        words: the ticks are not numbers; x counts them from 0.
        lines: name -> its points by x, the best trial of each x.
        others: points that are not the best at their x.
        ranged: x comes from a range, so points are not joined.
        base: of the logarithmic axis; None: a plain one.
        rest: short names of parameters that neither axis shows.
    """

    x: str
    by: str | None
    ticks: tuple[Any, ...] | None
    words: bool
    lines: dict[str, list[Point]]
    others: list[Point]
    ranged: bool
    base: int | None
    rest: tuple[str, ...]

    @property
    def points(self) -> list[Point]:
        """Those of all lines, then the others."""
        return [*(point for line in self.lines.values() for point in line), *self.others]

    @property
    def xs(self) -> list[float]:
        """Where points are, from left to right."""
        return sorted({point.x for point in self.points})


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
    values = {repr(value): value for value in (value_at(trial, x) for trial in trials)}
    words = not all(is_number(value) for value in values.values())
    ticks = tuple(values.values()) if words else tuple(sorted(values.values()))
    ranged = x in FACTS or (not words and _is_ranged(trials, x))
    lines: dict[str, list[Point]] = {}
    others: list[Point] = []
    for trial in trials:
        at = value_at(trial, x)
        runs = tuple(values_of(trial.runs).values()) or (trial.values[0],)
        point = Point(float(ticks.index(at) if words else at), summarise(runs), runs, trial)
        line = lines.setdefault("" if by is None else show(trial.params.get(by, "none")), [])
        same = [] if ranged else [there for there in line if there.x == point.x]
        if same:
            best, worse = sorted([*same, point], key=lambda p: state.objectives[0].sign * p.summary.mean)
            line[line.index(same[0])] = best
            others.append(worse)
        else:
            line.append(point)
    names = short_names(state.keys)
    rest = tuple(names[key] for key in state.keys if key not in (x, by) and _varies(trials, key))
    lines = {name: sorted(line, key=lambda p: p.x) for name, line in lines.items()}
    base = None if words else _base(trials, x, ticks)
    return Curves(x, by, None if ranged else ticks, words, lines, others, ranged, base, rest)


def _base(trials: Sequence[Trial], key: str, ticks: Sequence[float]) -> int | None:
    """2 where whole numbers span a factor of 4, 10 where others do and their range is logarithmic, else None."""
    if ticks[0] <= 0 or ticks[-1] / ticks[0] < 4:
        return None
    if all(float(tick).is_integer() for tick in ticks):
        return 2
    known = [trial.distributions[key] for trial in trials if key in trial.distributions]
    return 10 if all(getattr(distribution, "log", True) for distribution in known) else None


def choose_x(state: StudyState) -> str:
    """A hidden size if it varies, else the parameter with the most numbers, else the one with most choices."""
    keys = [key for key in state.keys if _varies(state.done, key)]
    for key in keys:
        if key.rpartition(".")[2] == "hidden_size":
            return key
    if not keys:
        return state.keys[0] if state.keys else "parameters"

    def rank(key: str) -> tuple[bool, int]:
        values = [trial.params[key] for trial in state.done if key in trial.params]
        return all(is_number(value) for value in values), len({repr(value) for value in values})

    return max(keys, key=rank)


def choose_by(state: StudyState, x: str) -> str | None:
    """`model` if it varies, else the parameter with the fewest values, two to eight."""
    counts = {key: len({repr(t.params.get(key)) for t in state.done}) for key in state.keys if key != x}
    fit = {key: count for key, count in counts.items() if 2 <= count <= MOST_LINES}
    if "model" in fit:
        return "model"
    words = {key for key in fit if not all(is_number(t.params.get(key, 0)) for t in state.done)}
    return min(fit, key=lambda key: (key not in words, fit[key]), default=None)


def slices(state: StudyState) -> list[str]:
    """The axes of a picture: one, or where x comes from a range up to three, the most important parameters first."""
    x = choose_x(state)
    varied = [key for key in state.keys if _varies(state.done, key)]
    if not _is_ranged(state.done, x) or len(varied) < 2:
        return [x]
    return ([share.key for share in importance(state).shares] or varied)[:MOST_PANELS]


def _named(state: StudyState, name: str) -> str:
    known = [*state.keys, *FACTS]
    found = [key for key in known if key == name or key.endswith(f".{name}")]
    if not found:
        hint = did_you_mean(name, [*known, *short_names(known).values()])
        raise RequestError(f"{name}: not a parameter of this study.{hint} Parameters: {', '.join(known)}.")
    return found[0]


def value_at(trial: Trial, key: str) -> Any:
    """A parameter's value, or one of `FACTS`; None where the trial has none."""
    return getattr(trial, FACTS[key]) if key in FACTS else trial.params.get(key)


def _varies(trials: Sequence[Trial], key: str) -> bool:
    return len({repr(value_at(trial, key)) for trial in trials}) > 1


def _is_ranged(trials: Sequence[Trial], key: str) -> bool:
    kinds = {type(t.distributions[key]).__name__ for t in trials if key in t.distributions}
    return bool(kinds - {"CategoricalDistribution"})


def baselines(state: StudyState) -> dict[str, float]:
    """Name -> the trivial model's value of the first objective, on the data that the runs were validated on.

    With folds: the mean over the folds of the first finished trial. Empty where no run has them.
    """
    if state.baselines is not None:
        return dict(state.baselines)
    for trial in state.done:
        found = [_baselines_of(run.directory, state.objectives[0].name) for run in trial.runs]
        names = [name for name in (found[0] if found else {}) if all(name in values for values in found)]
        if names:
            return {name: statistics.fmean(values[name] for values in found) for name in names}
    return {}


def _baselines_of(run: Path, metric: str) -> dict[str, float]:
    try:
        result = json.loads((run / "result.json").read_text())
        known = result["splits"]["valid"]["baselines"]
        return {name: float(scores[metric]) for name, scores in known.items() if metric in scores}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # the picture does without


@dataclass(frozen=True)
class Frame:
    """The part of the y axis that is shown.

    Attributes:
        bottom, top: its ends.
        log: equal steps are equal factors.
        cut: some run or interval reaches out of it.
    """

    bottom: float
    top: float
    log: bool
    cut: bool

    def outside(self, points: Iterable[Point]) -> str:
        """The points that lie out of the frame, in words; empty if none does."""
        means = [point.summary.mean for point in points]
        outside = [f"{mean:.4g}" for mean in means if not self.bottom <= mean <= self.top]
        words = [f"out of the frame: {', '.join(outside)}"] if outside else []
        return "; ".join([*words, *(["some run out of the frame"] if self.cut else [])])

    def near(self, value: float) -> bool:
        """True if a line at `value` belongs into the picture, for which a plain frame may grow by half."""
        span = 0.0 if self.log else 0.5 * (self.top - self.bottom)
        return self.bottom - span <= value <= self.top + span


def frame_of(points: Iterable[Point]) -> Frame | None:
    """The frame of all runs, but for a few that would squeeze the others; None without a finite mean."""
    finite = [point for point in points if math.isfinite(point.summary.mean)]
    if not finite:
        return None
    spans = []
    for point in finite:
        values = [value for value in (*point.values, point.summary.mean) if math.isfinite(value)]
        spans.append((min(values), max(values)))
    low, high = in_sight(spans)
    ends = [end for p in finite for end in (p.summary.low, p.summary.high) if end is not None]
    least, most = min([low, *ends]), max([high, *ends])
    if low > 0 and high / low > 6:
        return Frame(low / 1.15, high * 1.15, True, False)
    span = (high - low) or abs(high) * 0.1 or 1.0
    bottom, top = max(least, low - 0.35 * span) - 0.06 * span, min(most, high + 0.35 * span) + 0.06 * span
    return Frame(bottom, top, False, least < bottom or most > top)


def in_sight(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The range of (lowest, highest) pairs, without the few, one in eight at most, that would squeeze the others."""
    middle = statistics.median((low + high) / 2 for low, high in spans)
    nearest_first = sorted(spans, key=lambda span: max(abs(end - middle) for end in span))
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    for count in range(1, len(spans) // 8 + 1):
        rest = nearest_first[:-count]
        least, most = min(low for low, _ in rest), max(high for _, high in rest)
        if 0 < 3 * (most - least) < high - low:
            return least, most
    return low, high


def label(objective: Objective) -> str:
    """An axis' name with its unit and which way is better."""
    better = "lower is better" if objective.sign > 0 else "higher is better"
    name = objective.label
    return f"{name} ({better})" if "(" not in name else f"{name.removesuffix(')')}; {better})"


def short(value: float) -> str:
    """`64`, `16k`, `1.5M`."""
    for size, unit, letter in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= size:
            return f"{value / unit:.3g}{letter}"
    return f"{value:g}"


def write_picture(
    states: Sequence[StudyState],
    path: str | Path,
    *,
    x: str | None = None,
    by: str | None = None,
    note: str | None = None,
) -> Path | None:
    """Draw studies side by side into a PNG file, which is replaced in one step.

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
    from matplotlib.figure import Figure

    drawn: list[tuple[StudyState, str | None]] = [(state, x) for state in states if state.done]
    if not drawn:
        return None
    if len(drawn) == 1 and x is None and len(states[0].objectives) == 1:
        drawn = [(drawn[0][0], key) for key in slices(drawn[0][0])]
    same = len({state.name for state, _ in drawn}) == 1
    width = WIDTH if len(drawn) == 1 or not same else NARROW
    figure = Figure(figsize=(width * len(drawn), HEIGHT), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(drawn), squeeze=False, sharey=same)[0]
    for axes, (state, key) in zip(panels, drawn, strict=True):
        first, last = axes is panels[0] or not same, axes is panels[-1] or not same
        draw(axes, state, x=key, by=by, first=first, last=last)
    path = Path(path)
    with atomic_file(path) as file:
        figure.savefig(file, dpi=DPI, format="png", metadata={"Software": None, "Description": note})
    return path


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
    _scale_x(axes, found, state)
    for index, (name, points) in enumerate(found.lines.items()):
        # lines stand a little beside each other, so that all intervals can be seen
        shift = 0.0 if found.ranged else index - (len(found.lines) - 1) / 2
        _draw_line(axes, found, name, [p for p in points if math.isfinite(p.summary.mean)], index, shift)
    axes.plot(
        [p.x for p in found.others],
        [p.summary.mean for p in found.others],
        ".",
        ms=4,
        color="#bbbbbb",
        zorder=1,
    )
    frame = frame_of(found.points)
    if frame is not None:
        ends = [line[-1].summary.mean for line in found.lines.values()]
        _scale_y(axes, frame, baselines(state), ends)
    if last and list(found.lines) != [""]:
        named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        order = sorted(named, key=lambda name: -found.lines[name][-1].summary.mean)  # as the lines end
        title = (found.by or "").rpartition(".")[2].replace("_", " ")
        beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False}
        axes.legend(
            [named[name] for name in order], order, title=title, fontsize=9, title_fontsize=9, **beside
        )
    if first:
        axes.set_ylabel(label(state.objectives[0]), color=INK)
        finish(axes, state.name, _best(state, found), _subtitle(state, found, frame))
    else:
        finish(axes, "", " ", " ")


def _scale_x(axes: Axes, found: Curves, state: StudyState) -> None:
    names = short_names([found.x, *(key for key in state.keys if key != found.x)])
    match = re.fullmatch(r"parameters:match\((.+)\)", str(state.settings.get("budget")))
    of = f" of {match[1]} (the others: equal parameters)" if match and found.x.endswith("hidden_size") else ""
    axes.set_xlabel(names[found.x].replace("_", " ") + of, color=INK)
    axes.margins(x=0.06)
    if found.words:
        axes.set_xlim(-0.5, len(found.ticks or ()) - 0.5)
        axes.set_xticks(range(len(found.ticks or ())), _words(found))
        return
    if found.base:
        axes.set_xscale("log", base=found.base)
        axes.minorticks_off()
    if found.ticks is not None and len(found.xs) <= 12:
        axes.set_xticks(found.xs, [f"{x:g}" if abs(x) < 1e5 else f"{x:.0e}" for x in found.xs])
    elif found.base == 2:
        axes.xaxis.set_major_formatter(lambda value, _: short(value))


def _words(found: Curves) -> list[str]:
    """The choices, with the hidden size that a budget gave them where all points of a choice have the same."""
    words = []
    for place, tick in enumerate(found.ticks or ()):
        sizes = {point.trial.hidden for point in found.points if point.x == place}
        size = sizes.pop() if len(sizes) == 1 else None
        words.append(show(tick) if size is None else f"{show(tick)}\nhidden size {size}")
    return words


def _draw_line(
    axes: Axes, found: Curves, name: str, points: Sequence[Point], index: int, shift: float
) -> None:
    colour, marker = STYLES[index % len(STYLES)]
    wide = 1.0 if found.words else (found.xs[-1] - found.xs[0]) / 6
    at = [p.x * 2.0 ** (0.045 * shift) if found.base else p.x + 0.05 * wide * shift for p in points]
    runs = [(x, value) for x, p in zip(at, points, strict=True) if len(p.values) > 1 for value in p.values]
    axes.plot(
        [x for x, _ in runs], [value for _, value in runs], ".", ms=3.5, alpha=0.55, color=colour, zorder=2
    )
    means, halves = [p.summary.mean for p in points], [p.summary.half or math.nan for p in points]
    style: dict[str, Any] = {
        "ls": "none" if found.ranged or found.words else "-",
        "color": colour,
        "zorder": 4,
    }
    style |= {
        "lw": 1.7,
        "elinewidth": 1.1,
        "capsize": 2.5,
        "marker": marker,
        "ms": 6.5,
        "mec": "white",
        "mew": 0.7,
    }
    axes.errorbar(at, means, halves, label=name, **style)


def _scale_y(axes: Axes, frame: Frame, known: dict[str, float], ends: Sequence[float]) -> None:
    """Set the frame and draw the trivial models: near ones as dashed lines, far ones by name in a corner."""
    from matplotlib.ticker import LogLocator

    bottom, top = frame.bottom, frame.top
    if frame.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    far = []
    for name, value in known.items():
        text = f"{name.replace('_', ' ')} {value:.4g}"
        if not frame.near(value):
            far.append(text)
            continue
        room = 0.0 if frame.log else 0.07 * (frame.top - frame.bottom)
        bottom, top = min(bottom, value - room), max(top, value + room)
        axes.axhline(value, color=FAINT, ls="--", lw=1.1, zorder=1)
        above = min(ends, key=lambda end: abs(end - value)) <= value  # away from the nearest line's end
        place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
        place |= {"xytext": (0, 2.5 if above else -2.5), "va": "bottom" if above else "top"}
        axes.annotate(text, (0.995, value), ha="right", zorder=1, **place, **SMALL)
    if far:
        top += 0.0 if frame.log else 0.06 * (top - bottom)
        text = f"outside the frame: {', '.join(far)}"
        axes.text(0.995, 0.99, text, transform=axes.transAxes, ha="right", va="top", zorder=5, **SMALL)
    axes.set_ylim(bottom, top)


def _best(state: StudyState, found: Curves) -> str:
    best = min(found.points, key=lambda point: state.objectives[0].sign * point.summary.mean)
    names = short_names(state.keys)
    params = [f"{names[key]} {show(value)}" for key, value in best.trial.params.items()]
    return f"the best: {best.summary.text(decimals([best.summary]))} with {', '.join(params)}"


def _subtitle(state: StudyState, found: Curves, frame: Frame | None) -> str:
    parts = [over_what(state), frame.outside(found.points) if frame else ""]
    if found.rest and not found.ranged:
        parts.append(f"lines: the best over {', '.join(found.rest)}")
    if state.state != "finished":
        parts.append(f"so far: {len(state.done)} of {len(state.trials)} trials")
    return "; ".join(part for part in parts if part)


def _draw_front(axes: Axes, state: StudyState) -> None:
    """The first objective over the second, the trials of the Pareto front filled and labelled."""
    first, second = state.objectives[:2]
    front = state.pareto
    numbers = {trial.number for trial in front}
    others = [trial for trial in state.done if trial.number not in numbers]
    axes.plot([t.values[1] for t in others], [t.values[0] for t in others], "o", ms=5, mfc="none", mec=FAINT)
    xs = [trial.values[1] for trial in front]
    if min(trial.values[1] for trial in state.done) > 0 and max(xs) / min(xs) >= 8:
        axes.set_xscale("log")
    axes.plot(xs, [trial.values[0] for trial in front], "o", ms=7, color=STYLES[0][0], mec="white")
    for trial in front:
        text = ", ".join(show(value) for value in trial.params.values())
        place: dict[str, Any] = {"xytext": (6, 5), "textcoords": "offset points"}
        axes.annotate(text, (trial.values[1], trial.values[0]), fontsize=7, color=INK, **place)
    axes.set(xlabel=label(second), ylabel=label(first))
    shown = ", ".join(short_names(state.keys).values())
    line = f"filled: the Pareto front, {len(front)} of {len(state.done)} trials (labels: {shown})"
    finish(axes, state.name, line, over_what(state))


def finish(axes: Axes, title: str, *lines: str) -> None:
    """Title, small lines below it, grid and spines."""
    shown = [line for line in lines if line]
    axes.set_title(
        title, loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=6.0 + 11.5 * len(shown)
    )
    text = "\n".join(shown)
    axes.text(0.0, 1.015, text, transform=axes.transAxes, fontsize=8.2, color=FAINT, linespacing=1.35)
    axes.grid(color=GRID, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
