"""A study that changes one thing at a time (`study.strategy=one_at_a_time`), as in an ablation: what each change does.

Its base has the first value of every parameter; each further trial has another value of one of them. So a trial is
told by its change, `weight_drop 0.15 → 0`, and compared with the base run by run, not with the best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gatelab.data.messages import counted
from gatelab.study.analysis.state import StudyState, Trial, short_names, show, texts
from gatelab.study.analysis.statistics import (
    ALPHA,
    Summary,
    decimals,
    paired_p,
    shown_p,
    summarise,
    summary_of,
    values_of,
)
from gatelab.study.settings import ONE_AT_A_TIME
from gatelab.study.space import encode

CHANGE, BASE = "change", "base"
LONGEST = 25
"""Letters of a value in a change."""
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

    @property
    def diverged(self) -> bool:
        """Whether a run of it has no finite score, so that there is no difference to speak of."""
        return not math.isfinite(self.difference.mean)

    @property
    def label(self) -> str:
        """The change, and that it diverged: such a row has no point in a picture."""
        return f"{self.change} (diverged)" if self.diverged else self.change


def by_change(state: StudyState) -> StudyState:
    """The study with one parameter, the change, in place of all that were changed in turn; any other as it is."""
    if state.settings.get("strategy") != ONE_AT_A_TIME or state.keys == [CHANGE]:
        return state
    names, base = short_names(state.keys), {}
    told: dict[str, dict[Any, str]] = {}
    for entry in state.space:
        key, choices = str(entry["key"]), [encode(choice) for choice in entry["choices"]]
        base[key], told[key] = choices[0], dict(zip(choices, texts(choices, LONGEST), strict=True))

    def change(params: Mapping[str, Any]) -> str:
        changed = [
            f"{names[key]} {told[key][base[key]]} → {told[key].get(value, show(value))}"
            for key, value in params.items()
            if key in base and value != base[key]
        ]
        return ", ".join(changed) or BASE

    trials = [
        replace(trial, params={CHANGE: change(trial.params)} if trial.params else {}, distributions={})
        for trial in state.trials
    ]
    space = ({"key": CHANGE, "kind": "choice", "choices": [trial.params.get(CHANGE) for trial in trials]},)
    return replace(state, trials=tuple(trials), space=space, changed=varied_keys(state))


def varied_keys(state: StudyState) -> frozenset[str]:
    """The keys that finished trials differ in."""
    done = state.done
    return frozenset(key for key in state.keys if len({str(trial.params.get(key)) for trial in done}) > 1)


def effects(state: StudyState) -> list[Effect]:
    """Every finished change beside the base, the worst first; empty for another study, and without a base's score."""
    state = by_change(state)
    base = _base(state)
    if base is None or len(state.objectives) > 1 or _why_without(base):
        return []
    sign, of_base, found = state.objectives[0].sign, values_of(base.runs), []
    for trial in state.done:
        values = values_of(trial.runs)
        differences = [values[key] - of_base[key] for key in values if key in of_base]
        if trial is not base and differences:
            summary = summarise(differences)
            better = math.isfinite(summary.mean) and sign * summary.mean < 0
            change = str(trial.params[CHANGE])
            found.append(Effect(change, trial.number, summary, paired_p(values, of_base), better))
    return sorted(found, key=lambda one: -math.inf if one.diverged else -sign * one.difference.mean)


def _base(state: StudyState) -> Trial | None:
    """The trial of the base; None in another study."""
    return next((trial for trial in state.trials if trial.params.get(CHANGE) == BASE), None)


def _why_without(base: Trial) -> str:
    """Why a base has no score to compare others with; empty where it has one."""
    if base.state != "done":
        return {"failed": "has failed", "pruned": "was pruned"}.get(base.state, "has not finished yet")
    finite = all(map(math.isfinite, [*base.values, *values_of(base.runs).values()]))
    return "" if finite else "has diverged"


def without_base(state: StudyState) -> str:
    """That the base has no score, in a sentence; empty where it has one, and for another study."""
    base = _base(by_change(state))
    if base is None or len(state.objectives) > 1 or not (why := _why_without(base)):
        return ""
    return f"The base (trial {base.number}) {why}, so no change can be compared with it."


def base_in_words(state: StudyState) -> str:
    """`the base: 2.13 ± 0.37`; empty without its score."""
    base = _base(by_change(state))
    if base is None or _why_without(base):
        return ""
    return f"the base: {summary_of(base).text()}"


def in_words(params: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A point in a sentence: `model gru, lr 0.01`; of one change at a time `base` or the change alone."""
    if [*params] == [CHANGE]:
        return str(params[CHANGE])
    return ", ".join(f"{names[key]} {show(value)}" for key, value in params.items())


def columns(state: StudyState, found: Sequence[Effect]) -> dict[str, list[str]]:
    """Title -> one text a row, as `leaderboard.columns`."""
    objective = state.objectives[0]
    digits = decimals([effect.difference for effect in found])
    signs = ["+" if effect.difference.mean > 0 else "" for effect in found]
    shown = {
        "change": [effect.change for effect in found],
        f"{objective.name} against the base": [
            "diverged" if effect.diverged else sign + effect.difference.text(digits)
            for sign, effect in zip(signs, found, strict=True)
        ],
    }
    if any(effect.p is not None for effect in found):
        shown["n"] = [str(effect.difference.n) for effect in found]
        shown["p"] = ["" if effect.p is None else shown_p(effect.p) for effect in found]
    return shown | {"trial": [str(effect.trial) for effect in found]}


def sentence(state: StudyState, found: Sequence[Effect]) -> str:
    """How many changes are worse, better, and neither; without a second run, the worst and the best of them."""
    name, n = state.objectives[0].name, len(found)
    if all(effect.p is None for effect in found) and not all(effect.diverged for effect in found):
        ends = dict.fromkeys([found[0].label, found[-1].label])
        told = f"{counted(n, 'change')} of the base, one run each; the worst and the best: {'; '.join(ends)}."
        return f"{told}{_without_score(state)}"
    kinds = (
        ("makes", "make", f" {name} worse", [one for one in found if one.told and not one.better]),
        ("makes", "make", f" {name} better", [one for one in found if one.told and one.better]),
        ("diverges", "diverge", "", [one for one in found if one.diverged]),
        ("has", "have", " one run to compare", [one for one in found if one.p is None and not one.diverged]),
    )
    parts = [
        f"{len(some)} {verb if len(some) == 1 else verbs}{what} ({'; '.join(one.change for one in some)})"
        for verb, verbs, what, some in kinds
        if some
    ]
    left = n - sum(len(some) for *_, some in kinds)
    if not parts:
        parts, left = [f"none can be told from it (p > {ALPHA})"], 0
    parts += [f"{left} cannot be told from it (p > {ALPHA})"] if left else []
    return f"Of {counted(n, 'change')} of the base {', '.join(parts)}.{_without_score(state)}"


def _without_score(state: StudyState) -> str:
    """The changes that ended without a score."""
    ended = [trial for trial in by_change(state).trials if trial.state in ("failed", "pruned")]
    texts_of = [f"{trial.params[CHANGE]} ({trial.state})" for trial in ended if trial.params]
    return f" Without a score: {'; '.join(texts_of)}." if texts_of else ""
