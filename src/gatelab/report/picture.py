"""The picture of a study: the metric over hidden size (or any parameter) with intervals, one line a cell.

`curves` chooses the axes and gives the points as numbers, for the page's interactive pictures, too. Where several
trials have the same x and the same line, the line passes through the best of them. Drawn without a display. Lines
differ by marker as well as by colour, dark and light in turn, so that they can be told apart in grey. Of a study with
several objectives the first two are shown.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gatelab.data.files import atomic_file
from gatelab.data.messages import did_you_mean
from gatelab.run import RequestError
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
FAINT = "#777777"
WIDTH, NARROW, HEIGHT, DPI = 7.4, 4.4, 4.6, 150


@dataclass(frozen=True)
class Point:
    """One trial in the picture: x (of a choice its position), mean and interval of its runs, and their values."""

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
    values = list({repr(value_at(trial, x)): value_at(trial, x) for trial in trials}.values())
    words = not all(is_number(value) for value in values)
    ticks = tuple(values if words else sorted(values))
    ranged = x in FACTS or (not words and _is_ranged(trials, x))
    lines: dict[str, list[Point]] = {_line(trial, by): [] for trial in trials}
    others: list[Point] = []
    for trial in sorted(trials, key=lambda trial: state.objectives[0].sign * trial.values[0]):
        at = ticks.index(value_at(trial, x)) if words else value_at(trial, x)
        runs = tuple(values_of(trial.runs).values()) or (trial.values[0],)
        line = lines[_line(trial, by)]
        behind = not ranged and any(point.x == at for point in line)
        (others if behind else line).append(Point(float(at), summarise(runs), runs, trial))
    names = short_names(state.keys)
    return Curves(
        x=x,
        by=by,
        ticks=None if ranged else ticks,
        words=words,
        lines={name: sorted(line, key=lambda p: p.x) for name, line in lines.items()},
        others=others,
        ranged=ranged,
        base=None if words else _base(trials, x, ticks),
        rest=tuple(names[key] for key in state.keys if key not in (x, by) and _varies(trials, key)),
    )


def _line(trial: Trial, by: str | None) -> str:
    return "" if by is None else show(trial.params.get(by, "none"))


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
    if not keys:
        return state.keys[0] if state.keys else "parameters"

    def rank(key: str) -> tuple[bool, bool, int]:
        values = [trial.params[key] for trial in state.done if key in trial.params]
        hidden = key.rpartition(".")[2] == "hidden_size"
        return hidden, all(is_number(value) for value in values), len({repr(value) for value in values})

    return max(keys, key=rank)


def choose_by(state: StudyState, x: str) -> str | None:
    """`model` if it varies, else the parameter with the fewest values, two to eight; words before numbers."""
    counts = {key: len({repr(t.params.get(key)) for t in state.done}) for key in state.keys if key != x}
    fit = {key: count for key, count in counts.items() if 2 <= count <= MOST_LINES}

    def rank(key: str) -> tuple[bool, bool, int]:
        return key != "model", all(is_number(t.params.get(key, 0)) for t in state.done), fit[key]

    return min(fit, key=rank, default=None)


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
    metric = state.objectives[0].name
    for trial in state.done:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            results = [json.loads((run.directory / "result.json").read_text()) for run in trial.runs]
            scores = [result["splits"]["valid"]["baselines"] for result in results]
            return {name: fmean(float(one[name][metric]) for one in scores) for name in scores[0]}
    return {}


@dataclass(frozen=True)
class Frame:
    """The part of the y axis that is shown; `log`: equal steps are equal factors."""

    low: float
    high: float
    log: bool = False


def frame_of(points: Iterable[Point], known: Iterable[float]) -> Frame | None:
    """The frame of all runs and of the trivial models near them; None without a finite mean.

    An interval may reach out of it: that of two runs is so wide that it would squeeze everything else.
    """
    finite = [point for point in points if math.isfinite(point.summary.mean)]
    if not finite:
        return None
    values = [value for point in finite for value in point.values]
    low, high = min(values), max(values)
    if low > 0 and high / low > 6:
        return Frame(low / 1.15, high * 1.15, log=True)
    span = (high - low) or abs(high) * 0.1 or 1.0
    ends = [end for p in finite for end in (p.summary.low, p.summary.high) if end is not None]
    low, high = max(min([low, *ends]), low - 0.35 * span), min(max([high, *ends]), high + 0.35 * span)
    return widened(low, high, known)


def widened(low: float, high: float, known: Iterable[float]) -> Frame:
    """A plain frame with a margin, which grows by half for trivial models that are near."""
    span = (high - low) or abs(high) * 0.1 or 1.0
    near = [value for value in known if low - 0.5 * span <= value <= high + 0.5 * span]
    return Frame(min([low, *near]) - 0.06 * span, max([high, *near]) + 0.06 * span)


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
    if len(drawn) == 1 and x is None and len(drawn[0][0].objectives) == 1:
        drawn = [(drawn[0][0], key) for key in slices(drawn[0][0])]
    same = len({state.name for state, _ in drawn}) == 1
    width = WIDTH if len(drawn) == 1 or not same else NARROW
    figure = Figure(figsize=(width * len(drawn), HEIGHT), layout="constrained")
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
        _draw_line(axes, found, name, points, index, shift)
    others = [(p.x, p.summary.mean) for p in found.others]
    axes.scatter([x for x, _ in others], [mean for _, mean in others], s=5, color="#bbbbbb", zorder=1)
    known = baselines(state)
    for (name, value), dash in zip(known.items(), ("--", ":", "-.") * len(known), strict=False):
        axes.axhline(
            value, color=FAINT, ls=dash, lw=1.1, zorder=1, label=f"{name.replace('_', ' ')} {value:.4g}"
        )
    frame = frame_of(found.points, known.values())
    if frame is not None:
        axes.set_yscale("log" if frame.log else "linear")
        axes.set_ylim(frame.low, frame.high)
    if last and (known or list(found.lines) != [""]):
        title = (found.by or "").rpartition(".")[2].replace("_", " ")
        axes.legend(title=title, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    if first:
        axes.set_ylabel(label(state.objectives[0]))
        finish(axes, state.name, _best(state, found), _subtitle(state, found))
    else:
        finish(axes, "")


def _scale_x(axes: Axes, found: Curves, state: StudyState) -> None:
    names = short_names([found.x, *(key for key in state.keys if key != found.x)])
    match = re.fullmatch(r"parameters:match\((.+)\)", str(state.settings.get("budget")))
    of = f" of {match[1]} (the others: equal parameters)" if match and found.x.endswith("hidden_size") else ""
    axes.set_xlabel(names[found.x].replace("_", " ") + of)
    axes.margins(x=0.06)
    if found.words:
        axes.set_xticks(range(len(found.ticks or ())), _words(found))
        axes.set_xlim(-0.5, len(found.ticks or ()) - 0.5)
        return
    if found.base:
        axes.set_xscale("log", base=found.base)
        axes.minorticks_off()
    if found.ticks is not None and len(found.xs) <= 12:
        axes.set_xticks(found.xs, [short(x) for x in found.xs])
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
    axes.scatter([x for x, _ in runs], [y for _, y in runs], s=4, alpha=0.55, color=colour, zorder=2)
    axes.errorbar(
        at,
        [p.summary.mean if math.isfinite(p.summary.mean) else math.nan for p in points],
        [p.summary.half or math.nan for p in points],
        label=name,
        color=colour,
        marker=marker,
        markeredgecolor="white",
        linestyle="none" if found.ranged or found.words else "-",
        elinewidth=1.1,
        capsize=2.5,
        zorder=4,
    )


def _best(state: StudyState, found: Curves) -> str:
    best = min(found.points, key=lambda point: state.objectives[0].sign * point.summary.mean)
    names = short_names(state.keys)
    params = [f"{names[key]} {show(value)}" for key, value in best.trial.params.items()]
    return f"the best: {best.summary.text(decimals([best.summary]))} with {', '.join(params)}"


def _subtitle(state: StudyState, found: Curves) -> str:
    parts = [over_what(state)]
    lost = sum(not math.isfinite(point.summary.mean) for point in found.points)
    if lost:
        parts.append(f"diverged, not shown: {lost}")
    if found.rest and not found.ranged:
        parts.append(f"lines: the best over {', '.join(found.rest)}")
    if state.state != "finished":
        parts.append(f"so far: {len(state.done)} of {len(state.trials)} trials")
    return "; ".join(parts)


def _draw_front(axes: Axes, state: StudyState) -> None:
    """The first objective over the second, with the trials of the Pareto front filled."""
    first, second = state.objectives[:2]
    for trials, filled in ((state.done, "none"), (state.pareto, STYLES[0][0])):
        ys, xs = ([trial.values[place] for trial in trials] for place in (0, 1))
        axes.scatter(xs, ys, facecolor=filled, edgecolor=FAINT)
    axes.set(xlabel=label(second), ylabel=label(first))
    line = f"filled: the Pareto front, {len(state.pareto)} of {len(state.done)} trials"
    finish(axes, state.name, line, over_what(state))


def finish(axes: Axes, title: str, *lines: str) -> None:
    """Title, small lines below it, grid and spines."""
    axes.set_title(title, loc="left", fontweight="bold", pad=6.0 + 11.5 * len(lines))
    axes.text(0.0, 1.015, "\n".join(lines), transform=axes.transAxes, fontsize=8.2, color=FAINT)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
