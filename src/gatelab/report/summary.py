"""A study as one JSON document: what `gatelab study NAME --json` prints and `summary.json` keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gatelab.study.analysis.estimate import time_left, utilisation
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.leaderboard import Row, leaderboard, verdict
from gatelab.study.analysis.state import StudyState, Trial
from gatelab.study.analysis.statistics import over_what


def summary(state: StudyState) -> dict[str, Any]:
    """Everything about a study, as plain JSON data (no NaN, no infinity: null instead).

    Returns:
        `name`, `state`, `counts`, `best` (a trial, or null), `pareto` (numbers), `trials` (each: `number`, `state`,
        `params`, `value`, `values`, `run_dir` of its first run, `runs`, `rank`, `mean`, `sd`, `low`, `high`, `n`,
        `p_against_best`, `seconds`, `parameters`, `error`, ...), `importance`, `verdict` and how it was run.
    """
    rows = {row.trial.number: row for row in leaderboard(state)}
    shares = importance(state)
    best = state.best
    document = {
        "name": state.name,
        "directory": str(state.directory),
        "state": state.state,
        "created": state.created,
        "command": state.command,
        "objectives": [vars(objective) for objective in state.objectives],
        "counts": state.counts,
        "best": _trial(state, best, rows.get(best.number)) if best else None,
        "pareto": [trial.number for trial in state.pareto],
        "verdict": verdict(state, list(rows.values())),
        "statistics": over_what(state),
        "importance": {
            "method": shares.method,
            "shares": [vars(share) for share in shares.shares],
            "trials": shares.trials,
            "notes": list(shares.notes),
        },
        "slots": state.slots,
        "workers_alive": len(state.workers),
        "seconds_left": time_left(state),
        "utilisation": utilisation(state),
        "settings": dict(state.settings),
        "overrides": list(state.overrides),
        "versions": dict(state.versions),
        "trials": [_trial(state, trial, rows.get(trial.number)) for trial in state.trials],
    }
    return {key: plain(value) for key, value in document.items()}


def _trial(state: StudyState, trial: Trial, row: Row | None) -> dict[str, Any]:
    runs = [
        {"run_dir": str(run.directory), "seed": run.seed, "fold": run.fold, "value": run.value}
        for run in trial.runs
    ]
    facts: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state,
        "params": dict(trial.params),
        "value": trial.value,
        "values": list(trial.values),
        "run_dir": runs[0]["run_dir"] if runs else None,
        "runs": runs,
        "seconds": trial.seconds,
        "parameters": trial.parameters,
        "solved_size": trial.hidden,
        "lost": trial.attempts,
        "error": trial.error,
        "owner": trial.owner,
        "started": trial.started.isoformat(timespec="milliseconds") if trial.started else None,
        "finished": trial.finished.isoformat(timespec="milliseconds") if trial.finished else None,
        "reported": dict(zip(("step", "value"), trial.reported or (None, None), strict=True)),
    }
    if row is not None:
        s = row.summary
        facts |= {"rank": row.rank, "mean": s.mean, "sd": s.sd, "low": s.low, "high": s.high, "n": s.n}
        facts |= {"p_against_best": row.p, "on_front": row.front}
    return facts


def plain(value: Any) -> Any:
    """JSON data without what JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
