"""How long a study will still take, and how busy its slots were.

A trial that has not finished is taken to last as long as finished ones with similar parameters: a linear model of
log(seconds) in log2 of the numbers and in the choices, drawn towards the plain mean (ridge), so that three finished
trials give a sober guess and thirty give a good one. The open trials are then dealt to the slots in their order.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import numpy as np

from gatelab.study.analysis.state import StudyState, Trial

RIDGE = 0.5  # in units of one finished trial


def time_left(state: StudyState) -> float | None:
    """Seconds until the last open trial is finished; None while no trial has finished."""
    finished = [t for t in state.trials if t.state == "done" and (_cost(t, state) or 0.0) > 0.0]
    waiting = [t for t in state.trials if t.state == "waiting"]
    running = [t for t in state.trials if t.state == "running"]
    if not waiting and not running:
        return 0.0
    if not finished:
        return None
    predicted = _predict(
        finished, [float(_cost(t, state) or 0.0) for t in finished], running + waiting, state.keys
    )
    rest = [
        max(seconds - (0.0 if state.lost(trial) else trial.elapsed(state.now) or 0.0), 0.0)
        for trial, seconds in zip(running, predicted, strict=False)
    ]
    slots = rest[: state.slots] + [0.0] * max(0, state.slots - len(rest))
    heapq.heapify(slots)
    for seconds in [*rest[state.slots :], *predicted[len(running) :]]:
        heapq.heapreplace(slots, slots[0] + seconds)
    return max(slots)


def _cost(trial: Trial, state: StudyState) -> float | None:
    """What a trial costs a slot: its training, or the length of its last attempt where that is longer."""
    known = [s for s in (trial.seconds, trial.elapsed(state.now)) if s is not None]
    return max(known, default=None)


def _predict(
    finished: Sequence[Trial], seconds: Sequence[float], open_trials: Sequence[Trial], keys: Iterable[str]
) -> list[float]:
    """Seconds of each open trial."""
    columns = _columns(finished, list(keys))
    target = np.log(np.asarray(seconds))
    mean = float(target.mean())
    known, wanted = _features(finished, columns), _features(open_trials, columns)
    centre = known.mean(axis=0)
    known, wanted = known - centre, wanted - centre
    gram = known.T @ known + RIDGE * np.eye(known.shape[1])
    weights = np.linalg.solve(gram, known.T @ (target - mean))
    guess = np.exp(np.clip(mean + wanted @ weights, target.min() - 3.0, target.max() + 3.0))
    return [float(value) for value in guess]


def _columns(trials: Sequence[Trial], keys: list[str]) -> list[tuple[str, Any]]:
    """(key, None) for a number, (key, choice) for each choice of anything else."""
    columns: list[tuple[str, Any]] = []
    for key in keys:
        values = [trial.params[key] for trial in trials if key in trial.params]
        if values and all(is_number(value) and value > 0 for value in values):
            columns.append((key, None))
        else:
            columns.extend((key, choice) for choice in dict.fromkeys(map(str, values)))
    return columns


def _features(trials: Sequence[Trial], columns: Sequence[tuple[str, Any]]) -> np.ndarray:
    rows = np.zeros((len(trials), len(columns)))
    for i, trial in enumerate(trials):
        for j, (key, choice) in enumerate(columns):
            value = trial.params.get(key)
            if choice is not None:
                rows[i, j] = float(str(value) == choice)
            elif is_number(value) and value > 0:
                rows[i, j] = math.log2(value)
    return rows


def is_number(value: Any) -> TypeGuard[int | float]:
    """A number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def utilisation(state: StudyState, since: float | None = None) -> float | None:
    """The share of slot time in which a trial ran, 0 to 1; None before any trial began.

    Only last attempts are known, so what an interrupted attempt did is not counted, nor one whose worker died.

    Args:
        since: seconds since the epoch; from then to now. Without it: from the first start on, leaving out the
            times longer than `stale_after` in which nothing ran: the study was stopped then.
    """
    until = state.now.timestamp()
    spans = sorted(
        (max(t.started.timestamp(), since or 0.0), min((t.finished or state.now).timestamp(), until))
        for t in state.trials
        if t.started is not None and t.state != "waiting" and not state.lost(t)
    )
    spans = [(start, end) for start, end in spans if end > start]
    if not spans:
        return None
    busy = sum(end - start for start, end in spans)
    open_until = until if state.state == "running" else max(end for _, end in spans)
    wall = open_until - since if since is not None else _wall(spans, float(_stale(state)))
    return min(1.0, busy / (state.slots * max(wall, 1e-9)))


def _stale(state: StudyState) -> float:
    return float(state.settings.get("stale_after") or 30.0)


def _wall(spans: Sequence[tuple[float, float]], pause: float) -> float:
    """Seconds from the first start to the last end without the pauses."""
    wall, reached = 0.0, spans[0][0]
    for start, end in spans:
        if start - reached > pause:
            reached = start
        if end > reached:
            wall += end - reached
            reached = end
    return wall


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
