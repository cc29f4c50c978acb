"""A worker: claims trials while there are any, and carries each out in one of its slots, run by run. A slot for which
no trial waits takes runs of the trials that go on in the others, so that the seeds of one point use all slots.

`python -m gatelab.study.engine.worker STUDY INDEX LAUNCHER`, on any machine that sees the study's folder; workers
have no leader. Which trial a worker may have is `queue.py`, how a run's process is started `runner.py`.

A trial becomes complete, pruned or failed, or waits again: requeued as lost if its run was killed, as interrupted if
the worker was asked to stop. A stop is asked for by a signal or the study's `stop` file: runs save themselves and
their trials wait again. A second SIGINT, or `now` in the file, kills the runs.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from gatelab.data.messages import few, printable, say
from gatelab.run import RequestError
from gatelab.run.frozen_run import (
    EventReader,
    EventWriter,
    child_environment,
    end_of,
    events_file,
    write_request,
)
from gatelab.run.process_group import PARENT, die_with_parent
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.identity import Identity
from gatelab.run.record.secrets import masked_output, without_secrets
from gatelab.study.engine.directory import Heartbeat, Owner, StudyDirectory
from gatelab.study.engine.queue import Claim, Queue
from gatelab.study.engine.resources import allocation
from gatelab.study.engine.runner import ForkRunner, FreshRunner, Process, Runner, answers_file
from gatelab.study.spec import StudySpec
from gatelab.tasks.signals import StopRequested, StopSignals

POLL_SECONDS = 0.2
"""Time between two looks for stop requests and for trials that were requeued."""
RUN_POLL_SECONDS = 0.02
"""Time between two looks at the events of a run."""
ORPHAN_SECONDS = 2.0
"""Time between two looks for trials of dead workers."""
TAIL_BYTES = 4000
GRAVEST = ("failed", "refused", "pruned", "lost", "interrupted")
"""Ends of a run that end its trial early; of several runs the first of these decides."""


class Worker:
    """One worker of a study.

    Args:
        path: the study's folder.
        index: which of the study's workers it is, from 0: slots of one machine share its GPUs by it.
        launcher: what started it; it tells whether all workers are on this machine.
        runner: starts the runs, and stays the caller's; None: one after `study.isolation`.

    Raises:
        RequestError: no such study, or its storage cannot be opened.
    """

    def __init__(
        self, path: str | Path, index: int = 0, launcher: str = "local", runner: Runner | None = None
    ) -> None:
        self.directory = StudyDirectory.open(path)
        self.spec = StudySpec.load(self.directory.path, code=True)
        self.settings, self.index, self.launcher = self.spec.settings, index, launcher
        self.owner = Owner.me(index, self.settings.slots, launcher)
        self._given = runner
        self.runner: Runner = runner or (ForkRunner() if self.settings.isolation == "fork" else FreshRunner())
        self.queue = Queue(self.directory)  # while the fork server imports everything
        self.cwd = Path.cwd() / str(self.spec.record.get("cwd") or ".")
        self.env = child_environment()
        self.stopping = threading.Event()
        self.ended: Counter[str] = Counter()
        self.errors: list[str] = []
        self._lock = threading.Lock()
        self._attempts: dict[int, Attempt] = {}
        self._looked_for_orphans = float("-inf")
        self._until = time.monotonic() + (self.settings.timeout or float("inf"))
        self._signals = StopSignals()

    def run(self) -> dict[str, Any]:
        """Work until nothing is left, or until asked to stop.

        Returns:
            `worker` (its id), `ended` (trials by what became of them here), `interrupted`, and `errors` of slots that
            could not go on.
        """
        heartbeat = Heartbeat(self.owner, self.directory.workers)
        numbers = range(self.settings.slots)
        slots = [threading.Thread(target=self._slot, args=(n,), name=f"slot-{n}") for n in numbers]
        heartbeat.start()
        try:
            self._signals.listen()
            for slot in slots:
                slot.start()
            while any(slot.is_alive() for slot in slots):
                self._look_for_stop()
                time.sleep(POLL_SECONDS)
        except StopRequested:  # the second SIGINT
            self._stop(now=True)
        finally:
            # after an error of this thread, which alone hears stop requests
            if any(slot.is_alive() for slot in slots):
                self._stop(now=True)
            for slot in slots:
                slot.join()
            if self._given is None:
                self.runner.close()
            heartbeat.stop()
            self.queue.close()
            self._signals.release()
        return {
            "worker": self.owner.id,
            "ended": dict(self.ended),
            "interrupted": self.stopping.is_set(),
            "errors": self.errors,
        }

    def _slot(self, slot: int) -> None:
        try:
            while (claim := self._next_claim(slot)) is not None:
                attempt = self._attempts[slot] = Attempt(self, claim, slot)
                outcome = attempt.carry_out()
                with self._lock:
                    self.ended[outcome] += 1
        except Exception as error:  # the queue cannot be used; the trial is requeued when the worker has left
            traceback.print_exc()
            self.errors.append(f"slot {slot}: {type(error).__name__}: {error}")

    def _next_claim(self, slot: int) -> Claim | None:
        """The next trial for a slot; None when nothing is left that could be requeued, or when it is time to stop.

        While no trial waits it carries out runs of the other slots' trials.
        """
        queue, limit, stopping = self.queue, self.settings.max_failures, self.stopping
        while not stopping.is_set() and time.monotonic() < self._until:
            self._requeue_orphans()
            if limit is not None and queue.counts()["fail"] >= limit:
                return None
            claim = queue.claim(f"{self.owner.id}/{slot}")
            if claim is not None:
                return claim
            if not queue.unfinished():
                return None
            for attempt in list(self._attempts.values()):
                attempt.help_from(slot)
            stopping.wait(POLL_SECONDS)
        return None

    def _requeue_orphans(self) -> None:
        with self._lock:
            due = time.monotonic() - self._looked_for_orphans >= ORPHAN_SECONDS
            self._looked_for_orphans = time.monotonic() if due else self._looked_for_orphans
        if due:
            for number in self.queue.requeue_orphans():
                say(f"trial {number}: its worker died; it waits again")

    def _look_for_stop(self) -> None:
        request = self.directory.stopping()
        if request == "now":
            self._stop(now=True)
        elif (request == "soon" or self._signals.received) and not self.stopping.is_set():
            self._stop()

    def _stop(self, *, now: bool = False) -> None:
        self.stopping.set()
        for attempt in list(self._attempts.values()):
            attempt.stop(now=now)


@dataclass
class Run:
    """One run of a trial.

    Attributes:
        config: resolved; identity: which run it is; fold: of the data, if any.
    """

    config: dict[str, Any]
    identity: Identity
    fold: int | None

    def directory(self, cwd: Path) -> RunDirectory:
        """Its run directory."""
        return RunDirectory(cwd / self.identity.directory(self.config["paths"]["runs"]))


@dataclass
class Outcome:
    """How a run ended: done, or one of `GRAVEST`, and why. A run that is done has a value of each objective."""

    outcome: str
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    values: list[float] = field(default_factory=list)


class Attempt:
    """Carries one claimed trial out: its runs, and its values from their results.

    Its slot takes the runs one after the other. Idle slots help, each with the next run that nobody has begun, unless
    the study has a pruner, which decides after each run whether there is a next one. After a run that is not done no
    other is begun; those that go on are waited for, since what they find is kept.
    """

    def __init__(self, worker: Worker, claim: Claim, slot: int) -> None:
        self.worker, self.claim, self.slot = worker, claim, slot
        self.notes: dict[str, Any] = {}
        self.runs: list[Run] = []
        self.ends: dict[int, Outcome] = {}  # of the runs that have ended, by their index
        self._begun, self._pruned = 0, False
        self._processes: dict[int, Process] = {}  # by slot
        self._changed = threading.Condition()

    def carry_out(self) -> str:
        """Run everything that the trial asks for and tell the queue what came of it.

        Returns:
            the trial's new state: complete, pruned, fail, waiting, or `taken` if it is another claim's by now.
        """
        try:
            runs = self._plan()
            self.worker.queue.note(self.claim, {"runs": self.notes["runs"]})
        except RequestError as error:
            return self._fail(str(error))
        except Exception as error:
            traceback.print_exc()
            return self._fail(f"{type(error).__name__}: {error}")
        self.runs = runs  # from now on other slots may help
        self._work(self.slot)
        with self._changed:
            self._changed.wait_for(lambda: len(self.ends) == self._begun)
        return self._conclude()

    def help_from(self, slot: int) -> None:
        """Carry out runs in another slot of the worker, until all have been begun."""
        if self.worker.queue.several or self.worker.settings.pruner == "none":
            self._work(slot)

    def stop(self, *, now: bool = False) -> None:
        """Ask the runs that go on to save themselves and leave, or kill them."""
        for process in list(self._processes.values()):
            process.kill() if now else process.terminate()

    def _work(self, slot: int) -> None:
        while (index := self._next_run()) is not None:
            end = self._carry_out_run(index, slot)
            with self._changed:
                self.ends[index] = end
                self._changed.notify_all()

    def _next_run(self) -> int | None:
        """The index of the next run, which is the caller's from now on; None if no further one is to begin."""
        with self._changed:
            stopped = self._pruned or any(end.outcome != "done" for end in self.ends.values())
            if stopped or self._begun == len(self.runs):
                return None
            self._begun += 1
            return self._begun - 1

    def _carry_out_run(self, index: int, slot: int) -> Outcome:
        try:
            end = self._run(self.runs[index], slot)
            if end.outcome == "done":
                objectives = self.worker.spec.objectives
                end.values = [value_of(end.result, metric) for metric, _ in objectives]
                self._report_run(index, end.values[0])
            return end
        except RequestError as error:
            return Outcome("failed", str(error))
        except Exception as error:  # one bad point must not end the slot
            traceback.print_exc()
            return Outcome("failed", f"{type(error).__name__}: {error}")

    def _conclude(self) -> str:
        """Tell the queue what the ends of all runs say together."""
        ends = [self.ends[index] for index in range(self._begun)]
        done = [end for end in ends if end.outcome == "done"]
        if done:
            self.notes["values"] = [end.values[0] if end.values else None for end in ends]
            self.notes["seconds"] = round(sum(end.result["seconds"]["fit"] for end in done), 2)
            self.notes["parameters"] = done[-1].result["parameters"]
        early = [end for end in ends if end.outcome != "done"]
        if early:
            return self._end_early(min(early, key=lambda end: GRAVEST.index(end.outcome)))
        if self._pruned:
            return self._tell(TrialState.PRUNED)
        columns = zip(*(end.values for end in done), strict=True)
        return self._tell(TrialState.COMPLETE, [statistics.fmean(column) for column in columns])

    def _plan(self) -> list[Run]:
        worker, spec = self.worker, self.worker.spec
        try:
            params = worker.queue.propose(self.claim, spec.space.propose)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise RequestError(f"the space: {type(error).__name__}: {error}") from error
        runs = []
        for seed, fold in spec.replicates():
            config, identity = spec.config(params, seed, fold)
            runs.append(Run({**config, "test": False}, identity, fold))
        root = (worker.cwd / runs[0].config["paths"]["root"]).absolute()
        self.notes["runs"] = [_below(root, run.directory(worker.cwd).path.absolute()) for run in runs]
        if spec.settings.budget:
            self.notes["hidden"] = [run.config["model"].get("hidden_size") for run in runs]
        return runs

    def _run(self, run: Run, slot: int) -> Outcome:
        worker, spec = self.worker, self.worker.spec
        # one study does not mix the results of two codes; the next command says so
        if names := spec.edited():
            worker.errors.append(
                f"the code has changed since the study began ({few(names)}); nothing more is run"
            )
            worker.stopping.set()
            return Outcome("interrupted", "the code has changed")
        request = worker.directory.request(self.claim.number, run.identity.seed, run.fold)
        allowed = allocation(worker.settings, worker.index, worker.launcher, slot, run.config["trainer"])
        reports = len(self.runs) == 1 and not worker.queue.several
        answers_file(events_file(request)).unlink(missing_ok=True)
        own = run.config["threads"]
        write_request(
            request,
            {**run.config, "threads": own and min(own, allowed.threads)},
            run.identity,
            threads=allowed.threads,
            study=spec.settings.name,
            number=self.claim.number,
            monitor=spec.objectives[0][0],
            reports=reports,
            prunes=reports and spec.settings.pruner != "none",
            keep_code_change="kept_code_changes" in spec.record,
        )
        code = self._follow(request, slot, allowed.environment(worker.env), reports=reports)
        return self._judge(run, request, code)

    def _follow(self, request: Path, slot: int, env: Mapping[str, str], *, reports: bool) -> int:
        """Start the run and give its validations to Optuna until it has ended; its exit code."""
        worker = self.worker
        if worker.stopping.is_set():
            return -int(signal.SIGTERM)
        process = worker.runner.start(request, request.with_suffix(".log"), env, worker.cwd)
        self._processes[slot] = process
        if worker.stopping.is_set():  # it was set while the run began, so that `stop` did not find it
            process.terminate()
        events = EventReader(events_file(request))
        answers = EventWriter(answers_file(events.path))
        try:
            while (code := process.poll()) is None:
                self._report(events, answers, reports)
                time.sleep(RUN_POLL_SECONDS)
            self._report(events, answers, reports)
            return code
        finally:
            del self._processes[slot]

    def _report(self, events: EventReader, answers: EventWriter, reports: bool) -> None:
        for event in events.read():
            if event["event"] != "validation" or not reports:
                continue
            prune = False
            try:
                prune = self.worker.queue.report(self.claim, event["index"], event["value"])
            except Exception as error:  # whatever it is, the run must go on
                say(f"trial {self.claim.number}: validation {event['index']} was not reported: {error}")
            if event["asks"]:
                answers.write("answer", index=event["index"], prune=prune)

    def _judge(self, run: Run, request: Path, code: int) -> Outcome:
        """What the exit code and the events say together."""
        end = end_of(request)
        if end is not None and (code >= 0 or end["rank"] > 0):
            result = run.directory(self.worker.cwd).result() if end["outcome"] in ("done", "pruned") else None
            return Outcome(end["outcome"], end["error"] or "", result or {})
        if self.worker.stopping.is_set():
            return Outcome("interrupted", "the worker was asked to stop")
        if code < 0:
            name = signal.Signals(-code).name
            return Outcome("lost", f"killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}")
        return Outcome("failed", _last_line(request.with_suffix(".log")) or f"exit code {code}")

    def _end_early(self, end: Outcome) -> str:
        if end.outcome == "pruned":
            self.notes |= {"seconds": end.result["seconds"]["fit"], "parameters": end.result["parameters"]}
            return self._tell(TrialState.PRUNED)
        if end.outcome in ("interrupted", "lost"):
            requeued = self.worker.queue.requeue(self.claim, end.error, lost=end.outcome == "lost")
            return "waiting" if requeued else "taken"
        return self._fail(end.error)

    def _report_run(self, index: int, value: float) -> None:
        """Report a run's value where a trial has several runs; the pruner is asked while runs are left."""
        if len(self.runs) == 1 or self.worker.queue.several:
            return
        with self._changed:  # Optuna's trial is not made for several threads
            prune = self.worker.queue.report(self.claim, index, value)
            self._pruned = prune and index + 1 < len(self.runs)

    def _fail(self, error: str) -> str:
        self.notes["error"] = without_secrets(error)
        return self._tell(TrialState.FAIL)

    def _tell(self, state: TrialState, values: list[float] | None = None) -> str:
        told = self.worker.queue.tell(self.claim, values, state=state, attributes=self.notes)
        return told.name.lower() if told is not None else "taken"


def value_of(result: Mapping[str, Any], metric: str) -> float:
    """An objective of a finished run: `val/...`, `parameters` or `seconds`.

    Raises:
        RequestError: the run has no such metric.
    """
    if metric == "parameters":
        return float(result["parameters"])
    if metric == "seconds":
        return float(result["seconds"]["fit"])
    metrics = result["splits"].get("valid", {}).get("metrics", {})
    name = metric.removeprefix("val/")
    if name not in metrics:
        have = ", ".join([*(f"val/{key}" for key in metrics), "parameters", "seconds"])
        raise RequestError(f"study.objectives: '{metric}' is not among the metrics of a run: {have}.")
    return float(metrics[name])


def _below(root: Path, path: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _last_line(log: Path) -> str:
    try:
        text = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def main(arguments: Sequence[str]) -> int:
    """Be one worker; 1 if a slot could not go on. With `$GATELAB_PARENT` it dies with the process that started it."""
    if PARENT in os.environ:
        die_with_parent()
    study, index, launcher = arguments
    with masked_output():
        done = Worker(study, int(index), launcher).run()
        for error in done["errors"]:
            print(printable(str(error)), file=sys.stderr)
    return 1 if done["errors"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
