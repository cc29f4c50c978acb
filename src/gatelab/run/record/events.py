"""Events of a run's process, one JSON object a line in a file beside its request: how a run is followed and judged.

The process appends (`EventWriter`), whoever follows it reads (`EventReader`); nobody else writes. A line is one write,
and a last line without its line break, which a kill or a full disk leaves, is not read.

    {"event": "begin", "rank": 0, "pid": 4711, "time": 1789000000.0}
    {"event": "validation", "rank": 0, "index": 0, "epoch": 0, "step": 32, "value": 1.25, "asks": true}
    {"event": "end", "rank": 0, "outcome": "done", "error": null, "run_dir": "runs/size/1a2b3c4d-s0"}

`index` counts validations from 0 over all attempts of the run, `step` optimiser steps, `epoch` from 0. `asks`: the run
waits for an answer (`gatelab.study.engine.run_trial`). Ranks beside the first write an end only if they fail.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class EventWriter:
    """Append events of one rank.

    Args:
        path: the file; made if it is missing.
        rank: of this process.
    """

    def __init__(self, path: Path, rank: int = 0) -> None:
        self.path, self.rank = path, rank

    def write(self, event: str, **facts: Any) -> None:
        """Append one event; it is in the system's hands when this returns, so a kill does not lose it."""
        line = json.dumps({"event": event, "rank": self.rank, "time": round(time.time(), 3), **facts}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


class EventReader:
    """Read the events of a file as they come; the file may be missing still."""

    def __init__(self, path: Path) -> None:
        self.path, self._at = path, 0

    def read(self) -> list[dict[str, Any]]:
        """The events since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return [event for line in whole.splitlines() if (event := _parse(line))]


def _parse(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:  # another rank's line was torn by its kill
        return {}
    return event if isinstance(event, dict) and "event" in event else {}
