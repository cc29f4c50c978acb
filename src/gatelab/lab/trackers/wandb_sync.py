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

from gatelab.lab.errors import RequestError
from gatelab.lab.record import RunDirectory
from gatelab.lab.trackers.follow import Follow, identity
from gatelab.lab.trackers.wandb_file import read_segment, segment_files
from gatelab.lab.trackers.wandb_part import Part
from gatelab.lab.trackers.wandb_reach import NO_KEY, history, why_offline
from gatelab.lab.trackers.wandb_sent import alone, is_sent, note_if_complete

ANSWER_SECONDS = 10.0


@dataclass
class Pending:
    """A run that the server was not seen to have in full: its directory, state, parts and rows."""

    path: Path
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
        files = segment_files(run)
        if files and not is_sent(run):
            rows = len(Follow(run / "metrics.csv").rows())
            found.append(Pending(run, RunDirectory(run).state(), len(files), rows))
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
    record = run.read()
    settings = _settings(record, pending.path)
    with tempfile.TemporaryDirectory() as folder, _service():
        part = Part(pending.path, settings, "online", Path(folder))
        where = (part.run.entity, part.run.project, part.run.id)
        part.leave_out(history(*where))
        part.measured_at(_times(pending.path))
        part.pass_on()
        outcome = "killed" if pending.state == "unfinished" else pending.state
        pictures = [str(path) for path in (pending.path / "wandb").glob("*.png")]
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


def _times(path: Path) -> dict[Any, float]:
    parts = [read_segment(file) for file in segment_files(path)]
    return {identity(row): at for part in parts for row, at in zip(part.rows, part.times, strict=True)}


def _settings(record: dict[str, Any], path: Path) -> dict[str, Any]:
    from gatelab.lab.trackers import wandb_settings

    node = dict((record["config"].get("logger") or {}).get("wandb") or {})
    node.pop("_target_", None)
    return wandb_settings(str(path), record["tracker_id"], **node)
