"""What a record of studies keeps, so that its page can be made again without them: `results.csv` and `record.json`.

`results.csv` has a row for each run (one for a trial without any); `record.json` has what was asked: commands,
settings, parameters, baselines, and what the runs ran on. Paths of the machine are left out of both. From the two files
the same `StudyState`s come back, so table, importance and picture are computed anew and not copied.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gatelab.report.picture import baselines
from gatelab.run.errors import RequestError
from gatelab.study.analysis.state import Objective, Run, StudyState, Trial

KEPT_SETTINGS = (
    "strategy", "seeds", "folds", "budget", "pruner", "n_trials", "workers", "slots", "threads", "seed",
)  # fmt: skip
COLUMNS = ("study", "trial", "state", "seed", "fold")
LAST = ("solved_size", "parameters", "seconds", "steps", "run", "error")
PLACES = ("paths.", "data.mirror=", "data.cache=", "launcher", "hydra.")


def pack(states: Sequence[StudyState]) -> tuple[str, dict[str, Any]]:
    """The text of `results.csv` and the content of `record.json`.

    Raises:
        RequestError: a study without a finished trial; runs whose result cannot be read.
    """
    for state in states:
        if not state.done:
            raise RequestError(f"{state.directory}: no trial has finished, so there is nothing to record.")
    most = max(len(state.objectives) for state in states)
    values = ["value", *(f"value_{n}" for n in range(2, most + 1))]
    keys = list(dict.fromkeys(key for state in states for key in state.keys))
    out = io.StringIO()
    writer = csv.DictWriter(out, [*COLUMNS, *keys, *values, *LAST], lineterminator="\n")
    writer.writeheader()
    for state in states:
        for trial in state.trials:
            writer.writerows(_rows(state, trial))
    return out.getvalue(), {"format": 1, "studies": [_asked(state) for state in states]}


def _rows(state: StudyState, trial: Trial) -> list[dict[str, Any]]:
    shared: dict[str, Any] = {"study": state.name, "trial": trial.number, "state": trial.state}
    shared |= {key: _written(value) for key, value in trial.params.items()}
    shared |= {f"value_{n}": value for n, value in enumerate(trial.values[1:], 2)}
    shared |= {"solved_size": trial.hidden, "error": without_paths(trial.error or "")}
    finished = [run for run in trial.runs if run.value is not None]
    if not finished:
        return [{**shared, "parameters": trial.parameters, "seconds": trial.seconds}]
    return [{**shared, **_run(run)} for run in finished]


def _written(value: Any) -> str:
    """Words as they are, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _read(text: str, entry: Mapping[str, Any] | None) -> Any:
    """The value that was written, by its space's choices where it has some."""
    for choice in entry["choices"] if entry else ():
        kept = json.dumps(choice) if isinstance(choice, list | dict) else choice
        if _written(kept) == text:
            return kept
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _run(run: Run) -> dict[str, Any]:
    try:
        result = json.loads((run.directory / "result.json").read_text())
        facts = {"parameters": result["parameters"], "seconds": result["seconds"]["fit"]}
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"{run.directory}/result.json: cannot be read ({error}).") from None
    facts |= {"seed": run.seed, "fold": run.fold, "value": run.value, "steps": result.get("steps")}
    return {**facts, "run": "/".join(run.directory.parts[-2:])}


def _asked(state: StudyState) -> dict[str, Any]:
    first = next(run for trial in state.done for run in trial.runs)
    return {
        "name": state.name,
        "command": shown_command(state.command),
        "settings": {key: state.settings.get(key) for key in KEPT_SETTINGS},
        "objectives": [vars(objective) for objective in state.objectives],
        "space": [dict(entry) for entry in state.space],
        "baselines": baselines(state),
        "environment": _environment(first.directory),
    }


def _environment(run: Path) -> dict[str, Any]:
    """What the runs ran on, as the first of them noted it."""
    try:
        return environment_of(json.loads((run / "run.json").read_text())["attempts"][-1]["environment"])
    except (OSError, ValueError, KeyError, IndexError):
        return {}


