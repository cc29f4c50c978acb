"""Identity and liveness of workers: by pid and start time on this machine, by heartbeat on others.

A worker writes `workers/<id>.json` before it claims anything and touches `workers/<id>.alive` while it lives.
What happens to the trials of a dead one is decided in `queue.py`.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import socket
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from gatelab.data.files import write_json
from gatelab.run.record.directory import now

HEARTBEAT_SECONDS = 2.0


@dataclass(frozen=True)
class Owner:
    """A worker process.

    Attributes:
        id: its name in the study, made once.
        host, pid: for people to read.
        machine: host, boot and process namespace: the same text means that pids can be compared.
        birth: the process' start in clock ticks since boot, so that a used pid is not taken for it; 0 if unknown.
        index, slots, launcher: its place among the workers, its slots and what started it.
        started: when, in UTC.
    """

    id: str
    host: str
    pid: int
    machine: str
    birth: int
    index: int
    slots: int
    launcher: str
    started: str

    @classmethod
    def me(cls, index: int = 0, slots: int = 1, launcher: str = "local") -> Owner:
        """This process as a worker."""
        host, pid = socket.gethostname(), os.getpid()
        identifier = f"{index}-{host}-{pid}-{secrets.token_hex(3)}"
        return cls(identifier, host, pid, machine(), birth(pid) or 0, index, slots, launcher, now())

    def register(self, folder: Path) -> None:
        """Write `<id>.json` and the first sign of life below `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.beat(folder)
        write_json(folder / f"{self.id}.json", asdict(self))

    def beat(self, folder: Path) -> None:
        """Give a sign of life."""
        (folder / f"{self.id}.alive").touch()

    def leave(self, folder: Path) -> None:
        """Take the sign of life away: the worker has ended in good order. `<id>.json` stays as a record."""
        (folder / f"{self.id}.alive").unlink(missing_ok=True)


def read_owner(folder: Path, identifier: str) -> Owner | None:
    """What `<id>.json` says; None where there is none."""
    try:
        return Owner(**json.loads((folder / f"{identifier}.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def is_alive(folder: Path, identifier: str, time: float, stale_after: float) -> bool:
    """Whether the worker `identifier` can still finish its trials.

    Args:
        folder: `workers/` of the study.
        time: the file system's time, in seconds, as `StudyDirectory.locked` gives it.
        stale_after: seconds without a sign of life after which a worker on another machine counts as dead.
    """
    owner = read_owner(folder, identifier)
    try:
        age = time - (folder / f"{identifier}.alive").stat().st_mtime
    except FileNotFoundError:
        return False  # it left, or never began
    if owner is not None and owner.machine == machine() and owner.birth:
        return birth(owner.pid) == owner.birth
    return age < stale_after


@functools.cache
def machine() -> str:
    """Host, boot and process namespace of this process; cached, since a process never changes them."""
    parts = [socket.gethostname()]
    for read in (Path("/proc/sys/kernel/random/boot_id").read_text, lambda: os.readlink("/proc/self/ns/pid")):
        try:
            parts.append(read().strip())
        except OSError:
            parts.append("")
    return "/".join(parts)


def birth(pid: int) -> int | None:
    """When process `pid` was started, in clock ticks since boot; None if it is gone, a zombie, or not to be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return None if fields[0] in "ZX" else int(fields[19])


class Heartbeat:
    """A thread that gives a worker's signs of life between `start` and `stop`."""

    def __init__(self, owner: Owner, folder: Path, every: float = HEARTBEAT_SECONDS) -> None:
        self.owner, self.folder, self.every = owner, folder, every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Register the worker and begin."""
        self.owner.register(self.folder)
        self._thread.start()

    def stop(self) -> None:
        """End, and take the sign of life away."""
        self._end.set()
        self._thread.join()
        self.owner.leave(self.folder)

    def _run(self) -> None:
        while not self._end.wait(self.every):
            try:
                self.owner.beat(self.folder)
            except OSError:  # a file server that hiccups; the next beat tells
                continue
