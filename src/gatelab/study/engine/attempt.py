"""One claimed row, from its parameters to its value: its runs one after the other, and what each end means.

A run that was killed gives the row back as lost, one that was asked to stop gives it back, one that failed or was
refused fails the row, one that was pruned prunes it. Slots and signals are the worker's business (`worker.py`).
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from gatelab.run.errors import RequestError
from gatelab.run.record.directory import RunDirectory, write_json
from gatelab.run.record.identity import Identity
from gatelab.run.record.secrets import without_secrets
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.process import Process, Runner
from gatelab.study.engine.queue import Claim, Queue
from gatelab.study.engine.reports import Reports
from gatelab.study.engine.shares import Share
from gatelab.study.engine.trial import REQUEST_FORMAT, end_file
from gatelab.study.spec import StudySpec
from gatelab.trackers.wandb.agent import forget_agent

TAIL_BYTES = 4000


@dataclass
class Run:
    """One run of a point.

    Attributes:
        plain: its configuration; identity: which run it is; fold: of the data, if any.
    """

    plain: dict[str, Any]
    identity: Identity
    fold: int | None

    def directory(self, cwd: Path) -> RunDirectory:
        """Its run directory."""
        return RunDirectory(cwd / self.identity.directory(self.plain["paths"]["runs"]))


@dataclass
class End:
    """How a run ended: done, pruned, interrupted, lost, failed or refused; and why, unless it is done."""

    outcome: str
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)


@dataclass
class Means:
    """What every attempt of a worker shares.

    Attributes:
        stopping: set when runs are asked to stop.
        share: a slot's share of the machine, from its run's `trainer` group.
        env: the worker's environment; cwd: that of the sweep, for relative paths in the configuration.
    """

    directory: StudyDirectory
    frozen: StudySpec
    queue: Queue
    runner: Runner
    reports: Reports
    stopping: threading.Event
    share: Callable[[int, Mapping[str, Any]], Share]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=lambda: environment())


def environment() -> dict[str, str]:
    """This process' environment, right for a run in another working directory too."""
    env = dict(os.environ)
    if "PYTHONPATH" in env:
        env["PYTHONPATH"] = os.pathsep.join(
            str(Path(p).absolute()) for p in env["PYTHONPATH"].split(os.pathsep)
        )
    if env.get("GATELAB_DATA_MIRROR"):
        env["GATELAB_DATA_MIRROR"] = str(Path(env["GATELAB_DATA_MIRROR"]).absolute())
    forget_agent(env)
    return env


