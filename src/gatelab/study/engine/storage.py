"""Optuna storages of a study: a journal file, a database, or Optuna's gRPC proxy in front of one.

The password of a database is taken off the command line and handed to the workers in the environment, which every
launcher hands on; it is never written down. PostgreSQL's own ways (PGPASSWORD, ~/.pgpass) work too: a URL without a
password leaves them to it. Which trial may be run by whom is decided in `queue.py`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from gatelab.data.messages import did_you_mean
from gatelab.run import RequestError
from gatelab.run.record.secrets import without_secrets
from gatelab.study.engine.samplers import quiet_optuna

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

LOGIN = re.compile(r"(?P<before>[^:/]+://[^:/@]*):(?P<password>.*)@(?P<after>[^@]*)")
PASSWORD = "GATELAB_STORAGE_PASSWORD"
"""The environment variable that holds the password of `study.storage`; nothing of a study ever does."""
ASKS = re.compile(r"password|access denied|authentication", re.IGNORECASE)
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
    scheme, shown = scheme_of(url), hide_password(url)
    if scheme not in (*SCHEMES, "mariadb"):
        raise RequestError(
            f"study.storage={shown}: no such kind of storage.{did_you_mean(scheme, SCHEMES)} It may be "
            "journal:///PATH, postgresql://..., mysql://..., grpc://HOST:PORT or sqlite:///PATH."
        )
    if re.search(r"[?&]password=", url):
        raise RequestError(
            f"study.storage: write the password as in {scheme}://USER:PASSWORD@HOST/DB, or set {PASSWORD}; it is "
            "kept in no file."
        )
    if scheme == "grpc" and len(url.removeprefix("grpc://").rsplit(":", 1)) != 2:
        raise RequestError(f"study.storage={shown}: write grpc://HOST:PORT.")
    if scheme == "sqlite" and slots > 1:
        raise RequestError(
            f"study.storage={shown}: SQLite cannot serve {slots} slots. Two workers can be given the same trial by "
            "it, and its file lock fails on network file systems. Leave study.storage away (a journal file, safe "
            "for any number), or name a PostgreSQL or MySQL server; SQLite does for study.workers=1 study.slots=1."
        )


def scheme_of(url: str) -> str:
    """`postgresql` of `postgresql+psycopg://...`."""
    return url.partition(":")[0].partition("+")[0].lower()


def open_storage(url: str) -> BaseStorage:
    """Open, and if need be make, the storage at `url`.

    Raises:
        RequestError: it cannot be opened, or a package for it is missing; the message names the fix.
    """
    check_storage(url, 1)
    quiet_optuna()
    scheme = scheme_of(url)
    shown = hide_password(url)
    try:
        if scheme == "journal":
            return open_journal(Path(url.removeprefix("journal://")))
        if scheme == "grpc":
            host, port = url.removeprefix("grpc://").rsplit(":", 1)
            proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
            proxy.wait_server_ready(SERVER_SECONDS)
            return proxy
        options = {"connect_args": {"timeout": 100}} if scheme == "sqlite" else {"pool_pre_ping": True}
        return optuna.storages.get_storage(
            optuna.storages.RDBStorage(with_password(url), engine_kwargs=options)
        )
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
        told = without_secrets(str(error).splitlines()[0])
        hint = f". The password is not kept with a study: set {PASSWORD}." if ASKS.search(str(error)) else ""
        raise RequestError(f"study.storage={shown}: {told}{hint}") from None


class KernelLock(JournalFileOpenLock):
    """Lock of Optuna's journal that the kernel releases when its holder dies; taking it repairs the journal's end.

    Args:
        path: the journal; the lock is on `<path>.flock` (Optuna's own locks delete `<path>.lock`).
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock, and cut off a last line that a killed writer left half written."""
        descriptor = os.open(f"{self.path}.flock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            repair(self.path)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Journal(JournalFileBackend):
    """Optuna's journal file under a `KernelLock`, without its wait for the disk at every change.

    A write is in the system's hands when it returns, so no kill loses it. A machine that goes down may lose the last
    changes, but no training: those trials are carried out again, and their runs, on the disk, are found finished.
    Reading needs no lock, because lines are only ever appended.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        super().__init__(str(path))
        self.path, self.read_only, self.lock = path, read_only, KernelLock(path)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """The changes since one, without a last line that is half written.

        Raises:
            ValueError: a line is damaged; the message says which.
        """
        try:
            yield from super().read_logs(log_number_from)
            json.loads(_last_line(self.path) or "null")  # Optuna takes a damaged last line for half a one
        except ValueError as error:
            raise _damaged(self.path, error) from None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append changes, all in one write."""
        if self.read_only:
            raise PermissionError(f"{self.path}: opened for reading only")
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self.lock.acquire()
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(text.encode())
        finally:
            self.lock.release()


def open_journal(path: Path, *, read_only: bool = False) -> optuna.storages.JournalStorage:
    """Optuna's journal storage on a file that many processes and threads write.

    Raises:
        ValueError: a line of the file is damaged; the message says which.
    """
    quiet_optuna()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return optuna.storages.JournalStorage(Journal(path, read_only=read_only))
    except (KeyError, TypeError, AssertionError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ValueError:
    """An error that names the first line that is not an entry of a journal."""
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line)["op_code"]
        except (ValueError, KeyError, TypeError):
            return ValueError(f"{path}: line {number} is damaged ({error})")
    return ValueError(f"{path}: line {len(lines)} is damaged ({error})")


def _last_line(path: Path) -> bytes:
    """The last line, if it is whole; else nothing."""
    with path.open("rb") as file:
        size, length = file.seek(0, os.SEEK_END), 4096
        while True:
            file.seek(max(0, size - length))
            tail = file.read()
            before = tail.rfind(b"\n", 0, -1)
            if not tail.endswith(b"\n") or before >= 0 or length >= size:
                return tail[before + 1 :] if tail.endswith(b"\n") else b""
            length *= 4


def repair(path: Path) -> int:
    """Cut off what follows the last line break; only the lock's holder may. Returns the bytes cut off.

    A process that was killed, or a full disk, leaves such a line; its writer was never told that it was written.
    """
    with path.open("r+b") as file:
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


def keep_password(overrides: Sequence[str]) -> list[str]:
    """Take the password out of `study.storage=URL`, and hand it on in this process' environment.

    The workers, wherever a launcher starts them, inherit it; no file that they or this process write holds it.
    """
    found = []
    for line in overrides:
        key, equals, value = line.partition("=")
        if equals and key.lstrip("+") == "study.storage":
            url, password = split_password(value.strip("'\""))
            if password is not None:
                os.environ[PASSWORD] = password
                line = f"{key}='{url}'"
        found.append(line)
    return found


def split_password(url: str) -> tuple[str, str | None]:
    """The URL of a database without its password, and the password, decoded; None where it holds none."""
    match = LOGIN.fullmatch(url)
    if match is None:
        return url, None
    return f"{match['before']}@{match['after']}", unquote(match["password"])


def with_password(url: str) -> str:
    """The URL to connect with: its own password, else that of the environment, if it names a user."""
    scheme, slashes, rest = url.partition("://")
    user, _, place = rest.rpartition("@")
    if not user or ":" in user or "/" in user or PASSWORD not in os.environ:
        return url
    return f"{scheme}{slashes}{user}:{quote(os.environ[PASSWORD], safe='')}@{place}"


def hide_password(url: str) -> str:
    """The URL with `***` for a password."""
    return LOGIN.sub(r"\g<before>:***@\g<after>", url)
