"""How much each parameter of a study matters for its (first) objective, by one of two methods, and how far to trust it.

Values that can be listed (a grid): analysis of variance. A parameter's share is what its main effect explains of the
variance between all runs, given the other parameters (type II sums of squares, so gaps in the grid do no harm). The
rest is interactions and, with several seeds or folds, the runs themselves (their share is what chance does).
With replicates the shares are omega squared: what chance would explain is taken off (Hays 1963). Where one run makes
most of the variance (a training that diverged), the ranks of the values are analysed in their place.

Ranges of numbers: PED-ANOVA (Watanabe et al. 2023; conditional parameters: arXiv 2601.20800), which asks how much the
best quarter of the trials concentrates on some values. Optuna's implementation; needs nothing else installed. In a
study of several objectives it asks the same about the trials near the Pareto front.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gatelab.study.analysis.state import StudyState, Trial
from gatelab.study.analysis.statistics import values_of

FEW, ENOUGH, QUANTILE = 8, 20, 0.25
WILD = 0.5  # of the variance made by one run alone


@dataclass(frozen=True)
class Share:
    """What one parameter explains.

    Attributes:
        key: of the parameter, or None for what is no parameter: `interactions`, `runs`.
        name: to show.
        share: 0 to 1.
        trials: how many finished trials have the parameter (conditional ones: not all).
    """

    key: str | None
    name: str
    share: float
    trials: int


@dataclass(frozen=True)
class Importance:
    """The shares, largest first, and how they were found.

    Attributes:
        method: `variance`, `ped-anova` or None (nothing can be said).
        shares: of the parameters, then of what is left.
        trials: finished trials that were used.
        notes: what a reader has to know, one sentence each.
    """

    method: str | None
    shares: tuple[Share, ...]
    trials: int
    notes: tuple[str, ...] = ()


def importance(state: StudyState) -> Importance:
    """The importance of each parameter of a study, from the trials that are done."""
    trials = [t for t in state.done if all(math.isfinite(v) for v in t.values)]
    varied = [key for key in state.keys if len({_level(t, key) for t in trials}) > 1]
    constant = [key for key in state.keys if key not in varied]
    if not varied:
        why = "no trial has finished" if not trials else "no parameter has taken two values yet"
        return Importance(None, (), len(trials), (f"Nothing can be said: {why}.",))
    values, owner = _observations(trials)
    listed = len(state.objectives) == 1 and all(_listed(trials, key) for key in varied)
    if listed and len(varied) == 1 and len(values) == len(trials):
        note = f"Nothing can be said: with one run a point, chance cannot be told from the effect of {varied[0]}."
        return Importance(None, (), len(trials), (note,))
    columns = {key: _columns(trials, key)[owner] for key in varied} if listed else {}
    if listed and _rank(len(values), columns.values()) < len(values):
        found = _variance(trials, values, owner, columns)
    else:
        found = _ped_anova(state, trials, varied)
    if constant and found.method:
        names = ", ".join(constant)
        found = _with(found, f"Not varied among the trials that are done: {names}.")
    lost = sum(t.state == "pruned" for t in state.trials)
    if lost and found.method:
        found = _with(found, f"{lost} pruned trials have no final value and are left out.")
    return found


def _with(found: Importance, note: str) -> Importance:
    return Importance(found.method, found.shares, found.trials, (*found.notes, note))


def _level(trial: Trial, key: str) -> str:
    return repr(trial.params[key]) if key in trial.params else ""


def _listed(trials: Sequence[Trial], key: str) -> bool:
    """Whether the key's values come from a list, not from a range."""
    kinds = {type(t.distributions[key]).__name__ for t in trials if key in t.distributions}
    return kinds <= {"CategoricalDistribution"}


def _variance(
    trials: Sequence[Trial], values: np.ndarray, owner: np.ndarray, columns: dict[str, np.ndarray]
) -> Importance:
    total = float(((values - values.mean()) ** 2).sum())
    if total == 0.0:
        note = "Nothing can be said: all trials have the same value."
        return Importance(None, (), len(trials), (note,))
    notes = _variance_notes(trials, columns)
    alone = float(((values - values.mean()) ** 2).max()) / total
    if alone > WILD and len(values) >= FEW:
        wild = trials[owner[int(np.abs(values - values.mean()).argmax())]].number
        notes = (
            f"Share of the variance between the ranks of all runs that each parameter explains: one run alone (of "
            f"trial {wild}) makes {alone:.0%} of the variance between the values.",
            *notes[1:],
        )
        values = _ranks(values)
        total = float(((values - values.mean()) ** 2).sum())
    means = np.bincount(owner, values) / np.bincount(owner)
    cells = float(((values - means[owner]) ** 2).sum())
    spare = len(values) - len(trials)  # degrees of freedom between the runs of a trial
    noise = cells / spare if spare else 0.0
    full, rank = _residual(values, columns.values()), _rank(len(values), columns.values())
    effects = {}
    for key in columns:
        others = [column for other, column in columns.items() if other != key]
        squares, freedom = _residual(values, others) - full, rank - _rank(len(values), others)
        effects[key] = _omega(squares, freedom, noise, total)
    left = _omega(full - cells, max(0, len(trials) - rank), noise, total)
    chance = min(1.0, len(values) * noise / (total + noise)) if spare else None
    shares = _shares(trials, effects, left, chance)
    return Importance("variance", shares, len(trials), notes)


