"""Whether Weights & Biases has all of a run: `wandb/sent.json`, written when the server was seen to have it.

A run that agents of sweeps asked for has several ids there, and may be complete under one and not under another.

wandb's own mark says that an upload was tried; this one, that the server was asked afterwards and held every row.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gatelab.data.files import write_json
from gatelab.run.record.directory import RunDirectory, now
from gatelab.run.record.secrets import without_secrets
from gatelab.trackers.follow import Follow, identity
from gatelab.trackers.wandb.local_files import segment_files
from gatelab.trackers.wandb.server import history, server

TRIES = 5
"""How often the server is asked, a second apart: it may take a moment to show what it was sent."""


def note_if_complete(run_dir: Path, entity: str | None, project: str, run_id: str) -> int:
    """Ask the server for the run; note in `sent.json` if it has every row. The number of rows that it lacks.

    Raises:
        OSError, ValueError: the server cannot be asked.
    """
    rows = {identity(row) for row in Follow(run_dir / "metrics.csv").rows()}
    lacking = len(rows)
    for attempt in range(TRIES):
        lacking = len(rows - {identity(row) for row in history(entity, project, run_id)})
        if not lacking:
            noted = {**_present(run_dir, run_id), "server": without_secrets(server()), "time": now()}
            write_json(run_dir / "wandb" / "sent.json", {**_noted(run_dir), run_id: noted})
            break
        if attempt < TRIES - 1:
            time.sleep(1.0)
    return lacking


def is_sent(run_dir: Path, run_id: str) -> bool:
    """Whether the server was seen to have all that is there of the run, under that id."""
    noted = _noted(run_dir).get(run_id)
    return noted is not None and _present(run_dir, run_id).items() <= noted.items()


def _noted(run_dir: Path) -> dict[str, dict[str, Any]]:
    try:
        noted = json.loads((run_dir / "wandb" / "sent.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in noted.items() if isinstance(value, dict)}


def _present(run_dir: Path, run_id: str) -> dict[str, Any]:
    """What changes when there is more to send: the parts, the metrics, how the run ended."""
    metrics = run_dir / "metrics.csv"
    size = metrics.stat().st_size if metrics.is_file() else 0
    parts = [file.parent.name for file in segment_files(run_dir, run_id)]
    return {"parts": parts, "metrics_bytes": size, "state": RunDirectory(run_dir).state()}


@contextlib.contextmanager
def alone(run_dir: Path, *, wait: bool = True) -> Iterator[None]:
    """Be the only one who gives this run to Weights & Biases; an earlier one may still be writing its end.

    Raises:
        BlockingIOError: somebody else is, and `wait` is False.
    """
    with (run_dir / "wandb" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
