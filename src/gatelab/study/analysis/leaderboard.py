"""The leaderboard: the trials that have a value, best first, with how sure one can be; as table, text and CSV.

A row is `same` where a paired t-test over the runs that it shares with the best (same seed, same fold) gives
p > 0.05: on this evidence it may be as good. Each row is tested by itself, nothing is corrected for their number.
In a study of several objectives there is no best; the rows of the Pareto front come first and are marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatelab.data.files import csv_text
from gatelab.data.messages import printable
from gatelab.study.analysis.one_at_a_time import effects, sentence, varied_keys, without_base
from gatelab.study.analysis.state import Objective, StudyState, Trial, is_number, short_names, show, texts
from gatelab.study.analysis.statistics import (
    ALPHA,
    Summary,
    decimals,
    fixed,
    paired_p,
    shown_p,
    summary_of,
    values_of,
)
from gatelab.tasks.contract import not_comparable

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One trial of the leaderboard.

    Attributes:
        rank: from 1.
        trial: the facts.
        summary: of its runs, for the first objective.
        p: of the paired test against the best; None for the best itself, and without two common runs.
        front: it is on the Pareto front (with one objective: it is the best).
    """

    rank: int
    trial: Trial
    summary: Summary
    p: float | None = None
    front: bool = False

    @property
    def same(self) -> bool:
        """Not distinguishable from the best on this evidence."""
        return self.p is not None and self.p > ALPHA


def leaderboard(state: StudyState) -> list[Row]:
    """The rows, best first; of several objectives the Pareto front first, then the others, by the first one."""
    sign = state.objectives[0].sign
    front = {trial.number for trial in state.pareto}
    several = len(state.objectives) > 1

    def order(trial: Trial) -> tuple[bool, float, int]:
        return several and trial.number not in front, sign * trial.values[0], trial.number

    ranked = sorted(state.done, key=order)
    reference = None if several or not ranked else values_of(ranked[0].runs)
    rows = []
    for rank, trial in enumerate(ranked, 1):
        p = paired_p(values_of(trial.runs), reference) if reference is not None and rank > 1 else None
        rows.append(Row(rank, trial, summary_of(trial), p, trial.number in front))
    return rows


def tied(rows: list[Row]) -> list[Row]:
    """The rows after the first that have exactly its value: which of them comes first says nothing."""
    return [row for row in rows[1:] if row.summary.mean == rows[0].summary.mean]


def answer(state: StudyState, rows: list[Row]) -> str:
    """What the study found, in one sentence: the best point, the next one and how sure that is, and what was tried.

    `hidden_size 128 is best, val/ppl 1.234 ± 0.010; 64 is worse, p = 0.008; tried from 64 to 512, the largest is not
    the best`. Of a study that changes one thing at a time, which changes matter. Empty where there is nothing to
    choose between, or several objectives.
    """
    if found := effects(state):
        return sentence(state, found)
    if missing := without_base(state):
        return missing
    varied = {key: name for key, name in short_names(state.keys).items() if len(_tried(rows, key)) > 1}
    if len(rows) < 2 or len(state.objectives) > 1 or not varied:
        return ""
    best, following = rows[0], rows[1]
    digits = decimals([row.summary for row in rows])
    names = [f"{name} " if len(varied) == 1 else f"{name}=" for name in varied.values()]

    def point(row: Row, names: list[str]) -> str:
        values = [show(row.trial.params[key]) for key in varied if key in row.trial.params]
        return " ".join(f"{name}{value}" for name, value in zip(names, values, strict=False))

    parts = [f"{point(best, names)} is best, {state.objectives[0].name} {best.summary.text(digits)}"]
    other = point(following, [""] if len(varied) == 1 else names)
    if equal := tied(rows):
        more = f" and {len(equal) - 1} more" if len(equal) > 1 else ""
        parts.append(f"{other}{more} {'are' if more else 'is'} exactly as good")
    elif following.p is None:
        parts.append(f"{other} comes next, {following.summary.text(digits)}")
    else:
        relation = "cannot be told from it" if following.same else "is worse"
        parts.append(f"{other} {relation}, p {_with_sign(shown_p(following.p))}")
    parts += filter(
        None, (_edge(name, _tried(rows, key), best.trial.params.get(key)) for key, name in varied.items())
    )
    return f"{'; '.join(parts)}."


def _tried(rows: list[Row], key: str) -> list[Any]:
    return list({str(v): v for row in rows if (v := row.trial.params.get(key)) is not None}.values())


def _edge(name: str, tried: list[Any], best: Any) -> str:
    """A remark where the best value of a number is the largest or smallest that was tried."""
    if len(tried) < 3 or not all(map(is_number, tried)):
        return ""
    for word, value in (("largest", max(tried)), ("smallest", min(tried))):
        if best == value:
            return f"{show(value)} was the {word} {name} tried, so the best may lie beyond"
    return f"{show(max(tried))} was the largest {name} tried"


