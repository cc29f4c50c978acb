"""From the paths of a command line to the studies of a report: what each path is, and what it holds.

A path may be a study (by name or folder), a folder of studies, a run directory, a folder of runs, a folder that holds
both (`paths.root`), or a record below `experiments/`. Nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gatelab.report.picture import baselines
from gatelab.report.record_data import read_json, unpack
from gatelab.run.errors import RequestError
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.identity import LEFT_OUT
from gatelab.study.analysis.read import find_study, read_study
from gatelab.study.analysis.state import Objective, Run, StudyState, Trial
from gatelab.tasks.contract import recorded_label

KINDS = {"study": "a study", "runs": "run directories", "record": "a record"}


@dataclass(frozen=True)
class Subject:
    """One part of a report: trials that can be compared with each other.

    Attributes:
        state: what is known; its `baselines` are filled in.
        kind: one of `KINDS`.
        environment: of a record what its runs ran on; else empty (it stands in the runs' files).
    """

    state: StudyState
    kind: str
    environment: dict[str, object]


def gather(paths: Sequence[str | Path], studies: str | Path = "studies") -> tuple[list[Subject], list[str]]:
    """What the paths hold, in their order: studies, records, then the groups of single runs.

    Args:
        paths: as a person gave them; at least one.
        studies: where a study that is given by name lies.

    Returns:
        the subjects, and a line for each run that could not be read.

    Raises:
        RequestError: a path holds nothing of ours, or nothing that has begun.
    """
    subjects: list[Subject] = []
    runs: dict[Path, None] = {}
    for given in paths:
        for path in _resolve(given, studies):
            if (path / "run.json").is_file():
                runs[path.absolute()] = None
            else:
                subjects += _subjects(path)
    known = {run.directory for subject in subjects for trial in subject.state.trials for run in trial.runs}
    states, unreadable = as_studies([run for run in runs if run not in known])
    subjects += [_subject(state, "runs") for state in states]
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
            raise RequestError(f"{given}: no such folder, and {error}") from None
    if any((path / name).is_file() for name in ("run.json", "study.json", "record.json")):
        return [path]
    found = [
        file.parent
        for pattern in (
            "*/study.json",
            "studies/*/study.json",
            "*/run.json",
            "*/*/run.json",
            "runs/*/*/run.json",
        )
        for file in sorted(path.glob(pattern))
    ]
    if not found and (Path(studies) / path.name / "study.json").is_file():
        return [Path(studies) / path.name]
    if not found:
        raise RequestError(
            f"{given}: holds no run (run.json), no study (study.json) and no record (record.json). "
            "`gatelab runs` and `gatelab study` list what there is."
        )
    return list(dict.fromkeys(found))


def _subjects(path: Path) -> list[Subject]:
    if (path / "study.json").is_file():
        return [_subject(read_study(path), "study")]
    asked = {study["name"]: study for study in read_json(path / "record.json")["studies"]}
    return [
        Subject(state, "record", dict(asked[state.name].get("environment") or {})) for state in unpack(path)
    ]


def _subject(state: StudyState, kind: str) -> Subject:
    return Subject(replace(state, baselines=baselines(state)), kind, {})


NOT_THE_PROBLEM = (
    "batch_size", "eval_batch_size", "window", "eval_window", "lookback", "burn_in", "train_items",
    "num_workers", "mirror", "cache", "fold", "seed",
)  # fmt: skip


"""Keys of `data` that may differ between runs that are compared with each other."""


REPLICATES = ("seed", "fold")


GROUPS = ("model", "optim", "schedule", "task", "data", "trainer", "callbacks")


"""Parts of a configuration, in the order in which one is asked for the name of a difference."""


@dataclass(frozen=True)
class Found:
    """One run directory that could be read.

    Attributes:
        run: its directory.
        record: what `run.json` says.
        result: what `result.json` says; None while the run is not finished.
        state: of the run, as `gatelab runs` tells it.
        flat: its configuration, dotted key -> value, without what cannot change results.
    """

    run: RunDirectory
    record: Mapping[str, Any]
    result: Mapping[str, Any] | None
    state: str
    flat: Mapping[str, Any]

    @property
    def value(self) -> float | None:
        """Of the monitored metric on the validation split; None unless the run is done."""
        if self.result is None or self.state != "done":
            return None
        valid = self.result.get("splits", {}).get("valid", {}).get("metrics", {})
        value = valid.get(str(self.result["monitor"]).removeprefix("val/"))
        return None if value is None else float(value)

    @property
    def error(self) -> str | None:
        """Why there is no final value; None if there is one."""
        if self.state == "done":
            return None
        result = self.result or {}
        text = str(result.get("error") or result.get("why") or self.state)
        return f"{self.run.path.name}: {text}"


def as_studies(runs: Sequence[Path]) -> tuple[list[StudyState], list[str]]:
    """The groups of some run directories, the largest first; and a line for each that could not be read."""
    groups: dict[str, list[Found]] = {}
    unreadable = []
    for path in runs:
        try:
            found = _read(path)
        except (RequestError, OSError) as error:
            unreadable.append(str(error))
            continue
        groups.setdefault(_problem(found.record["config"]), []).append(found)
    ordered = sorted(groups.values(), key=lambda group: -len(group))
    bare = [_name(group) for group in ordered]
    names: list[str] = []
    for name, group in zip(bare, ordered, strict=True):
        names.append(_unused(name if bare.count(name) == 1 else f"{name}-{_called(group)}", names))
    return [_state(name, group) for name, group in zip(names, ordered, strict=True)], unreadable


def _read(path: Path) -> Found:
    run = RunDirectory.open(path)
    record, result = run.read(), run.result()
    missing = [key for key in ("config", "identity", "attempts") if not record.get(key)]
    if missing:
        raise RequestError(
            f"{run.run_file}: '{missing[0]}' is missing, so it is not what `gatelab train` wrote."
        )
    kept = {key: value for key, value in record["config"].items() if key not in LEFT_OUT}
    return Found(run, record, result, run.state(), dict(flatten(kept)))


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted keys and values of a configuration; `model._target_` is called `model`, by the class' own name."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        elif key == "_target_":
            yield prefix.rstrip("."), str(value).rpartition(".")[2]
        elif key != "_partial_":
            yield f"{prefix}{key}", value


def _problem(config: Mapping[str, Any]) -> str:
    """Runs with the same text may be compared with each other."""
    data = {key: value for key, value in config["data"].items() if key not in NOT_THE_PROBLEM}
    return json.dumps([config["task"]["monitor"], data], sort_keys=True, default=str)


def _name(group: Sequence[Found]) -> str:
    """Their common name, or what their data are called."""
    names = {str(found.record["identity"]["name"]) for found in group}
    return names.pop() if len(names) == 1 else _called(group)


def _called(group: Sequence[Found]) -> str:
    """What their data are called: a file by its name."""
    data = group[0].record["config"]["data"]
    called = next((data[key] for key in ("path", "series", "corpus", "problem") if data.get(key)), "runs")
    return Path(str(called)).stem


def _unused(name: str, taken: Sequence[str]) -> str:
    name = "-".join(name.split())
    number = next(n for n in range(1, len(taken) + 2) if (name if n == 1 else f"{name}-{n}") not in taken)
    return name if number == 1 else f"{name}-{number}"


def _state(name: str, group: Sequence[Found]) -> StudyState:
    points: dict[str, list[Found]] = {}
    for found in group:
        points.setdefault(json.dumps(_point(found), sort_keys=True, default=str), []).append(found)
    keys = _differing([point[0] for point in points.values()])
    newest = max(group, key=lambda found: str(found.record["attempts"][-1]["started"]))
    attempt = newest.record["attempts"][-1]
    task = group[0].record["config"]["task"]
    maximize = task.get("mode") == "max"
    folds = {fold for found in group if (fold := found.flat.get("data.fold")) is not None}
    commands = {_command(found) for found in group}
    return StudyState(
        directory=group[0].run.path.absolute().parent,
        name=name,
        settings={
            "seeds": sorted({f.record["identity"]["seed"] for f in group}),
            "folds": len(folds) or None,
        },
        overrides=(),
        space=tuple({"key": key} for key in keys),
        objectives=(
            Objective(
                str(task["monitor"]),
                "maximize" if maximize else "minimize",
                recorded_label(newest.record, str(task["monitor"])),
            ),
        ),
        trials=tuple(_trial(number, point, keys) for number, point in enumerate(points.values())),
        command=commands.pop() if len(commands) == 1 else "",
        created=min(str(found.record["attempts"][0]["started"]) for found in group),
        versions=attempt.get("environment", {}).get("versions", {}),
    )


def _command(found: Found) -> str:
    """What a person typed; empty for a run that a study started."""
    command = str(found.record["attempts"][-1].get("command", ""))
    return "" if command.startswith("trial.py ") else command


def _point(found: Found) -> dict[str, Any]:
    """The configuration without seed and fold: by the hash that a run's seeds share, where folds do not split it."""
    if found.flat.get("data.fold") is None:
        return {"hash": found.record["identity"]["hash8"]}
    return {key: value for key, value in found.flat.items() if key.rpartition(".")[2] not in REPLICATES}


def _differing(points: Sequence[Found]) -> list[str]:
    """Keys whose values differ, without those that part the points just as an earlier one does."""
    keys = list(dict.fromkeys(key for point in points for key in point.flat))
    keys = [key for key in keys if key.rpartition(".")[2] not in REPLICATES]
    groups = {group: place for place, group in enumerate(GROUPS)}
    keys.sort(key=lambda key: groups.get(key.partition(".")[0], len(GROUPS)))
    kept: dict[tuple[int, ...], str] = {}
    for key in keys:
        texts = [repr(point.flat.get(key)) for point in points]
        if len(set(texts)) > 1:
            kept.setdefault(tuple(texts.index(text) for text in texts), key)
    return list(kept.values())


def _trial(number: int, point: Sequence[Found], keys: Sequence[str]) -> Trial:
    results = [found.result for found in point if found.result is not None]
    values = [found.value for found in point if found.value is not None]
    pruned = all(found.state == "pruned" for found in point)
    seconds = [r["seconds"]["fit"] for r in results if "seconds" in r]
    errors = [found.error for found in point if found.error]
    return Trial(
        number=number,
        state="done" if values else "pruned" if pruned else "failed",
        params={key: point[0].flat[key] for key in keys if key in point[0].flat},
        values=(fmean(values),) if values else (),
        runs=tuple(_run(found) for found in point),
        seconds=round(sum(seconds), 2) if seconds else None,
        parameters=next((r["parameters"] for r in results if "parameters" in r), None),
        error="; ".join(errors) or None,
    )


def _run(found: Found) -> Run:
    identity = found.record["identity"]
    return Run(found.run.path.absolute(), found.value, identity["seed"], found.flat.get("data.fold"))