class Attempt:
    """Carries one claim out.

    Attributes:
        process: of the run that goes on now.
    """

    def __init__(self, means: Means, claim: Claim, slot: int) -> None:
        self.means, self.claim, self.slot = means, claim, slot
        self.process: Process | None = None
        self.notes: dict[str, Any] = {}

    def carry_out(self) -> str:
        """Run everything that the row asks for and write down what came of it.

        Returns:
            the row's new state: complete, pruned, fail, waiting, or `taken` if it is somebody else's by now.
        """
        queue, ends = self.means.queue, []
        try:
            runs = self._plan()
            queue.note(self.claim, {"runs": self.notes["runs"]})
            for step, run in enumerate(runs):
                end = self._run(run, alone=len(runs) == 1)
                if end.outcome != "done":
                    return self._stop_at(end)
                ends.append(self._values(run, end.result))
                self._count(ends[-1], end.result)
                if self._prune_between(step, ends, len(runs)):
                    return self._tell(TrialState.PRUNED)
        except RequestError as error:
            return self._fail(str(error))
        except (
            Exception
        ) as error:  # one bad point must not end the slot; if this cannot be told either, it does
            traceback.print_exc()
            return self._fail(f"{type(error).__name__}: {error}")
        values = [statistics.fmean(column) for column in zip(*ends, strict=True)]
        return self._tell(TrialState.COMPLETE, values)

    def _plan(self) -> list[Run]:
        means = self.means
        try:
            params = means.queue.propose(self.claim, means.frozen.space.propose)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise RequestError(f"the space: {type(error).__name__}: {error}") from error
        runs = []
        for seed, fold in means.frozen.replicates():
            plain, identity = means.frozen.config(params, seed, fold)
            runs.append(Run({**plain, "test": False}, identity, fold))
        root = (means.cwd / runs[0].plain["paths"]["root"]).absolute()
        self.notes["runs"] = [_below(root, run.directory(means.cwd).path.absolute()) for run in runs]
        if means.frozen.settings.budget:
            self.notes["hidden"] = [run.plain["model"].get("hidden_size") for run in runs]
        return runs

    def _run(self, run: Run, *, alone: bool) -> End:
        means = self.means
        path = means.directory.request(self.claim.number, run.identity.seed, run.fold)
        share = means.share(self.slot, run.plain["trainer"])
        name = f"{self.claim.number}/{path.stem}"
        reporting = alone and not means.queue.several
        write_json(
            path,
            {
                "format": REQUEST_FORMAT,
                "study": means.frozen.settings.name,
                "number": self.claim.number,
                "run": name,
                "monitor": means.frozen.objectives[0][0],
                "reports": means.reports.address if reporting else None,
                "slot": self.slot,
                "threads": share.threads,
                "identity": vars(run.identity),
                "config": run.plain,
            },
        )
        for old in (end_file(path), *path.parent.glob(f"{path.stem}.rank*.json")):
            old.unlink(missing_ok=True)
        if reporting:
            means.reports.admit(name, lambda step, value: means.queue.report(self.claim, step, value))
        try:
            code = self._wait(path, share.environment(means.env))
        finally:
            means.reports.dismiss(name)
        return self._judge(run, path, code)

    def stop(self, *, now: bool = False) -> None:
        """Ask the run that goes on to save itself and leave, or kill it."""
        process = self.process
        if process is not None:
            process.kill() if now else process.terminate()

    def _wait(self, path: Path, env: dict[str, str]) -> int:
        if self.means.stopping.is_set():
            return -int(signal.SIGTERM)
        process = self.means.runner.start(path, path.with_suffix(".log"), env, self.means.cwd)
        self.process = process
        if self.means.stopping.is_set():  # it was set while the run began, so nobody has told the run
            process.terminate()
        try:
            return process.wait()
        finally:
            self.process = None

    def _judge(self, run: Run, path: Path, code: int) -> End:
        """What the exit code and the files say together."""
        end = _read(end_file(path))
        ranks = [
            found for file in sorted(path.parent.glob(f"{path.stem}.rank*.json")) if (found := _read(file))
        ]
        if end is not None and code >= 0:
            if end["outcome"] in ("done", "pruned"):
                return End(end["outcome"], end["error"] or "", run.directory(self.means.cwd).result() or {})
            return End(end["outcome"], ranks[0]["error"] if ranks else end["error"])
        if self.means.stopping.is_set():
            return End("interrupted", "the worker was asked to stop")
        if ranks:
            return End("failed", ranks[0]["error"])
        if code < 0:
            name = signal.Signals(-code).name
            return End("lost", f"killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}")
        return End("failed", _last_line(path.with_suffix(".log")) or f"exit code {code}")

    def _stop_at(self, end: End) -> str:
        if end.outcome == "pruned":
            self.notes |= {"seconds": end.result["seconds"]["fit"], "parameters": end.result["parameters"]}
            return self._tell(TrialState.PRUNED)
        if end.outcome in ("interrupted", "lost"):
            lost = end.outcome == "lost"
            given = self.means.queue.give_back(self.claim, end.error, lost=lost)
            return "waiting" if given else "taken"
        return self._fail(end.error)

    def _values(self, run: Run, result: Mapping[str, Any]) -> list[float]:
        return [value_of(result, metric) for metric, _ in self.means.frozen.objectives]

    def _count(self, values: list[float], result: Mapping[str, Any]) -> None:
        self.notes.setdefault("values", []).append(values[0])
        self.notes["seconds"] = round(self.notes.get("seconds", 0.0) + result["seconds"]["fit"], 2)
        self.notes["parameters"] = result["parameters"]

    def _prune_between(self, step: int, ends: list[list[float]], runs: int) -> bool:
        """Report a run's value where a point has several; the pruner is asked while runs are left."""
        if runs == 1 or self.means.queue.several:
            return False
        return self.means.queue.report(self.claim, step, ends[-1][0]) and step + 1 < runs

    def _fail(self, error: str) -> str:
        self.notes["error"] = without_secrets(error)
        return self._tell(TrialState.FAIL)

    def _tell(self, state: TrialState, values: list[float] | None = None) -> str:
        told = self.means.queue.tell(self.claim, values, state=state, attributes=self.notes)
        return told.name.lower() if told is not None else "taken"


def value_of(result: Mapping[str, Any], metric: str) -> float:
    """An objective of a finished run: `val/...`, `parameters` or `seconds`.

    Raises:
        RequestError: the run has no such figure.
    """
    if metric == "parameters":
        return float(result["parameters"])
    if metric == "seconds":
        return float(result["seconds"]["fit"])
    figures = result["splits"].get("valid", {}).get("metrics", {})
    name = metric.removeprefix("val/")
    if name not in figures:
        have = ", ".join([*(f"val/{key}" for key in figures), "parameters", "seconds"])
        raise RequestError(f"study.objectives: '{metric}' is not among the figures of a run: {have}.")
    return float(figures[name])


def _below(root: Path, path: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _last_line(log: Path) -> str:
    try:
        text = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
