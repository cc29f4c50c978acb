"""The folder of a study: where everything lies, `study.json`, the stop request, and which workers are alive.

It knows paths and files only. The queue of trials is `queue.py`, what Optuna keeps is behind `storage.py`, and the
frozen configurations below `templates/` belong to `gatelab.study.spec`.

A worker writes `workers/<id>.json` before it claims anything and touches `workers/<id>.alive` while it lives. It is
alive by pid and start time on this machine, by heartbeat on others. What happens to the trials of a dead one is decided
in `queue.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gatelab.data.files import read_json, write_json
from gatelab.data.messages import DataError
from gatelab.run import RequestError
from gatelab.run.record.directory import now

STUDY_FORMAT = 1
HEARTBEAT_SECONDS = 2.0


class StudyDirectory:
    """One study on disk.

    Attributes:
        path: the folder, absolute; name: the study's, that of its folder.
        file: `study.json`.
        templates: folder of the frozen configurations; conf: of a copy of the configuration files.
        journal: Optuna's, unless `study.storage` names another storage.
        workers: folder with a file and a sign of life for each worker.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.name = self.path.name
        self.file = self.path / "study.json"
        self.templates = self.path / "templates"
        self.conf = self.path / "conf"
        self.journal = self.path / "journal.log"
        self.workers = self.path / "workers"

    @classmethod
    def open(cls, path: str | Path) -> StudyDirectory:
        """An existing study.

        Raises:
            RequestError: the folder is missing or holds no `study.json`.
        """
        directory = cls(path)
        if not directory.file.is_file():
            raise RequestError(f"{path}: is not a study (it holds no study.json).")
        return directory

    def trial(self, number: int) -> Path:
        """Folder with the requests and the logs of a trial's runs."""
        return self.path / "trials" / f"{number:04d}"

    def request(self, number: int, seed: int, fold: int | None = None) -> Path:
        """The request of one run of a trial; `.log` and `.events.jsonl` are beside it under the same name."""
        prefix = "" if fold is None else f"f{fold}-"
        return self.trial(number) / f"{prefix}s{seed}.json"

    def read(self) -> dict[str, Any]:
        """What `study.json` says.

        Raises:
            RequestError: it is damaged, or of a later version of Gatelab.
        """
        try:
            record = read_json(self.file)
        except DataError as error:
            raise RequestError(f"{error}.") from None
        if record.get("format") != STUDY_FORMAT:
            raise RequestError(
                f"{self.file}: not a study of this version of Gatelab (format {STUDY_FORMAT})."
            )
        overrides = record.get("overrides", [])
        if not isinstance(overrides, list) or not all(isinstance(one, str) for one in overrides):
            raise RequestError(f"{self.file}: damaged, 'overrides' is no list of texts.")
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        """Write `study.json` in one step."""
        write_json(self.file, {"format": STUDY_FORMAT, **record})

    def storage_url(self) -> str:
        """Where Optuna keeps the study: `study.storage`, else the journal in the folder."""
        return str(self.read()["settings"].get("storage") or f"journal://{self.journal}")

    @contextlib.contextmanager
    def locked(self, *, shared: bool = False, name: str = "queue") -> Iterator[float]:
        """Hold a lock of the study, alone or with others who share it; gives the file system's own time, in seconds.

        The kernel frees the lock of a process that dies. Heartbeats are compared with the file system's time, so
        that the clocks of two machines may differ.

        Raises:
            RequestError: the file system has no locks.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            except OSError as error:
                raise RequestError(
                    f"{self.path}: this file system has no locks ({error.strerror}); let paths.root lie on another one."
                ) from None
            if not shared:
                os.utime(descriptor)
            yield os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)

    def stop(self, *, now: bool = False) -> None:
        """Ask every worker to stop: its runs save themselves and leave, or with `now` are killed."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "stop").write_text("now\n" if now else "")

    def clear_stop(self) -> None:
        """Withdraw a stop request."""
        (self.path / "stop").unlink(missing_ok=True)

    def stopping(self) -> Literal["no", "soon", "now"]:
        """Whether the workers are to stop: once their runs have saved themselves, or at once."""
        try:
            text = (self.path / "stop").read_text()
        except FileNotFoundError:
            return "no"
        return "now" if text.strip() == "now" else "soon"

    def living(self, time: float) -> frozenset[str]:
        """Ids of the workers that are alive; `time`: the file system's, in seconds, as `locked` gives it."""
        stale_after = float(self.read()["settings"].get("stale_after") or 30.0)
        names = [file.stem for file in self.workers.glob("*.alive")]
        return frozenset(name for name in names if is_alive(self.workers, name, time, stale_after))


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
    except (OSError, ValueError, RecursionError, TypeError):
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
