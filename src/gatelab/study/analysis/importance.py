"""Importance of each parameter for the objective, by PED-ANOVA (Watanabe et al. 2023; Optuna's evaluator).

It compares how the values of a parameter are distributed among the best quarter of the runs and among all of them, so a
run that diverged counts as a bad run and nothing more. Every seed or fold of a point is one run; in a study of several
objectives a point is one, and the best are those nearest the Pareto front. Conditional parameters: arXiv 2601.20800.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatelab.study.analysis.state import StudyState, Trial
from gatelab.study.analysis.statistics import values_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FEW, ENOUGH, QUANTILE = 8, 20, 0.25
"""Below FEW runs nothing is computed, below ENOUGH the result is called a hint."""


@dataclass(frozen=True)
class Share:
    """One parameter's part of the importance.

    Attributes:
        key: of the parameter.
        share: 0 to 1; those of a study sum to 1.
        trials: number of finished trials that have the parameter (conditional ones: not all).
    """

    key: str
    share: float
    trials: int


@dataclass(frozen=True)
class Importance:
    """Shares of the parameters, the largest first; empty where nothing can be said.

    Attributes:
        shares: one a parameter that was varied.
        trials: number of finished trials that were used.
        notes: method, and what limits the result; one sentence each.
    """

    shares: tuple[Share, ...]
    trials: int
    notes: tuple[str, ...]


def importance(state: StudyState) -> Importance:
    """The importance of each parameter of a study, from the trials that are done; nothing to say of a single one."""
    if len(state.keys) == 1:
        return Importance((), len(state.done), ())
    trials = [trial for trial in state.done if all(math.isfinite(value) for value in trial.values)]
    varied = [key for key in state.keys if len({repr(trial.params.get(key)) for trial in trials}) > 1]
    runs = [run for trial in trials for run in _observations(trial)]
    why = ""
    if not trials:
        why = "no trial has finished"
    elif not varied:
        why = "no parameter has taken two values yet"
    elif len(varied) == 1:
        why = f"only {varied[0]} was varied, so there is nothing to compare it with"
    elif len(runs) < FEW:
        why = f"of {len(runs)} finished runs; at least {FEW} are needed"
    found = {} if why else _ped_anova(state, runs, varied)
    total = sum(found.values())
    if not total:
        why = why or "the best runs do not differ from the others in any parameter"
        return Importance((), len(trials), (f"Importance: nothing can be said ({why}).",))
    count = {key: sum(key in trial.params for trial in trials) for key in found}
    shares = [Share(key, value / total, count[key]) for key, value in found.items()]
    return Importance(
        tuple(sorted(shares, key=lambda share: -share.share)),
        len(trials),
        tuple(_notes(state, varied, len(runs))),
    )


def _observations(trial: Trial) -> list[FrozenTrial]:
    """The trial once for each of its runs, as Optuna knows it."""
    from optuna.trial import create_trial

    params = {key: value for key, value in trial.params.items() if key in trial.distributions}
    distributions = {key: trial.distributions[key] for key in params}
    several = len(trial.values) > 1
    values = [] if several else [[value] for value in values_of(trial.runs).values() if math.isfinite(value)]
    return [
        create_trial(params=params, distributions=distributions, values=value)
        for value in values or [list(trial.values)]
    ]


def _ped_anova(state: StudyState, runs: list[FrozenTrial], varied: list[str]) -> dict[str, float]:
    import optuna

    from gatelab.study.engine.samplers import quiet_optuna

    quiet_optuna()
    directions: list[Any] = [objective.direction for objective in state.objectives]
    study = optuna.create_study(directions=directions)
    study.add_trials(runs)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=QUANTILE)
    known = [key for key in varied if any(key in run.distributions for run in runs)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `normalize` is experimental; too few trials are said in the notes
        return optuna.importance.get_param_importances(
            study, evaluator=evaluator, params=known, normalize=False
        )


def _notes(state: StudyState, varied: list[str], runs: int) -> Iterator[str]:
    near = "nearest the Pareto front" if len(state.objectives) > 1 else "with the best value"
    yield f"PED-ANOVA: how far the values among the quarter of runs {near} differ from those among all; the sum is 1."
    if runs < ENOUGH:
        yield f"From {runs} finished runs this is a hint only; {ENOUGH} say more."
    constant = [key for key in state.keys if key not in varied]
    if constant:
        yield f"Not varied among the finished trials: {', '.join(constant)}."
    pruned = state.counts["pruned"]
    if pruned:
        yield f"Pruned trials ({pruned}) have no final value and are left out."
