"""Facts of single runs from their files: steps, memory, learning curves, environment, configuration.

A run whose files are gone (a record keeps none, a folder may have been moved) or damaged has no facts; the report says
so.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatelab.report.gather import DAMAGED, GROUPS, flatten
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
    """Facts of one run.

    Attributes:
        config: the resolved configuration, dotted key -> value.
        environment: of the last attempt.
        steps: of the optimiser; None while unknown.
        memory: peak MiB of the process, by `cpu peak` and `gpu peak`; empty where it was not logged.
        train, valid: curves of `train/loss` and of the first objective; None where it was not logged.
    """

    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    steps: int | None
    memory: Mapping[str, float]
    train: Curve | None
    valid: Curve | None


Facts = dict[Path, RunFacts]
"""By run directory; only runs whose files could be read."""


def read_facts(state: StudyState, tick: Callable[[], None] = lambda: None) -> Facts:
    """The facts of every run of a study; `tick` is called after each."""
    found: Facts = {}
    for run in (run for trial in state.trials for run in trial.runs):
        with contextlib.suppress(*DAMAGED):
            found[run.directory] = _facts(run, state.objectives[0].metric)
        tick()
    return found


def _facts(run: Run, metric: str) -> RunFacts:
    directory = RunDirectory(run.directory)
    record, result = directory.read(), directory.result() or {}
    rows = read_metrics(directory.metrics_file) if directory.metrics_file.is_file() else []
    peaks = {name: match[1] for name in (rows[0] if rows else ()) if (match := PEAK.fullmatch(name))}
    known = {device: [float(row[name]) for row in rows if row[name]] for name, device in peaks.items()}
    parts = {group: node for group, node in record["config"].items() if group in (*GROUPS, "seed", "threads")}
    return RunFacts(
        config=dict(flatten(parts)),
        environment=dict(record["attempts"][-1].get("environment", {})),
        steps=result.get("steps", run.steps),
        memory={f"{device} peak": max(values) for device, values in known.items() if values},
        train=_curve(rows, "train/loss"),
        valid=_curve(rows, metric),
    )


def _curve(rows: Sequence[Mapping[str, str]], metric: str) -> Curve | None:
    pairs = [(int(row["step"]), float(row[metric])) for row in rows if row.get(metric)]
    finite = [(step, value) for step, value in pairs if math.isfinite(value)]
    return thin([step for step, _ in finite], [value for _, value in finite]) if finite else None


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
    return Curve([steps[index] for index in sorted(kept)], [values[index] for index in sorted(kept)])


def differences(state: StudyState, facts: Facts) -> tuple[list[str], list[tuple[int, list[Any]]]]:
    """Keys of the resolved configurations that differ between the trials, and each trial's values of them.

    A trial is represented by its first run that has a configuration; seed and fold are left out. A key that a
    trial's configuration lacks has an empty text.
    """
    configs: dict[int, Mapping[str, Any]] = {}
    for trial in state.trials:
        for run in reversed(trial.runs):
            if run.directory in facts:
                configs[trial.number] = facts[run.directory].config
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    keys = {key: None for key in keys if key.rpartition(".")[2] not in ("seed", "fold")}
    values = {
        key: {json.dumps(config.get(key, ""), default=str) for config in configs.values()} for key in keys
    }
    differing = [key for key, distinct in values.items() if len(distinct) > 1]
    return differing, [(number, [c.get(key, "") for key in differing]) for number, c in configs.items()]
