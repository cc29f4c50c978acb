"""Read `.wandb` files, the local record of Weights & Biases: what was logged, the summary, how the run ended.

The file is a log of protocol-buffer records in the layout of LevelDB's logs: a header of 7 bytes, then blocks of
32 KiB that hold pieces, each with a checksum, a length and whether it is a whole record, its first, a middle or
its last piece. A file whose writer was killed ends in the middle of a piece; reading stops there. It never writes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatelab.trackers.follow import SPECIAL, Row

MAGIC = b":W&B"
FILE_HEADER, PIECE_HEADER, BLOCK = 7, 7, 32768
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Segment:
    """What one `.wandb` file holds: one part of a run, from a start or a resume to its end.

    Attributes:
        path: the file.
        run_id, project, entity, group, job_type, name, tags: of the run; sweep_id: of its sweep, if any.
        rows: the metrics that were logged, in order; times: when, in seconds since 1970.
        summary: the last value of each summary key.
        config: the run's configuration.
        preempting: whether the run said that it will be continued.
        exit_code: how this part ended; None if it was killed.
    """

    path: Path
    run_id: str = ""
    project: str = ""
    entity: str = ""
    group: str = ""
    job_type: str = ""
    name: str = ""
    sweep_id: str = ""
    tags: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    preempting: bool = False
    exit_code: int | None = None

    @property
    def online(self) -> bool:
        """Whether it was sent to the server while it was written."""
        return not self.path.parent.name.startswith("offline-")


def segment_files(run_dir: str | Path, run_id: str = "*") -> list[Path]:
    """The `.wandb` files of a run directory, oldest first (their folders begin with the time).

    Args:
        run_dir: the directory.
        run_id: of the run at Weights & Biases, if only its files are wanted.
    """
    found = (
        path for path in Path(run_dir).glob(f"wandb/*/run-{run_id}.wandb") if not path.parent.is_symlink()
    )
    return sorted(found, key=lambda path: path.parent.name.removeprefix("offline-"))


def read_segment(path: str | Path) -> Segment:
    """Read a file as far as it is whole.

    Raises:
        ValueError: it is no `.wandb` file.
    """
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    segment = Segment(Path(path))
    for data in _records(Path(path).read_bytes(), str(path)):
        record = Record()
        record.ParseFromString(data)
        _add(segment, record)
    return segment


def _add(segment: Segment, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        run = record.run
        segment.run_id, segment.project, segment.entity = run.run_id, run.project, run.entity
        segment.group, segment.job_type, segment.name = run.run_group, run.job_type, run.display_name
        segment.tags, segment.sweep_id = list(run.tags), run.sweep_id
        segment.config |= {item.key: json.loads(item.value_json) for item in run.config.update if item.key}
    elif kind == "history":
        items = [item for item in record.history.item if not _name(item).startswith("_")]
        if items and all(len(item.nested_key) < 2 for item in items):  # a picture or table has parts
            segment.rows.append({_name(item): _value(item) for item in items})
            own = {_name(item): _value(item) for item in record.history.item}
            segment.times.append(float(own.get("_timestamp", 0.0)))
    elif kind == "summary":
        segment.summary |= {_name(item): _value(item) for item in record.summary.update}
    elif kind == "preempting":
        segment.preempting = True
    elif kind == "exit":
        segment.exit_code = record.exit.exit_code


def _name(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _value(item: Any) -> Any:
    value = json.loads(item.value_json)
    return SPECIAL.get(value, value) if isinstance(value, str) else value


def _records(data: bytes, name: str) -> Iterator[bytes]:
    if data[:4] != MAGIC:
        raise ValueError(f"{name}: not a .wandb file.")
    at, pieces = FILE_HEADER, b""
    while at + PIECE_HEADER <= len(data):
        room = BLOCK - at % BLOCK
        if room < PIECE_HEADER:
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        piece = data[at + PIECE_HEADER : at + PIECE_HEADER + length]
        if len(piece) < length or kind not in (WHOLE, FIRST, MIDDLE, LAST):
            return
        pieces = piece if kind in (WHOLE, FIRST) else pieces + piece
        if kind in (WHOLE, LAST):
            yield pieces
        at += PIECE_HEADER + length
