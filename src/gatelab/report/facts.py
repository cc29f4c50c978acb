"""What a report takes from the files of single runs: steps, memory, learning curves, what they ran on, configurations.

A run whose files are gone (a record keeps none, a folder may have been moved) gives no facts; the report says so.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatelab.report.gather import GROUPS, flatten
from gatelab.run.errors import RequestError
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.metrics import read_metrics
from gatelab.study.analysis.state import Run, StudyState

PEAK = re.compile(r"memory/(\w+)_peak_mib")
MOST_POINTS = 400
"""Points of a curve in the page; more are thinned."""


@dataclass(frozen=True)
class Curve:
    """One metric of one run over the optimiser's steps, thinned."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class RunFacts:
    """What one run's files say.

    Attributes:
        run: of the study.
        config: the resolved configuration, dotted key -> value.
        environment: what it ran on, as the last attempt noted it.
        steps: of the optimiser; None while unknown.
        memory: the most MiB that the process took, by `cpu peak` and `gpu peak`; empty where it was not logged.
        train, valid: curves of `train/loss` and of the first objective.
    """

    run: Run
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    memory: Mapping[str, float] = field(default_factory=dict)
    train: Curve | None = None
    valid: Curve | None = None


Facts = dict[Path, RunFacts]
"""By run directory; only runs whose `run.json` could be read."""


def read_facts(state: StudyState, tick: Callable[[], None] = lambda: None) -> Facts:
    """The facts of every run of a study; `tick` is called after each."""
    found: Facts = {}
    for trial in state.trials:
        for run in trial.runs:
            facts = _facts(run, state.objectives[0].metric)
            if facts is not None:
                found[run.directory] = facts
            tick()
    return found


def _facts(run: Run, metric: str) -> RunFacts | None:
    directory = RunDirectory(run.directory)
    if not directory.run_file.is_file():
        return None
    try:
        record, result = directory.read(), directory.result() or {}
        attempts = record["attempts"]
        columns = _columns(directory.metrics_file) if directory.metrics_file.is_file() else {}
    except (RequestError, OSError, KeyError, ValueError):
        return None
    kept = {
        group: node
        for group, node in record.get("config", {}).items()
        if group in (*GROUPS, "seed", "threads")
    }
    peaks = {name: match[1] for name in columns if (match := PEAK.fullmatch(name))}
    memory = {f"{device} peak": max(columns[name][1]) for name, device in peaks.items()}
    return RunFacts(
        run,
        dict(flatten(kept)),
        attempts[-1].get("environment", {}),
        result.get("steps", run.steps),
        memory,
        _curve(columns, "train/loss"),
        _curve(columns, metric),
    )


def _columns(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Metric -> steps and values of a `metrics.csv`."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for row in read_metrics(path):
        step = int(row["step"])
        for name, text in row.items():
            if text and name not in ("step", "epoch"):
                steps, values = found.setdefault(name, ([], []))
                steps.append(step)
                values.append(float(text))
    return found


def _curve(columns: Mapping[str, tuple[list[int], list[float]]], metric: str) -> Curve | None:
    steps, values = columns.get(metric, ([], []))
    pairs = [(step, value) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    return thin([step for step, _ in pairs], [value for _, value in pairs]) if pairs else None


def thin(steps: Sequence[int], values: Sequence[float], most: int = MOST_POINTS) -> Curve:
    """A curve of at most `most` points: of each stretch its lowest and its highest, so that no spike is lost."""
    count = len(steps)
    if count <= most:
        return Curve(list(steps), list(values))
    kept = {0, count - 1}
    stretches = most // 2 - 1
    for place in range(stretches):
        indices = range(place * count // stretches, (place + 1) * count // stretches)
        kept |= {min(indices, key=values.__getitem__), max(indices, key=values.__getitem__)}
    ordered = sorted(kept)
    return Curve([steps[index] for index in ordered], [values[index] for index in ordered])


def differences(state: StudyState, facts: Facts) -> tuple[list[str], list[tuple[int, list[Any]]]]:
    """Keys of the resolved configurations that differ between the trials, and each trial's values of them.

    A trial is represented by its first run that has a configuration; seed and fold are left out. A key that a
    trial's configuration lacks has an empty text.
    """
    configs = {
        trial.number: next(facts[run.directory].config for run in trial.runs if run.directory in facts)
        for trial in state.trials
        if any(run.directory in facts for run in trial.runs)
    }
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    differing = [
        key
        for key in keys
        if key.rpartition(".")[2] not in ("seed", "fold")
        and len({json.dumps(config.get(key, ""), default=str) for config in configs.values()}) > 1
    ]
    return differing, [
        (number, [config.get(key, "") for key in differing]) for number, config in configs.items()
    ]
