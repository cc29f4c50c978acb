"""Which studies hold which runs, read from the requests that the workers wrote; nothing of Optuna is loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gatelab.run.record.find import default_runs, folders_with, has
from gatelab.run.record.identity import Identity


def runs_of_study(study: Path) -> set[Path]:
    """The run directories that a study has begun, absolute; a request that cannot be read is passed over."""
    root, found = study.absolute().parent.parent, set[Path]()
    for file in study.glob("trials/*/*.json"):
        try:
            request = json.loads(file.read_text())
            runs = root / request["config"]["paths"]["runs"]
            found.add(Identity(**request["identity"]).directory(runs).resolve())
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def runs_of_place(place: str | os.PathLike[str]) -> list[str]:
    """The runs of a study, where the place is its folder; else the place itself."""
    if not (Path(place) / "study.json").is_file():
        return [os.fspath(place)]
    return [os.path.relpath(run) for run in sorted(runs_of_study(Path(place))) if run.is_dir()]


def study_of_place(place: str | os.PathLike[str]) -> Path | None:
    """The folder of the study that a place is, or names; None where it is none. A folder that is there goes before a
    study's name, and that before the beginning of a run's.
    """
    if has(Path(place), "study.json"):
        return Path(place)
    named = default_runs().parent / "studies" / place
    is_name = bool(os.fspath(place).strip()) and not os.path.isdir(place)
    return named if is_name and has(named, "study.json") else None


def studies_of_runs(studies: Path) -> dict[Path, list[str]]:
    """Run directory, absolute and resolved -> the names of the studies below a folder that hold it."""
    found: dict[Path, list[str]] = {}
    for study in folders_with("study.json", studies, "*"):
        for run in runs_of_study(study):
            found.setdefault(run, []).append(study.name)
    return found
