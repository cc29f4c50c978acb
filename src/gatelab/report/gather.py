"""From the paths of a command line to the subjects of a report: studies, records, and standalone runs as studies.

A path may be a study (by name or folder), a folder of studies, a run (its directory or a unique beginning), a folder of
runs, a folder that holds both (`paths.root`), or a record below `experiments/`. Nothing is written.

Standalone runs of one problem (the same data, task and metric) become one `StudyState`, so study views work on them;
runs that differ in nothing but seed and fold are one trial of it. Its parameters are the keys of the resolved
configurations that differ between the trials; of several keys that part them alike, the first (`parting_keys`).

`read_facts` adds what stands in the files of single runs: steps, memory, curves, environment, configuration. A run
whose files are gone (a record keeps none) or damaged has no facts; the report says so.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gatelab.report.curves import baselines
from gatelab.report.experiment_record import joined, read_record, unpack
from gatelab.run import RequestError
from gatelab.run.record.directory import UNREADABLE, RunDirectory, read_metrics
from gatelab.run.record.find import find_run, folders_with, has, set_aside
from gatelab.run.record.identity import LEFT_OUT
from gatelab.run.record.listing import GROUPS, left_out, parting_keys, readable
from gatelab.study.analysis.read import find_study, read_study
from gatelab.study.analysis.state import Objective, Run, StudyState, Trial, show
from gatelab.tasks.contract import recorded_label

KINDS = {"study": "a study", "runs": "run directories", "record": "a record"}
MARKS = ("run.json", "study.json", "record.json")
BELOW = (
    *(("study.json", "*"), ("study.json", "studies/*")),
    *(("run.json", "*"), ("run.json", "*/*"), ("run.json", "runs/*/*")),
)
NOT_THE_PROBLEM = (
    "batch_size", "eval_batch_size", "window", "eval_window", "lookback", "burn_in", "train_items",
    "num_workers", "mirror", "cache", "fold", "seed",
)  # fmt: skip
"""Keys of `data` that may differ between runs that are compared with each other."""
OF_A_STUDY = ("trial.py ", "run_trial.py ", "fork_server.py ", "frozen_run.py ")
"""Beginnings of the recorded command of a run that a study started, today and in earlier versions."""
REPLICATES = ("seed", "fold")
PEAK = re.compile(r"memory/(\w+)_peak_mib")
MOST_POINTS = 400
"""Points of a curve in the page; more are thinned."""


@dataclass(frozen=True)
class Subject:
    """One part of a report: trials that can be compared with each other.

    Attributes:
        state: of the study; its `baselines` are filled in.
        kind: one of `KINDS`.
        environment: of a record what its runs ran on; else empty (it stands in the runs' files).
    """

    state: StudyState
    kind: str
    environment: dict[str, object]


def gather(
    paths: Sequence[str | Path], studies: str | Path = "studies", *, trust: bool = False
) -> tuple[list[Subject], list[str]]:
    """The subjects that the paths hold, in their order: studies, records, then the groups of standalone runs.

    Args:
        paths: at least one.
        studies: where a study that is given by name lies.
        trust: open the storages that studies name.

    Returns:
        the subjects, and a line for each run, study or record that could not be read.

    Raises:
        RequestError: a path holds nothing that can be reported, or nothing at all could be read.
    """
    subjects: list[Subject] = []
    unreadable: list[str] = []
    runs: dict[Path, None] = {}
    for path in (path for given in paths for path in _resolve(given, studies)):
        if has(path, "run.json"):
            runs[path.absolute()] = None
            continue
        try:
            subjects += _study_or_record(path, trust)
        except UNREADABLE as error:
            unreadable.append(
                str(error) if isinstance(error, RequestError) else f"{path}: damaged ({error!r})"
            )
    known = {run.directory for subject in subjects for trial in subject.state.trials for run in trial.runs}
    states, damaged = as_studies([run for run in runs if run not in known])
    unreadable += damaged
    subjects += [Subject(replace(state, baselines=baselines(state)), "runs", {}) for state in states]
    if not subjects and unreadable:
        raise RequestError("\n".join(unreadable))
    unique = {(subject.state.directory, subject.state.name): subject for subject in subjects}
    return list(unique.values()), unreadable


def _resolve(given: str | Path, studies: str | Path) -> list[Path]:
    """The studies, records and runs that a path means."""
    path = Path(given)
    if path.is_file():
        raise RequestError(f"{given}: a file; give the folder of a run, a study or a record.")
    if not path.is_dir():
        try:
            return [find_study(studies, str(given))]
        except RequestError as error:
            no_study = error
        try:
            return [find_run(given, Path(studies).parent / "runs")]
        except RequestError as error:
            raise RequestError(f"{given}: no such folder; {no_study} {error}") from None
    if any(has(path, name) for name in MARKS):
        return [path]
    below = [folder for name, pattern in BELOW for folder in folders_with(name, path, pattern)]
    found = [folder for folder in below if not set_aside(folder)]
    if not found and (Path(studies) / path.name / "study.json").is_file():
        return [Path(studies) / path.name]
    if not found:
        raise RequestError(
            f"{given}: holds no run (run.json), no study (study.json) and no record (record.json). "
            "`gatelab runs` and `gatelab study` list what there is."
        )
    return list(dict.fromkeys(found))


def _study_or_record(path: Path, trust: bool) -> list[Subject]:
    if has(path, "study.json"):
        state = read_study(path, trust=trust)
        return [Subject(replace(state, baselines=baselines(state)), "study", {})]
    asked = {study["name"]: study.get("environment") for study in read_record(path)["studies"]}
    return [Subject(state, "record", dict(asked[state.name] or {})) for state in unpack(path)]


@dataclass(frozen=True)
class StandaloneRun:
    """One run directory, and what it shares with others.

    Attributes:
        trial: with this one run; its parameters are the run's configuration without what cannot change results.
        problem: runs with the same text may be compared with each other.
        point: runs with the same text are one trial.
        name: of the experiment; data_name: what its data are called, a file by its name.
        objective: the monitored metric.
        begun, started: of the first and the last attempt.
        command: as it was typed; empty for a run that a study started.
        versions: of the libraries, by the last attempt.
    """

    trial: Trial
    problem: str
    point: str
    name: str
    data_name: str
    objective: Objective
    begun: str
    started: str
    command: str
    versions: Mapping[str, str]


def as_studies(runs: Sequence[Path]) -> tuple[list[StudyState], list[str]]:
    """The groups of some run directories, the largest first; and a line for each that could not be read."""
    groups: dict[str, list[StandaloneRun]] = {}
    unreadable = []
    for path in runs:
        try:
            run = _read(path)
        except UNREADABLE as error:
            unreadable.append(
                str(error)
                if isinstance(error, RequestError | OSError)
                else f"{path}: run.json or result.json is damaged ({error!r})"
            )
        else:
            groups.setdefault(run.problem, []).append(run)
    ordered = sorted(groups.values(), key=lambda group: -len(group))
    bare = [_name(group) for group in ordered]
    names: list[str] = []
    for name, group in zip(bare, ordered, strict=True):
        names.append(_unused(name if bare.count(name) == 1 else f"{name}-{group[0].data_name}", names))
    return [_state(name, group) for name, group in zip(names, ordered, strict=True)], unreadable


def _read(path: Path) -> StandaloneRun:
    run = RunDirectory.open(path)
    record, result, state = run.read(), run.result() or {}, run.state()
    config, identity, attempts = record["config"], record["identity"], record["attempts"]
    flat = readable({key: value for key, value in config.items() if key not in LEFT_OUT})
    data, monitor, fold = config["data"], str(config["task"]["monitor"]), flat.get("data.fold")
    compared = {key: value for key, value in data.items() if key not in NOT_THE_PROBLEM}
    unfolded = {key: value for key, value in flat.items() if key.rpartition(".")[2] not in REPLICATES}
    valid = result.get("splits", {}).get("valid", {}).get("metrics", {})
    value = valid.get(monitor.removeprefix("val/")) if state == "done" else None
    value = None if value is None or math.isnan(value) else float(value)
    called = next((data[key] for key in ("path", "series", "corpus", "problem") if data.get(key)), "runs")
    command = str(attempts[-1].get("command", ""))
    parameters, seconds = result.get("parameters"), result.get("seconds", {}).get("fit")
    why = result.get("error") or result.get("why") or (f"no {monitor}" if state == "done" else state)
    reason = f"{path.name}: {why}"
    trial = Trial(
        number=0,
        state="done" if value is not None else "pruned" if state == "pruned" else "failed",
        params=flat,
        values=() if value is None else (value,),
        runs=(Run(run.path.absolute(), value, int(identity["seed"]), fold),),
        seconds=None if seconds is None or not math.isfinite(seconds) else float(seconds),
        parameters=None if parameters is None else int(parameters),
        error=None if value is not None else reason,
    )
    mode = "maximize" if config["task"].get("mode") == "max" else "minimize"
    return StandaloneRun(
        trial=trial,
        problem=json.dumps([monitor, compared], sort_keys=True, default=str),
        # seeds share the hash; folds do not
        point=str(identity["hash8"]) if fold is None else json.dumps(unfolded, sort_keys=True, default=str),
        name=str(identity["name"]),
        data_name=Path(str(called)).stem,
        objective=Objective(monitor, mode, recorded_label(record, monitor)),
        begun=str(attempts[0]["started"]),
        started=str(attempts[-1]["started"]),
        command="" if command.startswith(OF_A_STUDY) else command,
        versions=dict(attempts[-1].get("environment", {}).get("versions", {})),
    )


def _name(group: Sequence[StandaloneRun]) -> str:
    """Their common name, or what their data are called."""
    names = {run.name for run in group}
    return names.pop() if len(names) == 1 else group[0].data_name


def _unused(name: str, taken: Sequence[str]) -> str:
    name = "-".join(name.split())
    return next(one for one in (name, *(f"{name}-{n}" for n in range(2, len(taken) + 2))) if one not in taken)


def _state(name: str, group: Sequence[StandaloneRun]) -> StudyState:
    points: dict[str, list[Trial]] = {}
    for run in group:
        points.setdefault(run.point, []).append(run.trial)
    trials = [joined(number, parts) for number, parts in enumerate(points.values())]
    keys = parting_keys([trial.params for trial in trials], _follows_seed)
    seeds, folds = ({getattr(one.trial.runs[0], name) for one in group} - {None} for name in REPLICATES)
    commands = {run.command for run in group}
    return StudyState(
        directory=group[0].trial.runs[0].directory.parent,
        name=name,
        settings={"seeds": sorted(seeds), "folds": len(folds) or None},
        overrides=(),
        space=tuple({"key": key} for key in keys),
        objectives=(group[0].objective,),
        trials=tuple(
            replace(trial, params={key: trial.params[key] for key in keys if key in trial.params})
            for trial in trials
        ),
        command=commands.pop() if len(commands) == 1 else "",
        created=min(run.begun for run in group),
        versions=max(group, key=lambda run: run.started).versions,
    )


def _follows_seed(key: str) -> bool:
    return key.rpartition(".")[2] in REPLICATES


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
        with contextlib.suppress(*UNREADABLE):
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
        config=readable(parts),
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


def differences(state: StudyState, facts: Facts) -> dict[str, list[str]]:
    """`trial`, and each key of the resolved configurations that differs between the trials -> a text for each trial.

    A trial is represented by its first run that has a configuration. Seed, fold and keys that cannot change what comes
    out (the cache's folder) are left out. A key that a trial's configuration lacks has an empty text. Empty where
    nothing differs.
    """
    configs: dict[int, Mapping[str, Any]] = {}
    for trial in state.trials:
        known = [facts[run.directory].config for run in trial.runs if run.directory in facts]
        if known:
            configs[trial.number] = known[0]
    shown = {"trial": [str(number) for number in configs]}
    for key in dict.fromkeys(key for config in configs.values() for key in config):
        cells = [config.get(key, "") for config in configs.values()]
        differ = len({json.dumps(cell, default=str) for cell in cells}) > 1
        if differ and key.rpartition(".")[2] not in REPLICATES and not left_out(key):
            shown[key] = [show(cell) for cell in cells]
    return shown if len(shown) > 1 else {}
