"""Upload to Weights & Biases what it lacks of finished or stopped runs, however often it is asked for.

The server is asked what it has, the rows of `metrics.csv` that it lacks are sent with the times at which they were
measured, and it is asked again; only then does `wandb/sent.json` say that it has the run. A run that agents of sweeps
asked for has several ids, and may be complete under one of them only. System metrics stay in the local files:
`wandb sync` would send them too, but sends again what the server has, and takes a refused upload for a success.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import filelock

from gatelab.data.files import write_json
from gatelab.data.messages import say
from gatelab.run import RequestError
from gatelab.run.record.directory import UNREADABLE, RunDirectory, now
from gatelab.run.record.find import find_run
from gatelab.trackers.follow import Follow, identity
from gatelab.trackers.wandb.session import NO_KEY, Session, connect, history, logged_parts, server

LIMIT = 600.0
"""Seconds that one upload may take."""
TRIES = 5
"""How often the server is asked whether it has everything, a second apart: it may show with delay what it got."""


@dataclass
class Pending:
    """A run that the server is not known to have in full: its directory, its id there, state, parts and rows."""

    path: Path
    run_id: str
    state: str
    parts: int
    rows: int


def find_pending(paths: Iterable[Path]) -> list[Pending]:
    """The runs in and below `paths` that Weights & Biases follows and is not known to have in full.

    Args:
        paths: folders, or unique beginnings of runs; a run that cannot be read is told and passed over.

    Raises:
        RequestError: a path is neither.
    """
    folders = [find_run(path) for path in paths]
    found = (file.parent for folder in folders for file in sorted(folder.rglob("run.json")))
    pending: list[Pending] = []
    for run in dict.fromkeys(found):
        try:
            pending += _pending(run)
        except UNREADABLE as error:
            say(f"not read: {error if isinstance(error, RequestError | OSError) else f'{run}: {error!r}'}")
    return pending


def _pending(run: Path) -> Iterator[Pending]:
    ids = dict.fromkeys(file.stem.removeprefix("run-") for file in _local_files(run))
    sent = _sent(run)
    for run_id in ids:
        parts, _, state = present = _present(run, run_id)
        if sent.get(run_id, {}).get("present") != present:
            yield Pending(run, run_id, state, parts, len(Follow(run / "metrics.csv").rows()))


def sync(pending: Sequence[Pending]) -> Iterator[tuple[Pending, str, bool]]:
    """Upload the runs one after the other; yield each with what happened and whether it is complete now.

    Raises:
        RequestError: there is no key, or the server does not answer or does not know the key. Nothing was sent.
    """
    why = _in_child(_why_not)
    if why == NO_KEY:
        raise RequestError("no key for Weights & Biases: run `wandb login` once, or set WANDB_API_KEY.")
    if why:
        raise RequestError(f"{why}; nothing was sent. The runs can be sent later.")
    for run in pending:
        try:
            with upload_lock(run.path, wait=False):
                yield run, *_in_child(_upload, run)
        except filelock.Timeout:
            yield run, "is followed now; the process beside it uploads it", False
        except Exception as error:  # of one run; the others may well go through
            yield run, f"failed: {error}", False


def _in_child(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a process of its own, which is killed after it: wandb's client may hang when it ends.

    Raises:
        RuntimeError: the function raised, or did not return within `LIMIT` seconds.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(sender, function, *args), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(LIMIT):
            raise RuntimeError(f"not finished within {LIMIT:g} s")
        error, value = receiver.recv()
    except EOFError:
        raise RuntimeError("the process that uploads it was killed") from None
    finally:
        child.kill()
        child.join()
    if error:
        raise RuntimeError(error)
    return value


def _answer(sender: Connection, function: Callable[..., Any], *args: Any) -> None:
    try:
        sender.send(("", function(*args)))
    except Exception as error:
        sender.send((f"{type(error).__name__}: {error}", None))


def _why_not() -> str:
    """Why nothing can be sent; empty if it can."""
    try:
        connect()
    except ConnectionError as error:
        return str(error)
    return ""


def _upload(pending: Pending) -> tuple[str, bool]:
    run = RunDirectory(pending.path)
    parts = logged_parts(pending.path, pending.run_id)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder  # for wandb's own temporary files
        session = Session(pending.path, _settings(run, pending, parts), "online", Path(folder))
        session.leave_out(history(*session.where))
        session.measured_at(parts)
        session.log_new_rows()
        outcome = "killed" if pending.state == "unfinished" else pending.state
        files = (pending.path / "wandb").glob("*.*")
        root = pending.path.resolve()  # a link may lead to any file of this machine
        own = (path for path in files if path.resolve().is_relative_to(root))
        pictures = [str(path) for path in own if path.suffix in (".png", ".txt")]
        session.finish(outcome, (run.result() or {}).get("error"), pictures)
        lacking = mark_if_complete(pending.path, *session.where)
    if lacking:
        return f"{lacking} of {pending.rows} rows did not arrive; the same command sends them", False
    return f"{session.sent} rows sent, {pending.rows - session.sent} were there; {session.run.url}", True


def _settings(run: RunDirectory, pending: Pending, parts: Sequence[Any]) -> dict[str, Any]:
    """The settings that the run was begun with; those of its configuration if they were not written."""
    if parts:
        return dict(parts[0].settings)
    asked = (run.read()["config"].get("logger") or {}).get("wandb") or {}
    known = {name: asked.get(name) for name in ("project", "entity", "group", "job_type", "tags")}
    return {**known, "id": pending.run_id, "name": "/".join(pending.path.absolute().parts[-2:])}


def mark_if_complete(run_dir: Path, entity: str | None, project: str, run_id: str) -> int:
    """Ask the server for the run; write `sent.json` if it has every row. Return the number of rows that it lacks.

    Raises:
        ConnectionError, wandb.Error: the server cannot be asked.
    """
    rows = {identity(row) for row in Follow(run_dir / "metrics.csv").rows()}
    for attempt in range(TRIES):
        time.sleep(float(attempt > 0))
        lacking = len(rows - {identity(row) for row in history(entity, project, run_id)})
        if not lacking:
            mark = {"present": _present(run_dir, run_id), "server": server(), "time": now()}
            write_json(run_dir / "wandb" / "sent.json", {**_sent(run_dir), run_id: mark})
            break
    return lacking


def _sent(run_dir: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((run_dir / "wandb" / "sent.json").read_text()))
    except (OSError, ValueError):
        return {}


def _present(run_dir: Path, run_id: str) -> list[Any]:
    """What changes when there is more to send: the number of parts, bytes of metrics, the run's state."""
    metrics = run_dir / "metrics.csv"
    size = metrics.stat().st_size if metrics.is_file() else 0
    parts = sum(file.stem == f"run-{run_id}" for file in _local_files(run_dir))
    return [parts, size, RunDirectory(run_dir).state()]


def _local_files(run_dir: Path) -> list[Path]:
    """The `.wandb` files of a run directory, one for each part."""
    return sorted(p for p in run_dir.glob("wandb/*/run-*.wandb") if not p.parent.is_symlink())


def upload_lock(run_dir: Path, *, wait: bool = True) -> filelock.BaseFileLock:
    """Lock for the one process that uploads a run; an earlier one may still be writing its end.

    Raises:
        filelock.Timeout: on entering it, if another process holds it and `wait` is False.
    """
    return filelock.FileLock(run_dir / "wandb" / ".lock", timeout=-1 if wait else 0)
