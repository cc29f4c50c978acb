"""Whether Weights & Biases has all of a run: `wandb/sent.json`, written when the server was seen to have it.

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

from gatelab.lab.record import RunDirectory, now, write_json
from gatelab.lab.trackers.follow import Follow, identity
from gatelab.lab.trackers.wandb_file import segment_files
from gatelab.lab.trackers.wandb_reach import history, server

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
            write_json(
                run_dir / "wandb" / "sent.json", {**_present(run_dir), "server": server(), "time": now()}
            )
            break
        if attempt < TRIES - 1:
            time.sleep(1.0)
    return lacking


def is_sent(run_dir: Path) -> bool:
    """Whether the server was seen to have all that is there of the run."""
    try:
        noted = json.loads((run_dir / "wandb" / "sent.json").read_text())
    except (OSError, ValueError):
        return False
    return _present(run_dir).items() <= noted.items()


def _present(run_dir: Path) -> dict[str, Any]:
    """What changes when there is more to send: the parts, the metrics, how the run ended."""
    metrics = run_dir / "metrics.csv"
    size = metrics.stat().st_size if metrics.is_file() else 0
    parts = [file.parent.name for file in segment_files(run_dir)]
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