def _with_sign(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def verdict(state: StudyState, rows: list[Row]) -> str:
    """Which rows cannot be told from the best, by which rule; first, where their values do not compare, that."""
    varied = state.changed or varied_keys(state)
    remarks = (not_comparable(o.name, o.same, varied) for o in state.objectives)
    return " ".join([*filter(None, remarks), _verdict(state, rows)])


def _verdict(state: StudyState, rows: list[Row]) -> str:
    if not rows:
        return "No trial has finished yet."
    if len(state.objectives) > 1:
        size = sum(row.front for row in rows)
        names = " and ".join(objective.name for objective in state.objectives)
        return f"{size} of {len(rows)} trials are on the Pareto front (*): no other is better in {names} at once."
    if len(rows) == 1:
        return "One trial has finished: there is nothing to compare it with."
    tested = [row for row in rows[1:] if row.p is not None]
    if not tested and max(row.summary.n for row in rows) > 1:
        return "No other row has two finite runs in common with the best, so none can be tested."
    if not tested:
        return "One run a point: how much of the differences is chance cannot be told (study.seeds=[0,1,2])."
    same = [row.rank for row in tested if row.same]
    pairs = rows[0].summary.n
    of = "folds" if state.settings.get("folds") else "seeds"
    rule = f"paired t-test over {pairs} common {of}, p > {ALPHA}, each row by itself"
    if not same:
        every = "Every other row" + " that can be tested" * (len(tested) < len(rows) - 1)
        return f"{every} is distinguishably worse than the best ({rule.replace('>', '<=')})."
    some = "The other row (=)" if len(rows) == 2 else f"{len(same)} of the {len(rows) - 1} other rows (=)"
    return f"{some} cannot be told from the best ({rule})."


def table(state: StudyState, rows: list[Row], limit: int | None = None) -> Table:
    """The leaderboard as a table for a terminal; at most `limit` rows."""
    from rich.markup import escape
    from rich.table import Table

    shown = columns(state, rows)
    grid = Table()
    for title, cells in shown.items():
        words = bool(title) and any(cell[:1].isalpha() for cell in cells)
        grid.add_column(title, justify="left" if words else "right", no_wrap=True)
    for index, row in enumerate(rows[:limit]):
        style = "bold" if row.front else "" if row.same or row.p is None else "dim"
        grid.add_row(*(escape(printable(cells[index])) for cells in shown.values()), style=style)
    if limit is not None and len(rows) > limit:
        grid.caption = f"and {len(rows) - limit} more"
        grid.caption_justify = "left"
    return grid


def columns(state: StudyState, rows: list[Row]) -> dict[str, list[str]]:
    """Title -> one text a row; columns that would say the same everywhere are left out."""
    several, first = len(state.objectives) > 1, state.objectives[0]
    trials = [row.trial for row in rows]
    digits = decimals([row.summary for row in rows])
    marks = ["*" if row.front and several else "=" if row.same else "" for row in rows]
    found = {
        "": [f"{row.rank}{mark}" for row, mark in zip(rows, marks, strict=True)],
        "trial": [str(trial.number) for trial in trials],
        _title(first): [row.summary.text(digits) for row in rows],
    }
    if any(row.summary.sd is not None for row in rows):
        found["sd"] = ["" if r.summary.sd is None else fixed(r.summary.sd, digits) for r in rows]
        found["n"] = [str(row.summary.n) for row in rows]
    for index, objective in enumerate(state.objectives[1:], 1):
        values = [Summary(1, trial.values[index]) for trial in trials]
        whole = all(value.mean.is_integer() for value in values)
        found[_title(objective)] = [value.text(0 if whole else decimals(values)) for value in values]
    for key, name in short_names(state.keys).items():
        mine = iter(texts([trial.params[key] for trial in trials if key in trial.params]))
        found[name] = [next(mine) if key in trial.params else "" for trial in trials]
    if any(trial.hidden is not None for trial in trials):
        found["solved size"] = ["" if trial.hidden is None else str(trial.hidden) for trial in trials]
    for name, form in (("parameters", ",.0f"), ("seconds", ",.1f")):
        if name not in [objective.name for objective in state.objectives]:
            facts = [getattr(trial, name) for trial in trials]
            found[name] = ["" if fact is None else format(fact, form) for fact in facts]
    return found


def _title(objective: Objective) -> str:
    return f"{objective.name} {'↓' if objective.sign > 0 else '↑'}"


def to_csv(state: StudyState, rows: list[Row]) -> str:
    """Every trial of the study as CSV."""
    return csv_text(*table_of_trials(state, rows))


def table_of_trials(state: StudyState, rows: list[Row]) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of every trial: the leaderboard's in their order, then the others by number."""
    ranked = {row.trial.number: row for row in rows}
    order = [row.trial for row in rows] + [t for t in state.trials if t.number not in ranked]
    first, *more = (objective.metric for objective in state.objectives)
    header = ["rank", "trial", "state", first, "sd", "half_width_95", "n", "p_against_best", "front", *more]
    header += [*state.keys, "solved_size", "parameters", "seconds", "runs", "error"]
    return header, [_csv_row(state, trial, ranked.get(trial.number)) for trial in order]


def _csv_row(state: StudyState, trial: Trial, row: Row | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"trial": trial.number, "state": trial.state, **trial.params}
    facts |= {"solved_size": trial.hidden, "parameters": trial.parameters}
    facts |= {"seconds": trial.seconds, "error": trial.error}
    facts["runs"] = " ".join(_below(run.directory, state) for run in trial.runs)
    if row is not None:
        several = zip(state.objectives[1:], trial.values[1:], strict=False)
        facts |= {objective.metric: value for objective, value in several}
        facts |= {"rank": row.rank, state.objectives[0].metric: row.summary.mean, "n": row.summary.n}
        facts |= {"sd": row.summary.sd, "half_width_95": row.summary.half, "p_against_best": row.p}
        facts["front"] = int(row.front)
    return facts


def _below(path: Any, state: StudyState) -> str:
    """A path relative to `paths.root` where it lies below it."""
    return str(path.relative_to(state.root)) if path.is_relative_to(state.root) else str(path)
