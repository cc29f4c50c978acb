"""What there is to show about some studies and runs, and the servers that show it: TensorBoard and optuna-dashboard.

Only what is there is started: TensorBoard where it is installed and runs wrote event files, optuna-dashboard where it
is installed and there are studies. Each missing one is said with the fix.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from gatelab.report.dashboard.servers import ServerError, Servers, python
from gatelab.report.gather import Subject
from gatelab.study.analysis.state import Run, StudyState, Trial, show

MOST_STUDIES = 3
"""Studies that get an optuna-dashboard of their own, the newest first; each takes 60 MB."""
EXTRA = "pip install 'gatelab[dashboard]'"


def start_all(subjects: Sequence[Subject], servers: Servers, scratch: Path) -> Iterator[tuple[str, str]]:
    """Start what can be started; give a name and its address, or why it was not started.

    Args:
        subjects: what is to be shown.
        servers: that the new ones belong to.
        scratch: an empty folder, which lives as long as they do.
    """
    yield "tensorboard", _tensorboard(subjects, servers, scratch)
    studies = [subject.state for subject in subjects if subject.kind == "study"]
    if not studies:
        yield "optuna", "not started: no study among these paths"
        return
    newest = sorted(studies, key=lambda state: state.created, reverse=True)
    for state in newest[:MOST_STUDIES]:
        yield f"optuna {state.name}", _optuna(state, servers)
    if len(newest) > MOST_STUDIES:
        names = ", ".join(state.name for state in newest[MOST_STUDIES:])
        yield "optuna", f"not started for {names}: name the study"


def _tensorboard(subjects: Sequence[Subject], servers: Servers, scratch: Path) -> str:
    if importlib.util.find_spec("tensorboard") is None:
        return f"not started: {EXTRA}"
    count = 0
    for subject in subjects:
        for trial in subject.state.trials:
            for run in trial.runs:
                count += _linked(run, scratch / subject.state.name / _label(trial, run))
    if not count:
        return "not started: no run here wrote event files (logger=tensorboard does)"
    command = python("-m", "tensorboard.main", "--logdir", str(scratch), "--host", "127.0.0.1", "--port", "0")
    return _started(servers, "tensorboard", command)


def _linked(run: Run, name: Path) -> bool:
    """Show a run's event files under a name that a person understands; whether there are any."""
    events = run.directory / "tensorboard"
    if not next(events.glob("*tfevents*"), None):
        return False
    name.parent.mkdir(parents=True, exist_ok=True)
    name.symlink_to(events.absolute(), target_is_directory=True)
    return True


def _label(trial: Trial, run: Run) -> str:
    """`0003 model=gru hidden_size=64/s0`."""
    params = (f"{key.rpartition('.')[2]}={show(value)}" for key, value in trial.params.items())
    point = " ".join([f"{trial.number:04d}", *params]).replace("/", "_")
    fold = "" if run.fold is None else f"f{run.fold}-"
    return f"{point}/{fold}s{run.seed}"


def _optuna(state: StudyState, servers: Servers) -> str:
    if importlib.util.find_spec("optuna_dashboard") is None:
        return f"not started: {EXTRA}"
    command = python("-m", "gatelab.report.dashboard.optuna_server", str(state.directory))
    return _started(servers, "optuna-dashboard", command)


def _started(servers: Servers, name: str, command: Sequence[str]) -> str:
    try:
        return servers.start(name, command).address
    except ServerError as error:
        return f"not started: {error}"


def wandb_folders(subjects: Sequence[Subject]) -> list[Path]:
    """Run directories whose W&B files are on this machine, for `wandb leet`."""
    runs = (run.directory for s in subjects for trial in s.state.trials for run in trial.runs)
    return [run / "wandb" for run in runs if next((run / "wandb").glob("*run-*"), None)]
