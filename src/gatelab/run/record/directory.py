"""The record of a run: its directory, `run.json`, `result.json`, and the lock on them.

`run.json` is written before anything is trained, `result.json` last; it alone says "finished". Both are
written atomically. What is measured during the run goes to `metrics.csv` (`MetricsCSV` in `run/loggers.py` writes it)
and `trace.csv` (`gatelab.tasks.trace`). Needs no Lightning.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import os
import platform
import re
import secrets
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import filelock

from gatelab.data.files import read_json, set_aside, write_json
from gatelab.data.messages import DataError
from gatelab.run import RequestError
from gatelab.run.record.code import sources
from gatelab.run.record.environment import describe
from gatelab.run.record.find import find_run, has
from gatelab.run.record.secrets import without_secrets

RUN_FORMAT = 1
KNOWN_LATER = {"data": dict, "data_notes": list, "spec": dict, "task": dict, "init": dict, "state": str}
"""Keys of `run.json` that are not there from the first moment on."""
DAMAGED_FIX = "It is damaged: bring it back, or move the directory away and make it again."
COMMAND: ContextVar[str | None] = ContextVar("COMMAND", default=None)
RATE = re.compile(r"time/(\w+)_per_second")
DAMAGED = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
)
"""Errors that a file raises which is not what was once written: other types, missing keys, impossible numbers."""
UNREADABLE = (RequestError, OSError, *DAMAGED)
"""Errors that reading a run, study or record may raise, damaged or not to be opened."""


class RunDirectory:
    """One run on disk.

    Attributes:
        path: the directory.
        run_file, result_file, metrics_file, trace_file, tokenizer_file, rows_file, calibration_file: its files; the
            tokenizer is a text run's only, rows are there once `gatelab eval --rows` has scored some, and a
            calibration once conformal intervals were asked for.
        last, best: the newest checkpoint, and the one with the best value of the monitored metric.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.run_file = self.path / "run.json"
        self.result_file = self.path / "result.json"
        self.metrics_file = self.path / "metrics.csv"
        self.trace_file = self.path / "trace.csv"
        self.tokenizer_file = self.path / "tokenizer.json"
        self.rows_file = self.path / "rows.json"
        self.calibration_file = self.path / "calibration.json"
        self.last = self.path / "checkpoints" / "last.ckpt"
        self.best = self.path / "checkpoints" / "best.ckpt"

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """An existing run, by its directory or a unique beginning of its name or hash (`find_run`).

        Raises:
            RequestError: there is none, there are several, or the folder holds no `run.json`.
        """
        run = cls(find_run(path))
        if not has(run.path, "run.json"):
            study = " It is a study; `gatelab study` and `gatelab runs` list its runs."
            hint = study * has(run.path, "study.json")
            raise RequestError(f"{path}: holds no run.json, so it is not a run directory.{hint}")
        return run

    def read(self) -> dict[str, Any]:
        """The content of `run.json`.

        Raises:
            RequestError: the file is damaged.
        """
        record = read_record(self.run_file, {"config": dict, "attempts": list}, KNOWN_LATER)
        if not record["attempts"] or not all(isinstance(attempt, dict) for attempt in record["attempts"]):
            raise RequestError(f"{self.run_file}: 'attempts' holds no attempt. {DAMAGED_FIX}")
        if not all(isinstance(sha256, str) for sha256 in record.get("data", {}).values()):
            raise RequestError(f"{self.run_file}: 'data' holds what is no sha256. {DAMAGED_FIX}")
        return record

    def result(self) -> dict[str, Any] | None:
        """The content of `result.json`, or None while the run is not finished; raises as `read` does."""
        if not self.result_file.is_file():
            return None
        result = read_record(self.result_file, {"outcome": str}, {"splits": dict})
        if result["outcome"] == "done" and "splits" not in result:
            raise RequestError(f"{self.result_file}: has no 'splits'. {DAMAGED_FIX}")
        return result

    def scores(self, split: str) -> dict[str, float]:
        """The recorded scores of a split; empty where it was not scored. Raises as `read` does."""
        scored = (self.result() or {}).get("splits", {}).get(split)
        try:
            return {} if scored is None else figures(scored["metrics"])
        except DAMAGED:
            raise RequestError(
                f"{self.result_file}: splits.{split} holds what is no score. {DAMAGED_FIX}"
            ) from None

    def state(self) -> str:
        """`done`, `pruned`, `failed`, `refused`, `interrupted`, `crashed`, or `unfinished` (running now, or killed)."""
        result = self.result()
        if result is not None:
            return str(result["outcome"])
        return str(self.read().get("state", "unfinished"))

    def begin(self, config: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        """Write `run.json`, or add one more attempt to the one that is there."""
        attempt = {
            "started": now(),
            "command": command(),
            "cwd": str(Path.cwd()),
            "mirror": os.environ.get("GATELAB_DATA_MIRROR") or None,
            "pid": os.getpid(),
            "environment": {**describe(), "sources": sources(config)},
        }
        if self.run_file.is_file():
            record = self.read()
            record.pop("state", None)
            earlier = self.result()
            if earlier is not None:  # it failed or was pruned; result.json is for the end of this attempt
                record["attempts"][-1]["result"] = earlier
            record["attempts"].append(attempt)
        else:
            record = {
                "format": RUN_FORMAT,
                "identity": dict(identity),
                "tracker_id": secrets.token_hex(4),
                "config": dict(config),
                "attempts": [attempt],
            }
        self._write(masked_record(record))
        for file in (self.rows_file, self.calibration_file):  # they are of the checkpoint that was the best
            file.unlink(missing_ok=True)
        self.result_file.unlink(missing_ok=True)  # not before what it says stands in run.json

    def update(self, **values: Any) -> None:
        """Add facts to `run.json` that are known only later (the data's sha256, the parameter count...)."""
        self._write({**self.read(), **masked_record(values)})

    def _write(self, record: Mapping[str, Any]) -> None:
        """Replace `run.json`; what a user has changed in a repository is for no other eyes."""
        states = [attempt.get("environment", {}).get("git") or {} for attempt in record["attempts"]]
        write_json(self.run_file, record, private=any(state.get("diff") for state in states))

    def label(self, config: Mapping[str, Any]) -> None:
        """Add the tags of a request to an existing run, and take its note; neither is part of what the run is."""
        if not self.run_file.is_file() or not (config.get("tags") or config.get("note")):
            return
        kept = self.read()["config"]
        tags = dict.fromkeys([*(kept.get("tags") or ()), *(config.get("tags") or ())])
        labels = {"tags": list(tags), "note": config.get("note") or kept.get("note")}
        if labels != {key: kept.get(key) for key in labels}:
            self.update(config={**kept, **labels})

    def add_seconds(self, seconds: float) -> None:
        """Note how long the last attempt trained, also when it was stopped."""
        self._update_attempt(fit_seconds=round(seconds, 2))

    def seconds(self) -> float:
        """Seconds of training over all attempts; a killed one could not note its own."""
        return round(sum(attempt.get("fit_seconds", 0.0) for attempt in self.read()["attempts"]), 2)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, and into `run.json` how this attempt ended."""
        self._update_attempt(outcome=str(result["outcome"]), ended=now())
        write_json(self.result_file, without_secrets(dict(result)))

    def add_scores(self, split: str, scored: Mapping[str, Any]) -> None:
        """Put the scores of a split that a finished run has none of yet into `result.json`; others stay."""
        result = self.result()
        if result is not None and result["outcome"] == "done" and split not in result["splits"]:
            splits = {**result["splits"], split: dict(scored)}
            write_json(self.result_file, without_secrets({**result, "splits": splits}))

    def stop(self, state: str, error: str | None = None) -> None:
        """Note that this attempt ended before the run did: `interrupted`, `refused`, or by an `error`: `crashed`."""
        self._update_attempt(outcome=state, ended=now(), **({"error": error} if error else {}))
        self.update(state=state)

    def _update_attempt(self, **facts: Any) -> None:
        attempts = self.read()["attempts"]
        attempts[-1] |= facts
        self.update(attempts=attempts)

    def remove_temporaries(self) -> None:
        """Delete files that were being written when an earlier attempt was killed; call it with the lock."""
        for folder in (self.path, self.last.parent):
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def set_aside(self) -> Path | None:
        """Rename an existing directory to `<name>.old-N`, so that nothing recorded is lost; its new path."""
        return set_aside(self.path) if self.path.exists() else None

    @contextlib.contextmanager
    def locked(self, *, wait: bool = False) -> Iterator[None]:
        """Lock the run: a second process is refused, or with `wait` begins when the first has ended.

        Raises:
            RequestError: another process has the lock.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path.with_name(f".{self.path.name}.lock"))
        holder = self.path.with_name(f".{self.path.name}.holder")
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except filelock.Timeout:
            who = holder.read_text() if holder.is_file() else "another process"
            raise RequestError(
                f"{self.path}: {who} is training this run now; wait for it, or stop it and ask again."
            ) from None
        try:
            with contextlib.suppress(OSError):  # a full disk is named where it matters
                holder.write_text(f"process {os.getpid()} on {platform.node()}, since {now()},")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def figures(recorded: Mapping[str, Any]) -> dict[str, float]:
    """Recorded scores as numbers. Raises TypeError or ValueError where one is none."""
    if wrong := [name for name, value in recorded.items() if type(value) not in (int, float)]:
        raise TypeError(f"{wrong[0]} is no number")
    return {name: value if abs(value) < 2**63 else float(value) for name, value in recorded.items()}


