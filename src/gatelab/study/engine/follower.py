"""A follower: the process on a further node that starts torchrun there whenever its worker begins a run.

It claims nothing and decides nothing. When the worker is gone it kills what it has started and leaves; a signal to it
makes its runs save themselves, on all nodes, and then it leaves.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from pathlib import Path
from typing import Any

from gatelab.study.engine.worker import environment
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.group import START_SECONDS, Line, Place, call
from gatelab.study.engine.runner import FreshProcess, RunnerError
from gatelab.study.engine.resources import Shares
from gatelab.study.engine.spread import LEAVE_SECONDS, Order
from gatelab.study.engine.worker import LOOK_SECONDS, noting
from gatelab.study.spec import StudySpec

GONE: dict[str, Any] = {"do": "leave"}


class Follower:
    """One follower of a worker.

    Args:
        path: the study's folder.
        place: which of the worker's processes it is.
        launcher: what started it.

    Raises:
        RequestError: no such study.
    """

    def __init__(self, path: str | Path, place: Place, launcher: str = "local") -> None:
        self.directory, self.place = StudyDirectory.open(path), place
        self.frozen = StudySpec.load(self.directory.path)
        self.shares = Shares(self.frozen.settings, place.index, launcher, place.node, place.nodes)
        self.cwd = Path(self.frozen.record.get("cwd") or Path.cwd())
        self._heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self._processes: dict[int, FreshProcess] = {}
        self._ending: dict[int, float] = {}

    def run(self) -> dict[str, Any]:
        """Follow until the worker is gone, or a signal asks to leave; how many runs were `started`.

        Raises:
            RunnerError: the worker did not begin.
        """
        with noting() as signals:
            line = self._call(signals)
            if line is None:
                return {"started": 0}
            threading.Thread(target=self._listen, args=(line,), name="leader", daemon=True).start()
            try:
                return {"started": self._follow(line, signals)}
            finally:
                for process in self._processes.values():
                    process.kill()
                line.close()

    def _call(self, signals: list[int]) -> Line | None:
        end = time.monotonic() + START_SECONDS
        while not signals and self.directory.stopping() == "no":
            if (line := call(self.directory.path, self.place)) is not None:
                return line
            if time.monotonic() > end:
                raise RunnerError(f"worker {self.place.index} did not begin within {START_SECONDS:.0f} s")
            time.sleep(LOOK_SECONDS)
        return None

    def _listen(self, line: Line) -> None:
        for message in line.messages():
            self._heard.put(message)
        self._heard.put(GONE)

    def _follow(self, line: Line, signals: list[int]) -> int:
        started, leaving = 0, False
        while not leaving or self._processes:
            try:
                message = self._heard.get(timeout=LOOK_SECONDS / 4)
            except queue.Empty:
                message = {"do": "look"}
            if message["do"] == "leave":
                return started
            if message["do"] == "start":
                self._start(line, Order(**message["order"]))
                started += 1
            self._obey(line, message)
            if signals and not leaving:
                leaving = True
                for process in self._processes.values():
                    process.terminate()
        return started

    def _start(self, line: Line, order: Order) -> None:
        trainer = json.loads(Path(order.request).read_text())["config"]["trainer"]
        env = self.shares.of(order.slot, trainer).environment(environment())
        process = self._processes[order.run] = order.start(self.place.node, env, self.cwd)
        threading.Thread(target=self._wait, args=(order.run, process), daemon=True).start()

    def _wait(self, run: int, process: FreshProcess) -> None:
        self._heard.put({"do": "ended", "run": run, "code": process.wait()})

    def _obey(self, line: Line, message: dict[str, Any]) -> None:
        run = message.get("run")
        if message["do"] == "ended" and run is not None:
            del self._processes[run]
            # what had to be killed because the run was over elsewhere is not why it was over
            code = 1 if self._ending.pop(run, None) == 0 and message["code"] < 0 else message["code"]
            line.send({"run": run, "code": code})
        elif message["do"] in ("end", "kill") and run in self._processes:
            self._ending[run] = time.monotonic() + (LEAVE_SECONDS if message["do"] == "end" else 0)
        for late in [run for run, end in self._ending.items() if 0 < end < time.monotonic()]:
            self._ending[late] = 0
            self._processes[late].kill()
