"""The `.wandb` files of a run directory, read by wandb's own `wandb leet inspect`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatelab.trackers.follow import SPECIAL, Row


@dataclass
class Segment:
    """One `.wandb` file, one part of a run: what the run was begun with, its rows and their times, how it ended.

    Attributes:
        run: id, project, entity and so on; online: whether it was sent while it was written.
        exit_code: None if the part was killed.
    """

    online: bool
    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    preempting: bool = False
    exit_code: int | None = None


def segments(run_dir: Path) -> list[Segment]:
    """The parts of a run, oldest first (their folders begin with the time)."""
    found = (path for path in run_dir.glob("wandb/*/run-*.wandb") if not path.parent.is_symlink())
    return [read_segment(p) for p in sorted(found, key=lambda p: p.parent.name.removeprefix("offline-"))]


def read_segment(path: Path) -> Segment:
    """Read a file as far as it is whole."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    segment = Segment(online=not path.parent.name.startswith("offline-"))
    for line in printed.splitlines():
        record = json.loads(line)
        value = record.get(record["type"], {})
        match record["type"]:
            case "run":
                segment.run |= value
                segment.config |= value.get("config", {}).get("update", {})
            case "history":
                own = {name: item for name, item in value["item"].items() if not name.startswith("_")}
                if not any("._" in name for name in own):  # pictures and tables have parts
                    segment.rows.append({k: SPECIAL.get(str(v), v) for k, v in own.items()})
                    segment.times.append(value["item"]["_timestamp"])
            case "summary":
                segment.summary |= value.get("update", {})
            case "preempting":
                segment.preempting = True
            case "exit":
                segment.exit_code = value.get("exit_code", 0)
    return segment