def _ranks(values: np.ndarray) -> np.ndarray:
    """1 for the smallest; equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _observations(trials: Sequence[Trial]) -> tuple[np.ndarray, np.ndarray]:
    """Every run's value (the trial's, where runs are not known), and the index of its trial."""
    values: list[float] = []
    owner: list[int] = []
    for index, trial in enumerate(trials):
        mine = list(values_of(trial.runs).values()) or [trial.values[0]]
        values += mine
        owner += [index] * len(mine)
    return np.asarray(values), np.asarray(owner)


def _columns(trials: Sequence[Trial], key: str) -> np.ndarray:
    """One column a value but the first; 0 on average where the key is there, and 0 where it is not.

    So a conditional parameter explains differences among the trials that have it, and what it depends on the rest.
    """
    levels = [_level(trial, key) for trial in trials]
    names = sorted({level for level in levels if level})
    columns = np.asarray([[float(level == name) for name in names[1:]] for level in levels])
    there = np.asarray([bool(level) for level in levels])
    columns[there] -= columns[there].mean(axis=0)
    return columns


def _design(rows: int, columns: Iterable[np.ndarray]) -> np.ndarray:
    return np.hstack([np.ones((rows, 1)), *columns])


def _rank(rows: int, columns: Iterable[np.ndarray]) -> int:
    return int(np.linalg.matrix_rank(_design(rows, columns)))


def _residual(values: np.ndarray, columns: Iterable[np.ndarray]) -> float:
    """Sum of squares that a least-squares fit leaves."""
    design = _design(len(values), columns)
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(((values - fitted) ** 2).sum())


def _omega(squares: float, freedom: int, noise: float, total: float) -> float:
    return max(0.0, (squares - freedom * noise) / (total + noise))


def _shares(
    trials: Sequence[Trial], effects: dict[str, float], left: float, chance: float | None
) -> tuple[Share, ...]:
    ranked = sorted(effects.items(), key=lambda pair: -pair[1])
    found = [Share(key, key, share, sum(key in t.params for t in trials)) for key, share in ranked]
    everything = len(trials)
    if chance is None:
        return (*found, Share(None, "interactions and chance", left, everything))
    if len(effects) > 1:
        found.append(Share(None, "interactions", left, everything))
    found.append(Share(None, "chance (runs of one point differ)", chance, everything))
    whole = sum(share.share for share in found)
    if whole > 1.0:  # what came out below 0 was set to 0
        found = [replace(share, share=share.share / whole) for share in found]
    elif whole < 0.99:  # the points are no full grid: parameters went together
        found.append(Share(None, "of several parameters together", 1.0 - whole, everything))
    return tuple(found)


def _variance_notes(trials: Sequence[Trial], keys: Iterable[str]) -> tuple[str, ...]:
    notes = ["Share of the variance between all runs that each parameter explains."]
    conditional = [key for key in keys if any(key not in t.params for t in trials)]
    if conditional:
        notes.append(f"Only some trials have {', '.join(conditional)}; its share is beyond its condition's.")
    return tuple(notes)


def _ped_anova(state: StudyState, trials: Sequence[Trial], keys: list[str]) -> Importance:
    if len(trials) < FEW:
        note = f"Nothing can be said from {len(trials)} finished trials: at least {FEW} are needed."
        return Importance(None, (), len(trials), (note,))
    import optuna

    directions: list[Any] = [objective.direction for objective in state.objectives]
    study = optuna.create_study(directions=directions)
    study.add_trials([_frozen(trial) for trial in trials])
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=QUANTILE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = evaluator.evaluate(study, params=keys)
    total = sum(raw.values())
    if not total > 0.0:
        note = "Nothing can be said: the best trials do not differ from the others."
        return Importance(None, (), len(trials), (note,))
    ranked = sorted(raw.items(), key=lambda pair: -pair[1])
    shares = tuple(Share(k, k, v / total, sum(k in t.params for t in trials)) for k, v in ranked)
    near = (
        "the trials nearest the Pareto front" if len(state.objectives) > 1 else "the best quarter of trials"
    )
    notes = [f"PED-ANOVA: how much {near} concentrates on some values; shares sum to 1."]
    if len(trials) < ENOUGH:
        notes.append(f"From {len(trials)} finished trials this is a hint only; {ENOUGH} say more.")
    return Importance("ped-anova", shares, len(trials), tuple(notes))


def _frozen(trial: Trial) -> Any:
    import optuna

    known: dict[str, Any] = {k: v for k, v in trial.params.items() if k in trial.distributions}
    return optuna.trial.create_trial(
        params=known,
        distributions={key: trial.distributions[key] for key in known},
        values=list(trial.values),
    )
