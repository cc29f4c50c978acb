"""Send to Weights & Biases what it lacks of finished or stopped runs, however often it is asked for.

The server is asked what it has, the rows of `metrics.csv` that it lacks are sent with the times at which they were
measured, and it is asked again. System metrics stay in the local files: `wandb sync` would send them too, but it
sends again what the server has, and takes an upload that was refused for one that succeeded.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatelab.run.errors import RequestError
from gatelab.run.record.directory import RunDirectory
from gatelab.trackers.follow import Follow, identity
from gatelab.trackers.wandb.local_files import Segment, read_segment, segment_files
from gatelab.trackers.wandb.server import NO_KEY, history, why_offline
from gatelab.trackers.wandb.session import Part
from gatelab.trackers.wandb.sync_state import alone, is_sent, note_if_complete

ANSWER_SECONDS = 10.0


@dataclass
class Pending:
    """A run that the server was not seen to have in full: its directory, its id there, state, parts and rows."""

    path: Path
    run_id: str
    state: str
    parts: int
    rows: int


def find_pending(paths: Iterable[Path]) -> list[Pending]:
    """The runs in and below `paths` that Weights & Biases follows and does not have in full.

    Raises:
        RequestError: a path does not exist.
    """
    found = []
    for run in dict.fromkeys(run for path in paths for run in _runs(path)):
        ids = dict.fromkeys(_id(file) for file in segment_files(run))
        for run_id in (run_id for run_id in ids if not is_sent(run, run_id)):
            rows, parts = len(Follow(run / "metrics.csv").rows()), len(segment_files(run, run_id))
            found.append(Pending(run, run_id, RunDirectory(run).state(), parts, rows))
    return found


def _runs(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        raise RequestError(f"{path}: no such folder; give run directories, or folders that hold them.")
    yield from sorted(file.parent for file in path.rglob("run.json"))


def sync(pending: Sequence[Pending]) -> Iterator[tuple[Pending, str, bool]]:
    """Send the runs one after the other; yield each with what happened and whether it is complete now.

    Raises:
        RequestError: there is no key, or the server does not answer or does not know the key. Nothing was sent.
    """
    why = why_offline(ANSWER_SECONDS)
    if why == NO_KEY:
        raise RequestError("no key for Weights & Biases: run `wandb login` once, or set WANDB_API_KEY.")
    if why is not None:
        raise RequestError(f"{why}; nothing was sent. The runs stay as they are, and can be sent later.")
    for run in pending:
        try:
            with alone(run.path, wait=False):
                yield run, *_send(run)
        except BlockingIOError:
            yield run, "is being followed now; it is sent by its own process", False
        except Exception as error:  # of one run; the others may well go through
            yield run, f"failed: {error}", False


def _send(pending: Pending) -> tuple[str, bool]:
    run = RunDirectory(pending.path)
    parts = [read_segment(file) for file in segment_files(pending.path, pending.run_id)]
    settings = _settings(parts, run.read(), pending)
    with tempfile.TemporaryDirectory() as folder, _service():
        part = Part(pending.path, settings, "online", Path(folder))
        where = (part.run.entity, part.run.project, part.run.id)
        part.leave_out(history(*where))
        part.measured_at(_times(parts))
        part.pass_on()
        outcome = "killed" if pending.state == "unfinished" else pending.state
        pictures = [
            str(path) for path in (pending.path / "wandb").glob("*.*") if path.suffix in (".png", ".txt")
        ]
        part.conclude(outcome, (run.result() or {}).get("error"), pictures)
    lacking = note_if_complete(pending.path, *where)
    if lacking:
        return f"{lacking} of {pending.rows} rows did not arrive; the same command sends them", False
    return f"{part.sent} rows sent, {pending.rows - part.sent} were there; {part.run.url}", True


@contextlib.contextmanager
def _service() -> Iterator[None]:
    """wandb's own process for one run only: what is wrong with one upload is not left for the next."""
    import wandb

    try:
        yield
    finally:
        wandb.teardown()


def _times(parts: Sequence[Segment]) -> dict[Any, float]:
    return {identity(row): at for part in parts for row, at in zip(part.rows, part.times, strict=True)}


def _id(file: Path) -> str:
    return file.stem.removeprefix("run-")


def _settings(parts: Sequence[Segment], record: dict[str, Any], pending: Pending) -> dict[str, Any]:
    """What the run was begun with; if a kill came before that was written, its configuration."""
    begun = next((part for part in parts if part.run_id), None)
    asked = (record["config"].get("logger") or {}).get("wandb") or {}
    settings: dict[str, Any] = {"id": pending.run_id, "name": "/".join(pending.path.absolute().parts[-2:])}
    for name in ("project", "entity", "group", "job_type", "tags"):
        settings[name] = (begun and getattr(begun, name)) or asked.get(name)
    return {**settings, "sweep_id": (begun and begun.sweep_id) or None}
