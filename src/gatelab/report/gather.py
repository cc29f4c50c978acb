"""From the paths of a command line to the studies of a report: what each path is, and what it holds.

A path may be a study (by name or folder), a folder of studies, a run directory, a folder of runs, a folder that holds
both (`paths.root`), or a record below `experiments/`. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gatelab.report.curves import baselines
from gatelab.report.loose import as_studies
from gatelab.report.record_data import read_json, unpack
from gatelab.run.errors import RequestError
from gatelab.study.analysis.find import find_study
from gatelab.study.analysis.read import read_study
from gatelab.study.analysis.state import StudyState

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
