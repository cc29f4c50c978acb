"""The folder of a study: where everything lies, `study.json`, and the stop request.

It knows paths and files only. The queue of trials is `queue.py`, what Optuna keeps is behind `storage.py`, and
the frozen
configurations below `templates/` belong to `gatelab.study.spec`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from gatelab.data.files import write_json
from gatelab.run import RequestError

STUDY_FORMAT = 1


class StudyDirectory:
    """One study on disk.

    Attributes:
        path: the folder, absolute.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()

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

    @property
    def name(self) -> str:
        """The study's name: that of its folder."""
        return self.path.name

    @property
    def file(self) -> Path:
        """`study.json`."""
        return self.path / "study.json"

    @property
    def templates(self) -> Path:
        """Folder of the frozen configurations."""
        return self.path / "templates"

    @property
    def conf(self) -> Path:
        """Folder with a copy of the configuration files."""
        return self.path / "conf"

    @property
    def journal(self) -> Path:
        """Optuna's journal, unless `study.storage` names another storage."""
        return self.path / "journal.log"

    @property
    def workers(self) -> Path:
        """Folder with a file and a sign of life for each worker."""
        return self.path / "workers"

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
            record = json.loads(self.file.read_text())
        except json.JSONDecodeError as error:
            raise RequestError(f"{self.file}: not valid JSON ({error}).") from None
        if not isinstance(record, dict) or record.get("format") != STUDY_FORMAT:
            raise RequestError(
                f"{self.file}: not a study of this version of Gatelab (format {STUDY_FORMAT})."
            )
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
            _lock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, self.path)
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


def _lock(descriptor: int, kind: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, kind)
    except OSError as error:
        raise RequestError(
            f"{path}: this file system has no locks ({error.strerror}); let paths.root lie on another one."
        ) from None
