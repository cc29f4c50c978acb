"""A study that changes one thing at a time (`study.strategy=one_at_a_time`), as in an ablation: what each change does.

Its base has the first value of every parameter; each further trial has another value of one of them. So a trial is
told by its change, `weight_drop 0.15 → 0`, and compared with the base run by run, not with the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gatelab.data.messages import counted
from gatelab.study.analysis.state import StudyState, short_names, show
from gatelab.study.analysis.statistics import (
    ALPHA,
    Summary,
    decimals,
    paired_p,
    shown_p,
    summarise,
    values_of,
)
from gatelab.study.settings import ONE_AT_A_TIME
from gatelab.study.space import encode

CHANGE, BASE = "change", "base"
MARK = (
    "What each change does: the difference from the base run by run (same seed, same fold) with its 95 % interval, and "
    "the p of a paired t-test, each row by itself."
)


@dataclass(frozen=True)
class Effect:
    """One change: the difference from the base over the runs that both have, and how sure it is.

    Attributes:
        change: in words.
        trial: its number.
        difference: of the first objective.
        p: of the paired test; None without two common runs.
        better: whether the difference is to the good.
    """

    change: str
    trial: int
    difference: Summary
    p: float | None
    better: bool

    @property
    def told(self) -> bool:
        """Whether it can be told from no difference on this evidence."""
        return self.p is not None and self.p <= ALPHA


def by_change(state: StudyState) -> StudyState:
    """The study with one parameter, the change, in place of all that were changed in turn; any other as it is."""
    if state.settings.get("strategy") != ONE_AT_A_TIME or state.keys == [CHANGE]:
        return state
    base = {str(entry["key"]): encode(entry["choices"][0]) for entry in state.space}
    names = short_names(state.keys)

    def change(params: Mapping[str, Any]) -> str:
        changed = [
            f"{names[k]} {show(base.get(k))} → {show(v)}" for k, v in params.items() if v != base.get(k)
        ]
        return ", ".join(changed) or BASE

    trials = [
        replace(trial, params={CHANGE: change(trial.params)} if trial.params else {}, distributions={})
        for trial in state.trials
    ]
    space = ({"key": CHANGE, "kind": "choice", "choices": [trial.params.get(CHANGE) for trial in trials]},)
    return replace(state, trials=tuple(trials), space=space)


def effects(state: StudyState) -> list[Effect]:
    """Every finished change beside the base, the worst first; empty for another study, and without a finished base."""
    state = by_change(state)
    known = {trial.params.get(CHANGE): trial for trial in state.done}
    if state.keys != [CHANGE] or len(state.objectives) > 1 or BASE not in known:
        return []
    sign, of_base, found = state.objectives[0].sign, values_of(known[BASE].runs), []
    for change, trial in known.items():
        values = values_of(trial.runs)
        differences = [values[key] - of_base[key] for key in values if key in of_base]
        if trial is not known[BASE] and differences:
            summary = summarise(differences)
            better = sign * summary.mean < 0
            found.append(Effect(str(change), trial.number, summary, paired_p(values, of_base), better))
    return sorted(found, key=lambda effect: -sign * effect.difference.mean)


def base_in_words(state: StudyState) -> str:
    """`the base: 2.13 ± 0.37`; empty while it has not finished."""
    of_base = [trial for trial in by_change(state).done if trial.params.get(CHANGE) == BASE]
    summaries = [summarise(list(values_of(trial.runs).values()) or trial.values) for trial in of_base]
    return "".join(f"the base: {summary.text(decimals([summary]))}" for summary in summaries)


def columns(state: StudyState, found: Sequence[Effect]) -> dict[str, list[str]]:
    """Title -> one text a row, as `leaderboard.columns`."""
    objective = state.objectives[0]
    digits = decimals([effect.difference for effect in found])
    signs = ["" if effect.difference.mean < 0 else "+" for effect in found]
    shown = {
        "change": [effect.change for effect in found],
        f"{objective.name} against the base": [
            sign + effect.difference.text(digits) for sign, effect in zip(signs, found, strict=True)
        ],
    }
    if any(effect.p is not None for effect in found):
        shown["n"] = [str(effect.difference.n) for effect in found]
        shown["p"] = ["" if effect.p is None else shown_p(effect.p) for effect in found]
    return shown | {"trial": [str(effect.trial) for effect in found]}


def sentence(state: StudyState, found: Sequence[Effect]) -> str:
    """How many changes are worse, better, and neither; without a second run, the worst and the best of them."""
    name, n = state.objectives[0].name, len(found)
    tested = [effect for effect in found if effect.p is not None]
    if not tested:
        ends = dict.fromkeys([found[0].change, found[-1].change])
        return f"{counted(n, 'change')} of the base, one run each; the worst and the best: {'; '.join(ends)}."
    worse = [effect.change for effect in tested if effect.told and not effect.better]
    better = [effect.change for effect in tested if effect.told and effect.better]
    parts = [
        f"{len(some)} {'makes' if len(some) == 1 else 'make'} {name} {word} ({'; '.join(some)})"
        for some, word in ((worse, "worse"), (better, "better"))
        if some
    ]
    left = n - len(worse) - len(better)
    if left == n:
        return f"No change of the base can be told from it ({counted(n, 'change')}, p > {ALPHA})."
    parts += [f"{left} cannot be told from it (p > {ALPHA})"] if left else []
    return f"Of {counted(n, 'change')} of the base {', '.join(parts)}."
