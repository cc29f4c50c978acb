"""What the picture of a study shows: the metric over hidden size (or any parameter), one line a cell, with intervals.

`picture.py` draws it for print, `figures.py` for the page. Where several trials have the same x and the same line, the
line passes through the best of them. Of a study with several objectives the first is shown over the second.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from gatelab.data.messages import counted, did_you_mean
from gatelab.run import RequestError
from gatelab.run.record.directory import DAMAGED
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.leaderboard import leaderboard, tied
from gatelab.study.analysis.one_at_a_time import in_words
from gatelab.study.analysis.state import Objective, StudyState, Trial, is_number, short_names, show
from gatelab.study.analysis.statistics import Summary, over_what, summarise, values_of

FACTS = {"solved_size": "hidden", "parameters": "parameters", "seconds": "seconds"}
"""Names that x can have beside a parameter's -> the attribute of the trial."""
FRONT = "on the Pareto front"
MOST_LINES, MOST_PANELS, MOST_TICKS = 8, 3, 12


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
        x, by: keys of the axis and of the lines (None: one line, or the two of a Pareto front).
        name: of the x axis, in words.
        lines: name -> its points by x, the best trial of each x.
        baselines: name with value -> the trivial model's value.
        ranged: x comes from a range, so points are not joined.
        words: x is a choice of words, counted from 0.
        ticks: place -> text on the x axis; empty: it finds its own.
        base: of the logarithmic x axis; None: a plain one.
        others: points that are not the best at their x.
        rest: short names of parameters that neither axis shows.
    """

    x: str
    by: str | None
    name: str
    lines: Mapping[str, Sequence[Point]]
    baselines: Mapping[str, float]
    ranged: bool = True
    words: bool = False
    ticks: Mapping[float, str] = field(default_factory=dict)
    base: int | None = None
    others: Sequence[Point] = ()
    rest: Sequence[str] = ()

    @property
    def points(self) -> list[Point]:
        """Those of all lines, then the others."""
        return [*(point for line in self.lines.values() for point in line), *self.others]

    @property
    def frame(self) -> Frame | None:
        """The part of the y axis that is shown: all runs and intervals, and the trivial models near them.

        None without a finite mean. The interval of two runs may reach out of it, since it is so wide that it would
        squeeze everything else. Where equal steps are factors, one that reaches 0 goes down to the edge.
        """
        finite = [point for point in self.points if math.isfinite(point.summary.mean)]
        if not finite:
            return None
        values = [value for point in finite for value in point.values]
        low, high = min(values), max(values)
        sure = [
            end
            for p in finite
            if p.summary.n > 2
            for end in (p.summary.low, p.summary.high)
            if end is not None
        ]
        if low > 0 and high / low > 6:
            low = min([low, *(end for end in sure if end > 0)])
            return Frame(low / 1.15, max([high, *sure]) * 1.15, log=True)
        span = (high - low) or abs(high) * 0.1 or 1.0
        ends = [end for p in finite for end in (p.summary.low, p.summary.high) if end is not None]
        low = min([low, *sure, max([low - 0.35 * span, min([low, *ends])])])
        high = max([high, *sure, min([high + 0.35 * span, max([high, *ends])])])
        return widened(low, high, self.baselines.values())


@dataclass(frozen=True)
class Frame:
    """The part of the y axis that is shown; `log`: equal steps are equal factors."""

    low: float
    high: float
    log: bool = False


def widened(low: float, high: float, known: Iterable[float]) -> Frame:
    """A plain frame with a margin, which grows by half for trivial models that are near."""
    span = (high - low) or abs(high) * 0.1 or 1.0
    near = [value for value in known if low - 0.5 * span <= value <= high + 0.5 * span]
    return Frame(min([low, *near]) - 0.06 * span, max([high, *near]) + 0.06 * span)


def curves(state: StudyState, x: str | None = None, by: str | None = None) -> Curves | None:
    """The points of a study's picture; None while no trial has finished.

    Args:
        x: key of the axis, also in short (`hidden_size`), or one of `FACTS`; None: chosen, and of several objectives
            the second one.
        by: key that tells the lines apart; None: chosen; an empty text: one line.

    Raises:
        RequestError: no such parameter, or no finished trial has it.
    """
    if not state.done:
        return None
    known = named(baselines(state))
    if x is None and len(state.objectives) > 1:
        second, front = state.objectives[1], state.pareto
        groups = {FRONT: front, "the others": [trial for trial in state.done if trial not in front]}
        pairs = {name: [_point(trial, trial.values[1]) for trial in group] for name, group in groups.items()}
        return Curves(second.metric, None, label(second), pairs, known)
    x = _known_key(state, x) if x else choose_x(state)
    by = _known_key(state, by) if by else (choose_by(state, x) if by is None else None)
    # null is a choice where it was swept
    trials = [trial for trial in state.done if x in trial.params or value_at(trial, x) is not None]
    if not trials:
        raise RequestError(
            f"{x}: no finished trial of {state.name} has it, so it cannot be the picture's axis."
        )
    values = list({repr(value_at(trial, x)): value_at(trial, x) for trial in trials}.values())
    words = not all(is_number(value) for value in values)
    values = values if words else sorted(values)
    ranged = x in FACTS or (not words and _is_ranged(trials, x))
    lines: dict[str, list[Point]] = {_line(trial, by): [] for trial in trials}
    others: list[Point] = []
    for trial in sorted(trials, key=lambda trial: state.objectives[0].sign * trial.values[0]):
        at = values.index(value_at(trial, x)) if words else value_at(trial, x)
        line = lines[_line(trial, by)]
        behind = not ranged and any(point.x == at for point in line)
        (others if behind else line).append(_point(trial, at))
    base = None if words else _base(trials, x, values)
    short_of = short_names([x, *(key for key in state.keys if key != x)])
    match = re.fullmatch(r"parameters:match\((.+)\)", str(state.settings.get("budget")))
    of = f" of {match[1]} (the others: equal parameters)" if match and x.endswith("hidden_size") else ""
    return Curves(
        x=x,
        by=by,
        name=short_of[x].replace("_", " ") + of,
        lines={name: sorted(line, key=lambda p: p.x) for name, line in lines.items()},
        baselines=known,
        ranged=ranged,
        words=words,
        ticks=_words(values, trials, x) if words else _numbers(values, ranged, base),
        base=base,
        others=others,
        rest=[short_of[key] for key in state.keys if key not in (x, by) and _varies(trials, key)],
    )


def _point(trial: Trial, x: float) -> Point:
    runs = tuple(values_of(trial.runs).values()) or (trial.values[0],)
    return Point(float(x), summarise(runs), runs, trial)


def _line(trial: Trial, by: str | None) -> str:
    return "" if by is None else show(trial.params.get(by, "none"))


def _base(trials: Sequence[Trial], key: str, values: Sequence[float]) -> int | None:
    """2 where whole numbers span a factor of 4, 10 where others do and their range is logarithmic, else None."""
    if values[0] <= 0 or values[-1] / values[0] < 4:
        return None
    if all(float(value).is_integer() for value in values):
        return 2
    known = [trial.distributions[key] for trial in trials if key in trial.distributions]
    return 10 if all(getattr(distribution, "log", True) for distribution in known) else None


def _words(choices: Sequence[Any], trials: Sequence[Trial], x: str) -> dict[float, str]:
    """The choices, with the hidden size that a budget gave them where all points of a choice have the same."""
    ticks = {}
    for place, choice in enumerate(choices):
        sizes = {trial.hidden for trial in trials if value_at(trial, x) == choice}
        size = sizes.pop() if len(sizes) == 1 else None
        ticks[float(place)] = show(choice) if size is None else f"{show(choice)}\nhidden size {size}"
    return ticks


def _numbers(values: Sequence[float], ranged: bool, base: int | None) -> dict[float, str]:
    """Each value of a short list; of a logarithmic range, or a long list, powers of two."""
    if not ranged and len(values) <= MOST_TICKS:
        return {float(value): short(value) for value in values}
    powers = [2.0**n for n in range(63) if values[0] <= 2**n <= values[-1]] if base == 2 else []
    return {power: short(power) for power in powers[:: 1 + len(powers) // MOST_TICKS]}


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


def _known_key(state: StudyState, name: str) -> str:
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
        with contextlib.suppress(OSError, *DAMAGED):
            results = [json.loads((run.directory / "result.json").read_text()) for run in trial.runs]
            scores = [result["splits"]["valid"]["baselines"] for result in results]
            return {name: fmean(float(one[name][metric]) for one in scores) for name in scores[0]}
    return {}


def named(known: Mapping[str, float]) -> dict[str, float]:
    """Baselines under the names that people read, with their values: `seasonal naive 0.71`."""
    return {f"{name.replace('_', ' ')} {value:.4g}": value for name, value in known.items()}


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


def best_point(state: StudyState, found: Curves) -> str:
    """The best point in words, or how many trials are on the front."""
    if FRONT in found.lines:
        return f"the Pareto front, {len(state.pareto)} of {len(state.done)} trials"
    rows = leaderboard(state)
    best, others = rows[0], len(tied(rows))
    names = short_names(state.keys)
    params = in_words(best.trial.params, names)
    point = f" with {params}" * bool(params)
    also = f"; {counted(others, 'other')} equal" if others else ""
    return f"the best: {best.summary.text()}{point}{also}"


def remarks(state: StudyState, found: Curves) -> str:
    """What the points are taken over, and what the picture does not show."""
    parts = [over_what(state)]
    lost = sum(not math.isfinite(point.summary.mean) for point in found.points)
    if lost:
        parts.append(f"diverged, not shown: {lost}")
    if found.rest and not found.ranged:
        parts.append(f"lines: the best over {', '.join(found.rest)}")
    if state.state != "finished":
        parts.append(f"so far: {len(state.done)} of {len(state.trials)} trials")
    return "; ".join(parts)