def environment_of(noted: Mapping[str, Any]) -> dict[str, Any]:
    """What of the environment that a run noted is kept: versions, processor, threads, revision."""
    git = noted.get("git") or {}
    kept = {key: noted.get(key) for key in ("python", "versions", "cpu", "cpu_capability", "gpus", "threads")}
    return {**kept, "revision": git.get("revision"), "changed": bool(git.get("diff"))}


def shown_command(command: str) -> str:
    """A command that others can type: without the places of this machine, and by the program's plain name."""
    first, *words = shlex.split(command) or ["gatelab"]
    kept = [without_paths(word) for word in words if not word.startswith(PLACES)]
    if Path(first).name == "__main__.py":  # python -m gatelab
        first = "gatelab"
    return shlex.join([*(["python", first] if first.endswith(".py") else [Path(first).name]), *kept])


def without_paths(text: str) -> str:
    """Absolute paths cut down to their last part."""
    return re.sub(r"(?<![\w.:/])/(?:[\w.@+-]+/)+([\w.@+-]+)", r"\1", text)


def unpack(folder: Path) -> list[StudyState]:
    """The studies of a record.

    Raises:
        RequestError: a file is missing or not what `pack` wrote; the file, and the row, are named.
    """
    asked = read_json(folder / "record.json")
    try:
        rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    except OSError as error:
        raise RequestError(f"{folder / 'results.csv'}: cannot be read ({error.strerror}).") from None
    return [_state(folder, study, rows) for study in asked["studies"]]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a record.

    Raises:
        RequestError: it is missing or no JSON object.
    """
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot be read ({error}).") from None


def _state(folder: Path, asked: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> StudyState:
    groups: dict[int, list[Mapping[str, str]]] = {}
    for line, row in enumerate(rows, 2):
        if row["study"] == asked["name"]:
            try:
                groups.setdefault(int(row["trial"]), []).append(row)
            except ValueError:
                raise RequestError(
                    f"{folder / 'results.csv'}, row {line}: no trial '{row['trial']}'."
                ) from None
    space = tuple(asked["space"])
    return StudyState(
        directory=folder.absolute(),
        name=asked["name"],
        settings=asked["settings"],
        overrides=(),
        space=space,
        objectives=tuple(Objective(**objective) for objective in asked["objectives"]),
        trials=tuple(_trial(number, group, space) for number, group in sorted(groups.items())),
        command=asked["command"],
        baselines=asked["baselines"],
    )


def _trial(number: int, rows: Sequence[Mapping[str, str]], space: Sequence[Mapping[str, Any]]) -> Trial:
    first = rows[0]
    known = [key for key in first if key not in (*COLUMNS, *LAST) and not re.fullmatch(r"value(_\d+)?", key)]
    entries = {str(entry["key"]): entry for entry in space}
    params = {key: _read(first[key], entries.get(key)) for key in known if first[key]}
    runs = tuple(
        Run(
            Path(row["run"]),
            float(row["value"]),
            _whole(row["seed"]),
            _whole(row["fold"]),
            _whole(row.get("steps") or ""),
        )
        for row in rows
        if row["value"]
    )
    more = [float(first[key]) for key in first if re.fullmatch(r"value_\d+", key) and first[key]]
    values = (fmean(run.value for run in runs if run.value is not None), *more) if runs else ()
    seconds = [float(row["seconds"]) for row in rows if row["seconds"]]
    return Trial(
        number=number,
        state=first["state"],
        params=params,
        values=values if first["state"] == "done" else (),
        runs=runs,
        seconds=round(sum(seconds), 2) if seconds else None,
        parameters=_whole(first["parameters"]),
        hidden=_whole(first["solved_size"]),
        error=first["error"] or None,
        distributions={key: _distribution(value, entries.get(key)) for key, value in params.items()},
    )


def _whole(text: str) -> int | None:
    return int(float(text)) if text else None


def _distribution(value: Any, entry: Mapping[str, Any] | None) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if entry is None:  # from a space function
        return CategoricalDistribution([value])
    if entry["kind"] == "choice":
        kept = [json.dumps(c) if isinstance(c, list | dict) else c for c in entry["choices"]]
        return CategoricalDistribution(kept)
    kind = IntDistribution if entry["kind"] == "int" else FloatDistribution
    return kind(entry["low"], entry["high"], log=bool(entry.get("log")))