def masked_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Content of `run.json` without secrets, but for what the run is made from again, which stays as it is.

    That is the spec and the sha256 of each file of the data: their keys are names of columns, classes and files, which
    may be `password` or `token.json` and hide nothing.
    """
    masked: dict[str, Any] = without_secrets(dict(record))
    if "spec" in record:
        masked["spec"] = record["spec"]
    if isinstance(files := record.get("data"), Mapping):
        masked["data"] = {without_secrets(name): sha256 for name, sha256 in files.items()}
    return masked


def read_record(
    path: Path, kinds: Mapping[str, type] | None = None, may_lack: Mapping[str, type] | None = None
) -> dict[str, Any]:
    """The JSON object in one of a run's files.

    Raises:
        RequestError: it is damaged: a key of `kinds` is missing, or one of `kinds` or `may_lack` holds another type.
    """
    try:
        value = read_json(path)
    except DataError as error:
        raise RequestError(f"{error}. {DAMAGED_FIX}") from None
    there = {key: kind for key, kind in (may_lack or {}).items() if key in value}
    for key, kind in {**(kinds or {}), **there}.items():
        if not isinstance(value.get(key), kind):
            how = f"'{key}' is not a {kind.__name__}" if key in value else f"has no '{key}'"
            raise RequestError(f"{path}: {how}. {DAMAGED_FIX}")
    return value


def inside(folder: Path, path: Path) -> Path:
    """`path`, which is to be written below `folder`.

    Raises:
        RequestError: a link of the folder leads out of it; the folder may be a stranger's.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RequestError(f"{path}: a link leads out of {folder}, so nothing is written there.")
    return path


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn what a damaged file of a run, study or record raises into a `RequestError` that names it."""
    try:
        yield
    except RequestError:
        raise
    except DAMAGED as error:
        raise RequestError(f"{path}: damaged ({type(error).__name__}: {error}). {DAMAGED_FIX}") from error


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """The rows of a metrics file as text; a last line that was cut off by a kill is left out.

    Raises:
        ValueError: the file is damaged; the message names it and the line.
    """
    try:
        text = Path(path).read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: damaged, it is not text: {error}") from None
    whole = text[: text.rfind("\n") + 1]
    try:
        rows = [row for row in csv.DictReader(whole.splitlines()) if row.get("step")]
    except csv.Error as error:
        raise ValueError(f"{path}: damaged: {error}") from None
    for number, row in enumerate(rows, 2):
        if not row["step"].isdigit() or None in row:
            raise ValueError(f"{path}: damaged, line {number} is not a row of metrics")
    return rows


def resources(metrics: Path) -> dict[str, Any]:
    """`memory` (`cpu_peak_bytes`, `gpu_peak_bytes`) and `throughput` (`per_second`, the median; `unit`) of a run.

    A value that no callback measured is None.
    """
    rows = read_metrics(metrics) if metrics.is_file() else []
    columns = {
        key: [float(row[key]) for row in rows if row.get(key)]
        for key in (rows[0] if rows else ())
        if RATE.fullmatch(key) or key.startswith("memory/")
    }
    peaks = {d: max(columns.get(f"memory/{d}_peak_mib", []), default=None) for d in ("cpu", "gpu")}
    rates = [
        {"per_second": round(statistics.median(values), 1), "unit": match[1]}
        for key, values in columns.items()
        if (match := RATE.fullmatch(key)) and values
    ]
    return {
        "memory": {
            f"{d}_peak_bytes": None if mib is None else round(mib * 2**20) for d, mib in peaks.items()
        },
        "throughput": rates[0] if rates else None,
    }


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def command() -> str:
    """The command line of this process, as one could type it again."""
    return COMMAND.get() or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


@contextlib.contextmanager
def recorded_as(text: str) -> Iterator[None]:
    """Let `text` stand for this process' command line, which says nothing in a notebook."""
    token = COMMAND.set(text)
    try:
        yield
    finally:
        COMMAND.reset(token)
