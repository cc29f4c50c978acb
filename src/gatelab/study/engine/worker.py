"""A worker: claims rows while there are any, and carries them out in its slots until told to stop.

Any launcher may start it, on any machine that sees the study's folder: `Worker(path, index).run()`. It needs no
leader. What becomes of one row is `attempt.py`; who may have it is `queue.py`.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gatelab.run.messages import say
from gatelab.study.engine.attempt import Attempt, Means
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.group import Leader, Place
from gatelab.study.engine.owner import Heartbeat, Owner
from gatelab.study.engine.process import ForkRunner, FreshRunner, Runner
from gatelab.study.engine.queue import Claim, Queue
from gatelab.study.engine.reports import Reports
from gatelab.study.engine.shares import Shares
from gatelab.study.engine.spread import SpreadRunner
from gatelab.study.spec import StudySpec

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
LOOK_SECONDS = 0.2
"""Time between two looks for a wish to stop, and for rows that came back."""
REAP_SECONDS = 2.0
"""Time between two looks for rows of dead workers, and between two waits for the disk."""


class Worker:
    """One worker of a study.

    Args:
        path: the study's folder.
        index: which of the study's workers it is, from 0: slots of one machine share its GPUs by it.
        launcher: what started it; it tells whether all workers are on this machine.
        runner: what starts the runs, and stays the caller's; None: one after `study.isolation`.
        place: of a worker with followers; None: its trials take one node.

    Raises:
        RequestError: no such study, or its storage cannot be opened.
    """

    def __init__(
        self,
        path: str | Path,
        index: int = 0,
        launcher: str = "local",
        runner: Runner | None = None,
        place: Place | None = None,
    ) -> None:
        self.directory = StudyDirectory.open(path)
        self.frozen = StudySpec.load(self.directory.path)
        self.settings = self.frozen.settings
        self.queue = Queue(self.directory)
        self._given, self.place = runner, place or Place(index=index)
        self.leader = Leader(self.directory.path, self.place) if self.place.nodes > 1 else None
        self.owner = Owner.me(index, self.settings.slots, launcher)
        self.stopping, self._lock = threading.Event(), threading.Lock()
        self.ended: Counter[str] = Counter()
        self.errors: list[str] = []
        self._attempts: dict[int, Attempt] = {}
        self._reaped = float("-inf")
        self._until = time.monotonic() + (self.settings.timeout or float("inf"))
        self._signals: list[int] = []
        self._shares = Shares(self.settings, index, launcher, nodes=self.place.nodes)

    def run(self) -> dict[str, Any]:
        """Work until nothing is left, or until asked to stop.

        A stop is asked for by a signal (SIGTERM, SIGINT, SIGUSR1, SIGUSR2) or the study's `stop` file: runs save
        themselves and their rows wait again. A second SIGINT, or `now` in the file, kills the runs.

        Returns:
            `worker` (its id), `ended` (rows by what became of them here), `interrupted`, and `errors` of slots that
            could not go on.
        """
        runner = self._given or self._runner()
        reports, heart = Reports(), Heartbeat(self.owner, self.directory.workers)
        means = Means(
            directory=self.directory,
            frozen=self.frozen,
            queue=self.queue,
            runner=runner,
            reports=reports,
            stopping=self.stopping,
            share=self._shares.of,
            cwd=Path(self.frozen.record.get("cwd") or Path.cwd()),
        )
        numbers = range(self.settings.slots)
        slots = [threading.Thread(target=self._slot, args=(means, n), name=f"slot-{n}") for n in numbers]
        heart.start()
        try:
            with noting(self._signals):
                for slot in slots:
                    slot.start()
                while any(slot.is_alive() for slot in slots):
                    self._look()
                    time.sleep(LOOK_SECONDS)
        finally:
            if any(slot.is_alive() for slot in slots):  # an error of this thread: nobody would look any more
                self._stop(now=True)
            for slot in slots:
                slot.join()
            if self._given is None:
                runner.close()
            reports.close()
            heart.stop()
            self.queue.close()
        return {
            "worker": self.owner.id,
            "ended": dict(self.ended),
            "interrupted": self.stopping.is_set(),
            "errors": self.errors,
        }

    def _runner(self) -> Runner:
        if self.leader is not None:
            return SpreadRunner(self.leader)
        return ForkRunner() if self.settings.isolation == "fork" else FreshRunner()

    def _slot(self, means: Means, slot: int) -> None:
        try:
            while (claim := self._next(slot)) is not None:
                attempt = self._attempts[slot] = Attempt(means, claim, slot)
                became = attempt.carry_out()
                with self._lock:
                    self.ended[became] += 1
        except (
            Exception
        ) as error:  # the queue itself cannot be used; the row is found when the worker has left
            traceback.print_exc()
            self.errors.append(f"slot {slot}: {type(error).__name__}: {error}")

    def _next(self, slot: int) -> Claim | None:
        """The next row for a slot; None when nothing is left that could come back, or when it is time to stop."""
        limit = self.settings.max_failures
        while not self.stopping.is_set() and time.monotonic() < self._until:
            if self.leader is not None and not self.leader.whole():
                if problem := self.leader.problem():
                    self._cannot(problem)
                    return None
                self.stopping.wait(LOOK_SECONDS)
                continue
            self._reap()
            if limit is not None and self.queue.counts()["fail"] >= limit:
                return None
            claim = self.queue.claim(f"{self.owner.id}/{slot}")
            if claim is not None:
                return claim
            if not self.queue.unfinished():
                return None
            self.stopping.wait(LOOK_SECONDS)
        return None

    def _cannot(self, problem: str) -> None:
        """Note why the worker takes no more rows; others may."""
        with self._lock:
            if problem not in self.errors:
                self.errors.append(problem)
                say(problem)

    def _reap(self) -> None:
        with self._lock:
            due = time.monotonic() - self._reaped >= REAP_SECONDS
            self._reaped = time.monotonic() if due else self._reaped
        if due:
            self.queue.sync()
            for number in self.queue.reap():
                say(f"trial {number}: its worker died; it waits again")

    def _look(self) -> None:
        """See whether somebody wants the worker to stop, and pass that on."""
        wish = self.directory.stopping()
        twice = self._signals.count(signal.SIGINT) > 1
        if wish == "now" or twice:
            self._stop(now=True)
        elif (wish == "soon" or self._signals) and not self.stopping.is_set():
            self._stop()

    def _stop(self, *, now: bool = False) -> None:
        self.stopping.set()
        for attempt in list(self._attempts.values()):
            attempt.stop(now=now)


@contextlib.contextmanager
def noting(signals: list[int] | None = None) -> Iterator[list[int]]:
    """Note stop signals in a list, where Python lets this thread do so."""
    noted = [] if signals is None else signals
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {number: signal.signal(number, lambda n, _: noted.append(n)) for number in STOP}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
