"""Optuna's journal on one file, made for many writers: a lock that nobody can leave behind, batches, short waits.

A line is one change; the file only grows. The lock is the kernel's, which dies with its holder, and whoever takes
it cuts off a last line that was left half written. `storage.py` chooses between this and databases.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import TrialState

from gatelab.study.engine.replay import Replay

_DECODER = json.JSONDecoder()


class JournalFile(BaseJournalBackend):
    """The file: appended to under a lock, read from where the last reading ended.

    Args:
        path: the journal; the lock is on `<path>.flock` (Optuna's own locks delete `<path>.lock`).

    A write is in the system's hands when it returns, so no kill loses it; `sync` waits for the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._next = (0, 0)  # number of the next line to read, and where it begins

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append changes, all in one write."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self.locked(), self.path.open("ab") as file:
            file.write(text.encode())

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Changes from a number on; a last line that is not whole yet is left for the next time.

        Raises:
            ValueError: a line is damaged.
        """
        number, offset = self._next if self._next[0] <= log_number_from else (0, 0)
        for line in _read_from(self.path, offset).splitlines(keepends=True):
            if not line.endswith(b"\n"):
                return
            number, offset = number + 1, offset + len(line)
            self._next = (number, offset)
            if number > log_number_from:
                yield _DECODER.decode(line.decode())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock, with the end of the file mended."""
        descriptor = os.open(f"{self.path}.flock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            repair(self.path)
            yield
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Wait until everything written is on the disk; it holds no lock, so that others go on."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read_from(path: Path, offset: int) -> bytes:
    """What the file holds from `offset` on. Mostly that is nothing, so it must cost little."""
    # opened anew each time: that is what makes a network file system look at the server
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size <= offset:
            return b""
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            file.seek(offset)
            return file.read()
    finally:
        os.close(descriptor)


def repair(path: Path) -> int:
    """Cut off what follows the last line break; only the lock's holder may. Returns the bytes cut off.

    A process that was killed, or a full disk, leaves such a line. Nobody has been told that it was written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        size = position = os.fstat(descriptor).st_size
        while position > 0:
            begin = max(0, position - (1 if position == size else 4096))  # mostly one byte tells
            found = os.pread(descriptor, position - begin, begin).rfind(b"\n")
            if found >= 0:
                position = begin + found + 1
                break
            position = begin
        if position < size:
            os.truncate(descriptor, position)
        return size - position
    finally:
        os.close(descriptor)


class Journal(JournalStorage):
    """Optuna's storage on a `JournalFile`, with batches.

    Raises:
        ValueError: a line in the middle of the file is damaged; the message says which.
    """

    def __init__(self, path: Path) -> None:
        self._batches = threading.local()
        self._backend = self._file = JournalFile(path)
        self._thread_lock = threading.Lock()
        self._worker_id_prefix = f"{uuid.uuid4()}-"
        self._replay_result = Replay(self._worker_id_prefix)
        try:
            self._sync_with_backend()
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
        """Write what this thread changes inside together at the end.

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

    def take(self, trial_id: int) -> bool:
        """Let a waiting trial run; of several that try, the first one in the file has it.

        Optuna's own answer is wrong for a thread that has had the same trial before.
        """
        with self._thread_lock:
            self._replay_result._worker_id_to_owned_trial_id.pop(self._replay_result.worker_id, None)
        return self.set_trial_state_values(trial_id, TrialState.RUNNING)

    def sync(self) -> None:
        """Wait until everything written is on the disk."""
        self._file.sync()
