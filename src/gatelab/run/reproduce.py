"""Make a run again and compare: the loss of every step and the weights after every epoch, bit for bit.

The recorded configuration is trained once more by a process of its own, in a temporary place, with the recorded
threads and environment variables. Its `trace.csv` is compared with the recorded one while it grows, so the first
difference ends it. What the comparison means is `Verdict.exit_code`; nothing is written beside the recorded run.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gatelab.run.again import GPUS, again, environment_for
from gatelab.run.build import request_errors
from gatelab.run.differences import Difference, between, environments
from gatelab.run.errors import RequestError, RunFailed
from gatelab.run.record.directory import RunDirectory, write_json
from gatelab.run.record.identity import Identity
from gatelab.study.engine.run_trial import REQUEST_FORMAT, end_file
from gatelab.study.engine.runner import FreshRunner, Process
from gatelab.tasks.trace import Row, parse_trace, read_trace

POLL_SECONDS = 0.1


@dataclass
class Parting:
    """The first row in which two traces differ; None where one of them has ended."""

    step: int
    epoch: int
    what: str
    recorded: str | None
    reproduced: str | None

    def __str__(self) -> str:
        where = f"the {self.what} of step {self.step}"
        if self.what == "weights":
            where = f"the weights after epoch {self.epoch + 1}" if self.step else "the initial weights"
        if self.recorded is None or self.reproduced is None:
            return f"{where}: {'recorded' if self.reproduced is None else 'reproduced'} only"
        return f"{where}: recorded {_figure(self, 'recorded')}, now {_figure(self, 'reproduced')}"


@dataclass
class Verdict:
    """What came of a reproduction.

    Attributes:
        run: the recorded run's directory; overrides: what was changed on purpose.
        steps, epochs: how many losses and hashes of weights were compared, up to the first difference.
        first: the first difference after training began, or None; initial: that of the initial weights, or None.
        environment: what differs in code, versions, processor, threads, variables and data.
        strict: another environment is not accepted even if every number is the same.
        kept: the directory of the new run, if it was asked for.
    """

    run: str
    overrides: list[str]
    steps: int = 0
    epochs: int = 0
    initial: Parting | None = None
    first: Parting | None = None
    environment: list[Difference] = field(default_factory=list)
    strict: bool = False
    kept: str | None = None

    @property
    def exit_code(self) -> int:
        """0 the same; 1 it differs; 2 it differs, or is not accepted, and so is the environment different."""
        differs = self.first is not None or self.initial is not None
        if self.environment and (differs or self.strict):
            return 2
        return int(differs)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        environment = [difference._asdict() for difference in self.environment]
        return {**asdict(self), "environment": environment, "exit_code": self.exit_code}


def reproduce(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    steps: int | None = None,
    keep: Path | None = None,
    strict: bool = False,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Verdict:
    """Train the run in `path` again, compare, and remove what was trained.

    Args:
        path: the run directory; it is only read.
        overrides: what to change, e.g. `["seed=1"]`, to see that it matters.
        steps: compare so many training steps only; None: all that are recorded.
        keep: a new folder for the new run, which is then trained to its end.
        strict: see `Verdict`.
        on_step: told (steps compared, steps to compare) a few times a second.

    Raises:
        RequestError: no such run, no trace of it, or the configuration cannot be run here.
        RunFailed: the new run failed before it came as far as the recorded one.
    """
    run = RunDirectory.open(path)
    record, expected = run.read(), _expected(run, steps)
    if keep is not None and keep.exists():
        raise RequestError(f"--keep {keep}: exists already; name a new folder.")
    place = Path(tempfile.mkdtemp(prefix="gatelab-reproduce-")) if keep is None else keep.absolute()
    place.mkdir(parents=True, exist_ok=True)
    verdict = Verdict(str(run.path), list(overrides), strict=strict)
    try:
        with _Again(record, overrides, place) as new:
            _compare(expected, new, verdict, on_step)
            verdict.environment = new.differences(record)
            if keep is not None:
                new.finish()
                verdict.kept = str(new.run.path)
    finally:
        if keep is None:
            shutil.rmtree(place, ignore_errors=True)
    return verdict


def _expected(run: RunDirectory, steps: int | None) -> list[Row]:
    if not run.trace_file.is_file():
        raise RequestError(
            f"{run.path}: holds no trace.csv: it was not trained, or by a version of Gatelab that kept none."
        )
    if steps is not None and steps < 1:
        raise RequestError(f"--steps {steps}: at least 1.")
    with request_errors(""):
        rows = read_trace(run.trace_file)
    found = rows if steps is None else [row for row in rows if row.step <= steps]
    if not any(row.what == "loss" for row in found):
        raise RequestError(f"{run.trace_file}: holds no step to compare.")
    return found


def _compare(expected: list[Row], new: _Again, verdict: Verdict, on_step: Callable[[int, int], None]) -> None:
    """Follow the new trace until the first difference or the last expected row."""
    rows = iter(expected)
    wanted = next(rows)
    total = expected[-1].step
    for row in new.rows():
        if row.step < expected[0].step:  # the record may begin later, if an older version began the run
            continue
        if row[:3] == wanted[:3] and row.step == 0:  # go on: the first step shows what it amounts to
            verdict.initial = None if row == wanted else parting(wanted, row)
        elif row != wanted:
            verdict.first = parting(wanted, row)
            return
        verdict.steps += row.what == "loss"
        verdict.epochs += row.what == "weights" and row.step > 0
        on_step(row.step, total)
        following = next(rows, None)
        if following is None:
            return
        wanted = following
    verdict.first = Parting(*wanted, None)


def parting(wanted: Row, row: Row) -> Parting:
    """The difference of two rows at the same place of two traces; if they are of different moments, of the earlier."""
    if wanted[:3] == row[:3]:
        return Parting(*wanted, row.value)
    return Parting(*wanted, None) if wanted[:3] < row[:3] else Parting(*row[:3], None, row.value)


def _figure(found: Parting, side: str) -> str:
    value = str(getattr(found, side))
    return f"{value} ({float.fromhex(value):.9g})" if found.what == "loss" else f"{value[:12]}..."


class _Again:
    """The new run: its process, its trace as it grows, its end. Leaving the context ends the process."""

    def __init__(self, record: dict[str, Any], overrides: Sequence[str], place: Path) -> None:
        attempt = record["attempts"][-1]
        plain = again(record, overrides, place)
        cwd = Path(attempt["cwd"])
        identity = Identity(**{**record["identity"], "seed": plain["seed"]})
        self.cwd = cwd if cwd.is_dir() else Path.cwd()
        self.run = RunDirectory(identity.directory(plain["paths"]["runs"]))
        self.request, self.log = place / "request.json", place / "log.txt"
        self.env = environment_for(attempt)
        write_json(
            self.request,
            {
                "format": REQUEST_FORMAT,
                "study": None,
                "number": 0,
                "run": "again",
                "monitor": None,
                "reports": None,
                "threads": plain["threads"],
                "identity": vars(identity),
                "config": plain,
            },
        )
        self._process: Process | None = None
        self._code: int | None = None

    def __enter__(self) -> _Again:
        self._process = FreshRunner().start(self.request, self.log, self.env, self.cwd)
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()
        return self

    def _wait(self) -> None:
        assert self._process is not None
        self._code = self._process.wait()

    def __exit__(self, *_: object) -> None:
        if self._code is None and self._process is not None:
            self._process.kill()
        self._waiter.join()

    def rows(self) -> Any:
        """Yield the rows of the trace as they are written, until the run has ended.

        Raises:
            RequestError, RunFailed: the run was refused or failed; not before its last row was yielded.
        """
        offset = 0
        while True:
            ended = self._code is not None  # asked before reading, so that the last rows are not missed
            if self.run.trace_file.is_file():
                with self.run.trace_file.open("rb") as file:
                    file.seek(offset)
                    new = file.read()
                whole = new[: new.rfind(b"\n") + 1]
                offset += len(whole)
                yield from parse_trace(whole.decode())
            if ended:
                self.check_end()
                return
            time.sleep(POLL_SECONDS)

    def finish(self) -> None:
        """Wait for the end of the run."""
        self._waiter.join()

    def check_end(self) -> None:
        """Raise if the run did not come to its end."""
        if self._code == 0:
            return
        file = end_file(self.request)
        end = json.loads(file.read_text()) if file.is_file() else None
        if end is None:
            tail = self.log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing was printed"]
            raise RunFailed(f"the new run ended with exit code {self._code}: {tail[0]}")
        error = RequestError if end["outcome"] == "refused" else RunFailed
        raise error(f"the run cannot be made again: {end['error']}")

    def differences(self, record: dict[str, Any]) -> list[Difference]:
        """What differs in the environment of any attempt of the recorded run, and in its data."""
        if not self.run.run_file.is_file():
            return []
        mine = self.run.read()
        now = mine["attempts"][-1]["environment"]
        found = [d for attempt in record["attempts"] for d in environments(attempt["environment"], now)]
        found += between(record.get("data", {}), mine.get("data", {}), "data")
        return list({str(d): d for d in found if d.key != f"variables.{GPUS}"}.values())
