"""What a study's picture shows, as plain numbers: which parameter runs along x, what tells the lines apart, the points.

Where several trials have the same x and the same line (other parameters were tried, too) the line passes through the
best of them. Trivial baselines are taken from the runs' `result.json`. Nothing is drawn here (`picture.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from gatelab.run.config.compose import nearest
from gatelab.run.errors import RequestError
from gatelab.study.analysis.estimate import is_number
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.state import StudyState, Trial, short_names, show
from gatelab.study.analysis.statistics import Summary, summarise, values_of

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
