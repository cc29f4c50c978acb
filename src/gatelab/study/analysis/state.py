"""The state of a study at one moment: settings, trials, the best so far, the time left. Read by `read.py`."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from gatelab.study.settings import replicates

STATES = ("done", "running", "pruned", "failed", "waiting")


@dataclass(frozen=True)
class Objective:
    """One thing that the study optimises.

    Attributes:
        metric: as it is logged, e.g. `val/bpc`, or `parameters` or `seconds`.
        direction: `minimize` or `maximize`.
        words: the metric in words with its unit, as the runs have recorded it, or empty.
        same: keys that must not differ between trials that are compared by it (`Metric.same`).
    """

    metric: str
    direction: str = "minimize"
    words: str = ""
    same: Sequence[str] = ()

    @property
    def sign(self) -> float:
        """1 where smaller is better, else -1: `sign * value` is always better when smaller."""
        return -1.0 if self.direction == "maximize" else 1.0

    @property
    def name(self) -> str:
        """The metric without its split, e.g. `bpc`."""
        return self.metric.removeprefix("val/")

    @property
    def label(self) -> str:
        """What an axis is called."""
        return self.words or self.name.replace("_", " ")


@dataclass(frozen=True)
class Run:
    """One training of a trial: a seed, and with cross-validation a fold.

    Attributes:
        directory: its run directory, absolute.
        value: of the first objective; None while the run is not finished.
        seed: of the run; None where it is unknown.
        fold: of the cross-validation; None without one.
        steps: of the optimiser, where they are known without the run's files.
    """

    directory: Path
    value: float | None
    seed: int | None = None
    fold: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Trial:
    """One point of the study.

    Attributes:
        number: index of the point.
        state: one of `STATES`.
        params: override key -> value; of a waiting point what is fixed already.
        values: one a objective; empty until it is done.
        runs: those that were begun, in their order.
        seconds: of training, over all runs.
        parameters: of the network.
        hidden: hidden size that a parameter budget was solved for.
        error: last line of what went wrong.
        attempts: how often its worker or its run was killed.
        owner: worker and slot that have it now, or had it last.
        started, finished: of the last attempt, with a time zone.
        reported: step and value of the last report.
        distributions: Optuna's, by key.
    """

    number: int
    state: str
    params: Mapping[str, Any]
    values: tuple[float, ...] = ()
    runs: tuple[Run, ...] = ()
    seconds: float | None = None
    parameters: int | None = None
    hidden: int | None = None
    error: str | None = None
    attempts: int = 0
    owner: str | None = None
    started: datetime.datetime | None = None
    finished: datetime.datetime | None = None
    reported: tuple[int, float] | None = None
    distributions: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def value(self) -> float | None:
        """Of the first objective."""
        return self.values[0] if self.values else None

    def elapsed(self, now: datetime.datetime) -> float | None:
        """Seconds that the last attempt took, or has taken so far."""
        if self.started is None:
            return None
        return max(0.0, ((self.finished or now) - self.started).total_seconds())


@dataclass(frozen=True)
class StudyState:
    """A study at one moment.

    Attributes:
        directory: the study's folder, absolute.
        name: of the study.
        settings: of `study.*`, as plain data.
        overrides: that all trials share.
        space: of the search, one entry a parameter.
        objectives: at least one.
        trials: by number.
        workers: ids of those that are alive.
        command, created, versions: as `study.json` has them.
        now: when this was read.
        baselines: trivial models' values of the first objective; None: they stand in the runs' files.
        changed: keys that finished trials differ in, where one parameter, the change, stands for them all.
    """

    directory: Path
    name: str
    settings: Mapping[str, Any]
    overrides: tuple[str, ...]
    space: tuple[Mapping[str, Any], ...]
    objectives: tuple[Objective, ...]
    trials: tuple[Trial, ...]
    workers: frozenset[str] = frozenset()
    command: str = ""
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    now: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))
    baselines: Mapping[str, float] | None = None
    changed: frozenset[str] = frozenset()

    @property
    def root(self) -> Path:
        """`paths.root`: the folder that holds `studies/` and `runs/`."""
        return self.directory.parent.parent

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials in each state."""
        return {state: sum(t.state == state for t in self.trials) for state in STATES}

    @property
    def state(self) -> str:
        """`empty`, `finished`, `running`, or `stopped`: trials are left and no worker is alive."""
        counts = self.counts
        if not self.trials:
            return "empty"
        if counts["waiting"] + counts["running"] == 0:
            return "finished"
        return "running" if self.workers else "stopped"

    def lost(self, trial: Trial) -> bool:
        """True for a running trial whose worker has died; a living worker requeues it."""
        return trial.state == "running" and (trial.owner or "").partition("/")[0] not in self.workers

    @property
    def slots(self) -> int:
        """Runs that can go on at once, on all workers."""
        return max(1, int(self.settings.get("workers") or 1) * int(self.settings.get("slots") or 1))

    @property
    def slots_of_a_trial(self) -> int:
        """Slots that the runs of one trial can use: of one worker, and one where a pruner decides between the runs."""
        if self.settings.get("pruner", "none") != "none" and len(self.objectives) == 1:
            return 1
        runs = len(replicates(self.settings.get("seeds"), self.settings.get("folds")))
        return min(runs, int(self.settings.get("slots") or 1))

    @property
    def seconds_left(self) -> float | None:
        """Estimated time to the end: mean seconds of a finished trial x trials left / slots; None before the first.

        Seconds of a trial are those of its slots together, as far as trials run beside each other.
        """
        waiting = [trial for trial in self.trials if trial.state == "waiting"]
        running = [trial for trial in self.trials if trial.state == "running"]
        if not waiting and not running:
            return 0.0
        costs = [max(trial.seconds or 0.0, trial.elapsed(self.now) or 0.0) for trial in self.done]
        if not any(costs):
            return None
        mean = sum(costs) / len(costs)
        begun = [0.0 if self.lost(trial) else self._slot_seconds(trial) for trial in running]
        rest = [max(0.0, mean - seconds) for seconds in begun] + [mean] * len(waiting)
        return max(sum(rest) / self.slots, max(rest) / self.slots_of_a_trial)

    def _slot_seconds(self, trial: Trial) -> float:
        """Seconds that slots have spent on a trial's last attempt: those of its runs, where several went on at once."""
        elapsed = trial.elapsed(self.now) or 0.0
        if trial.state != "running":
            return min(max(elapsed, trial.seconds or 0.0), elapsed * self.slots_of_a_trial)
        active = sum(other.state == "running" for other in self.trials)
        alone = all(other.state != "waiting" for other in self.trials)  # idle slots help where nothing waits
        return elapsed * max(1, min(self.slots_of_a_trial, self.slots // active) if alone else 1)

    @property
    def utilisation(self) -> float | None:
        """Share of slot time in which a run went on, 0 to 1; None before any trial began.

        Counts last attempts only. Pauses longer than `stale_after` in which nothing ran are left out: no worker ran.
        """
        begun = [
            trial
            for trial in self.trials
            if trial.started is not None and trial.state != "waiting" and not self.lost(trial)
        ]
        spans = sorted(
            (trial.started.timestamp(), (trial.finished or self.now).timestamp())
            for trial in begun
            if trial.started
        )
        if not spans:
            return None
        pause = float(self.settings.get("stale_after") or 30.0)
        wall, reached = 0.0, spans[0][0]
        ends = [(self.now.timestamp(),) * 2] if self.state == "running" else []
        for start, end in [*spans, *ends]:
            reached = start if start - reached > pause else reached
            wall += max(0.0, end - reached)
            reached = max(reached, end)
        return min(1.0, sum(map(self._slot_seconds, begun)) / (self.slots * max(wall, 1e-9)))

    @property
    def done(self) -> list[Trial]:
        """Trials that have a value."""
        return [trial for trial in self.trials if trial.state == "done" and trial.values]

    @property
    def best(self) -> Trial | None:
        """The best trial so far; None without one, and in a study of several objectives."""
        if len(self.objectives) > 1:
            return None
        sign = self.objectives[0].sign
        return min(self.done, key=lambda t: (sign * t.values[0], t.number), default=None)

    @property
    def pareto(self) -> list[Trial]:
        """Trials that no other beats in every objective, by the first one; `[best]` with one objective."""
        if len(self.objectives) == 1:
            return [self.best] if self.best else []
        signs = [objective.sign for objective in self.objectives]
        scored = [(tuple(s * v for s, v in zip(signs, t.values, strict=True)), t) for t in self.done]
        front = [(v, t) for v, t in scored if not any(_dominates(other, v) for other, _ in scored)]
        return [trial for _, trial in sorted(front, key=lambda pair: (pair[0], pair[1].number))]

    @property
    def keys(self) -> list[str]:
        """Every parameter that some trial has, in the order of the space."""
        tried = (key for trial in self.trials for key in trial.params)
        return list(dict.fromkeys([*(str(entry["key"]) for entry in self.space), *tried]))


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Each key's last parts, as few as tell the keys apart: `model.hidden_size` -> `hidden_size`."""
    names: dict[str, str] = {}
    for key in keys:
        parts = key.split(".")
        for depth in range(1, len(parts) + 1):
            tail = parts[-depth:]
            if not any(other != key and other.split(".")[-depth:] == tail for other in keys):
                break
        names[key] = ".".join(tail)
    return names


def show(value: Any) -> str:
    """A parameter's value as a person writes it: floats short, everything else as it is."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def texts(values: Sequence[Any], longest: int | None = None) -> list[str]:
    """Each value as `show` has it, in full where different ones would look the same.

    Args:
        values: of one parameter.
        longest: letters; the middle of a longer text is left out, and its place among the values added if need be.
    """
    shown = [_cut(show(value), longest) for value in values]
    meant: dict[str, set[str]] = {}
    for text, value in zip(shown, values, strict=True):
        meant.setdefault(text, set()).add(repr(value))
    found = []
    for place, (text, value) in enumerate(zip(shown, values, strict=True), 1):
        full = json.dumps(value)
        if len(meant[text]) == 1:
            found.append(text)
        else:
            found.append(full if len(full) <= (longest or len(full)) else f"{text} (value {place})")
    return found


def _cut(text: str, longest: int | None) -> str:
    if longest is None or len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def is_number(value: Any) -> TypeGuard[int | float]:
    """A number that is not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


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
