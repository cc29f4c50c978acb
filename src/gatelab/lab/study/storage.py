"""Where Optuna keeps a study: a journal file, a database, or Optuna's gRPC proxy in front of one.

The journal's lock is the kernel's, which dies with its holder, and whoever takes it cuts off a last line that was
left half written. Who may run which trial is not decided here (`queue.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

from gatelab.lab.compose import nearest
from gatelab.lab.errors import RequestError
from gatelab.lab.study.samplers import quiet_optuna

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

SCHEMES = ("journal", "sqlite", "postgresql", "mysql", "grpc")
DRIVERS = {
    "postgresql": "psycopg[binary]",
    "mysql": "PyMySQL",
    "mariadb": "PyMySQL",
    "grpc": "grpcio protobuf",
}
SERVER_SECONDS = 20.0
"""How long a gRPC proxy may take to answer for the first time."""


def check_storage(url: str | None, slots: int) -> None:
    """Refuse what cannot work, without opening it.

    Args:
        url: `study.storage`; None is the journal.
        slots: runs at the same time in all workers together.

    Raises:
        RequestError: an unknown kind of storage, or SQLite with several slots.
    """
    if url is None:
        return
    scheme = scheme_of(url)
    if scheme not in (*SCHEMES, "mariadb"):
        raise RequestError(
            f"study.storage={url}: no such kind of storage.{nearest(scheme, SCHEMES)} It may be "
            "journal:///PATH, postgresql://..., mysql://..., grpc://HOST:PORT or sqlite:///PATH."
        )
    if scheme == "grpc" and len(url.removeprefix("grpc://").rsplit(":", 1)) != 2:
        raise RequestError(f"study.storage={url}: write grpc://HOST:PORT.")
    if scheme == "sqlite" and slots > 1:
        raise RequestError(
            f"study.storage={url}: SQLite cannot serve {slots} slots. Two workers can be given the same trial by "
            "it, and its file lock fails on network file systems. Leave study.storage away (a journal file, safe "
            "for any number), or name a PostgreSQL or MySQL server; SQLite does for study.workers=1 study.slots=1."
        )


def scheme_of(url: str) -> str:
    """`postgresql` of `postgresql+psycopg://...`."""
    return url.partition(":")[0].partition("+")[0].lower()


def open_storage(url: str) -> BaseStorage:
    """Open, and if need be make, the storage at `url`; `batch` writes several changes to it at once.

    Raises:
        RequestError: it cannot be opened, or a package for it is missing; the message names the fix.
    """
    check_storage(url, 1)
    quiet_optuna()
    scheme = scheme_of(url)
    shown = hide_password(url)
    try:
        if scheme == "journal":
            return Journal(Path(url.removeprefix("journal://")))
        if scheme == "grpc":
            host, port = url.removeprefix("grpc://").rsplit(":", 1)
            proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
            proxy.wait_server_ready(SERVER_SECONDS)
            return proxy
        options = {"connect_args": {"timeout": 100}} if scheme == "sqlite" else {"pool_pre_ping": True}
        return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=options))
    except ImportError as error:
        raise RequestError(
            f"study.storage={shown}: a package is missing ({error.name or error}): "
            f"pip install '{DRIVERS.get(scheme, 'optuna')}'."
        ) from None
    except ConnectionError as error:
        raise RequestError(
            f"study.storage={shown}: nobody answers there ({error}). Start Optuna's proxy first "
            "(optuna.storages.run_grpc_proxy_server)."
        ) from None
    except (OSError, ValueError) as error:
        raise RequestError(f"study.storage={shown}: {error}") from None
    except Exception as error:  # SQLAlchemy's errors; imported only where it is used
        if not type(error).__module__.startswith("sqlalchemy"):
            raise
        raise RequestError(f"study.storage={shown}: {str(error).splitlines()[0]}") from None


def hide_password(url: str) -> str:
    """The URL with `***` for a password."""
    before, at, after = url.rpartition("@")
    scheme, slashes, login = before.partition("://")
    user, colon, _ = login.partition(":")
    return f"{scheme}{slashes}{user}:***{at}{after}" if colon else url


class RepairingLock(BaseJournalFileLock):
    """The kernel's lock beside a journal file: it dies with its holder, and taking it mends the file's end.

    Args:
        path: the journal; the lock is on `<path>.flock` (Optuna's own locks delete `<path>.lock`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def acquire(self) -> bool:
        """Wait for the lock, then cut off a last line that was left half written."""
        descriptor = os.open(f"{self.path}.flock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        repair(self.path)
        return True

    def release(self) -> None:
        """Free the lock."""
        os.close(self._descriptor)


def repair(path: Path) -> int:
    """Cut off what follows the last line break; only the lock's holder may. Returns the bytes cut off.

    A process that was killed, or a full disk, leaves such a line. Nobody has been told that it was written.
    """
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return 0
    with file:
        size = position = file.seek(0, os.SEEK_END)
        while position > 0:
            begin = max(0, position - (1 if position == size else 4096))  # mostly one byte tells
            file.seek(begin)
            found = file.read(position - begin).rfind(b"\n")
            if found >= 0:
                position = begin + found + 1
                break
            position = begin
        if position < size:
            file.truncate(position)
        return size - position


class Journal(JournalStorage):
    """Optuna's journal storage on one file, with a lock that cannot be left behind, and batches.

    Raises:
        ValueError: a line in the middle of the file is damaged; the message says which.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._batches = threading.local()
        try:
            super().__init__(JournalFileBackend(str(path), lock_obj=RepairingLock(path)))
        except ValueError as error:
            line = self._replay_result.log_number_read + 1
            raise ValueError(f"{path}: line {line} is damaged ({error})") from None
        self._replay_result._last_created_trial_id_by_this_process = -1

    def _write_log(self, op_code: int, extra_fields: dict[str, Any]) -> None:
        lines: list[dict[str, Any]] | None = getattr(self._batches, "lines", None)
        if lines is None:
            super()._write_log(op_code, extra_fields)
        else:
            lines.append({"op_code": op_code, "worker_id": self._replay_result.worker_id, **extra_fields})

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Write what this thread changes inside together at the end: one lock, one flush to the disk.

        Inside, this thread does not see its changes yet. What was changed before an exception is written, too.
        A kill in the middle of writing leaves the first few of the changes, so the decisive one comes last.
        """
        lines: list[dict[str, Any]] = []
        self._batches.lines = lines
        try:
            yield
        finally:
            self._batches.lines = None
            if lines:
                with self._thread_lock:
                    self._backend.append_logs(lines)
                    self._sync_with_backend()


def batch(storage: BaseStorage) -> contextlib.AbstractContextManager[None]:
    """`Journal.batch`; on other storages the changes are written one by one."""
    return storage.batch() if isinstance(storage, Journal) else contextlib.nullcontext()
