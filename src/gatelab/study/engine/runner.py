"""Starts a run as a process of its own, forked from the fork server or as a fresh interpreter, and ends it.

Both kinds run `python -m gatelab.study.engine.run_trial REQUEST` in a session of their own, with their output in the
run's log, and die with the worker. What the run does is `run_trial.py`; when to stop it is the worker's decision.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatelab.data.messages import say
from gatelab.run.process_group import PARENT, ProcessGroup

ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Keeps the imports of the fork server from starting threads: of numpy's OpenBLAS, and of pyarrow's allocator."""
RUN_TRIAL = "gatelab.study.engine.run_trial"
START_SECONDS = 300.0
"""How long the fork server may take to import everything, on a slow network disk too."""


def answers_file(events: Path) -> Path:
    """Where the worker answers the validations in an events file."""
    return events.with_name(events.name.replace(".events.", ".answers."))


class RunnerError(RuntimeError):
    """Runs cannot be started this way; the text says why."""


class FreshRunner:
    """Starts a fresh interpreter for each run: nothing is shared, and the imports take their seconds each time."""

    def __init__(self, target: str = RUN_TRIAL) -> None:
        self.target = target

    def start(self, request: Path, log: Path, env: Mapping[str, str], cwd: Path) -> ProcessGroup:
        """Begin the run that a request describes.

        Args:
            request: absolute path of the request.
            log: takes the run's stdout and stderr, after what is in it already.
            env: the whole environment.
            cwd: working directory.
        """
        return ProcessGroup.start([sys.executable, "-m", self.target, str(request)], log, env, cwd)

    def close(self) -> None:
        """Nothing: the runs are the caller's."""


class ForkedProcess:
    """A child of the fork server, with the methods of `ProcessGroup`."""

    def __init__(self, server: ForkServer, number: int) -> None:
        self.server, self.number = server, number
        self.code = -int(signal.SIGKILL)  # how it ends if the server does
        self.ended = threading.Event()

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self.code if self.ended.is_set() else None

    def wait(self) -> int:
        """Wait for the end."""
        self.ended.wait()
        return self.code

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.server.send({"id": self.number, "signal": int(signal.SIGTERM)})

    def kill(self) -> None:
        """Send SIGKILL to the whole session."""
        self.server.send({"id": self.number, "signal": int(signal.SIGKILL), "group": True})


class ForkServer:
    """One fork server and its children, from this side of the pipes.

    The thread that starts it also listens to it until it ends, because the kernel ties it to that thread's life.
    """

    def __init__(self, target: str) -> None:
        self.alive, self.target = True, target
        self._popen: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._processes: dict[int, ForkedProcess] = {}
        self._known = threading.Event()
        self._greeting: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._keep, name="fork-server", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        try:
            with subprocess.Popen(
                [sys.executable, "-m", "gatelab.study.engine.fork_server", self.target],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **ONE_THREAD, PARENT: str(os.getpid())},
            ) as self._popen:
                assert self._popen.stdout is not None
                for line in self._popen.stdout:
                    answer = json.loads(line)
                    if "ready" in answer:
                        self._greeting = answer
                        self._known.set()
                    else:
                        self._end(answer["id"], answer["code"])
        finally:
            self.alive = False
            self._known.set()
            for number in list(self._processes):
                self._end(number)

    def _end(self, number: int, code: int | None = None) -> None:
        process = self._processes.pop(number, None)
        if process is not None:
            process.code = process.code if code is None else code
            process.ended.set()

    def wait_ready(self) -> None:
        """Wait until everything is imported.

        Raises:
            RunnerError: it ended, or it has threads, so that a child could hang.
        """
        if not self._known.wait(START_SECONDS) or self._greeting is None:
            raise RunnerError("the fork server did not start")
        if self._greeting["threads"] != 1 or self._greeting["cuda"]:
            raise RunnerError(f"importing everything started threads or CUDA ({self._greeting})")

    def fork(self, number: int, message: Mapping[str, Any]) -> ForkedProcess:
        """Begin a run; where the server is dead the run has ended as if killed."""
        process = self._processes[number] = ForkedProcess(self, number)
        if not self.send({"id": number, **message}):
            self._end(number)
        return process

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send a message; False if the server is dead, and every run with it."""
        with self._lock:
            if self._popen is None or self._popen.stdin is None:
                return False
            try:
                self._popen.stdin.write(json.dumps(message).encode() + b"\n")
                self._popen.stdin.flush()
            except (OSError, ValueError):
                return False
        return True

    def close(self) -> None:
        """End it and its children."""
        self._known.wait(START_SECONDS)
        if self._popen is not None and self._popen.stdin is not None:
            with self._lock, contextlib.suppress(OSError):
                self._popen.stdin.close()
        self._thread.join()


class ForkRunner:
    """Forks each run from a fork server. One that has died is started again for the next run.

    Args:
        target: the module whose `main` a run calls.
    """

    def __init__(self, target: str = RUN_TRIAL) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._server = ForkServer(self.target)

    def start(self, request: Path, log: Path, env: Mapping[str, str], cwd: Path) -> Process:
        """Begin a run; in a fresh interpreter, with a remark, where the fork server cannot be used."""
        with self._lock:
            if not self._server.alive:
                self._server = ForkServer(self.target)
            server, number = self._server, next(self._numbers)
        try:
            server.wait_ready()
        except RunnerError as error:
            say(f"study.isolation=fork: {error}; this run gets a fresh interpreter")
            return FreshRunner(self.target).start(request, log, env, cwd)
        message = {"argv": [str(request)], "env": dict(env), "cwd": str(cwd), "log": str(log)}
        return server.fork(number, message)

    def close(self) -> None:
        """End the fork server and all runs."""
        self._server.close()


Process = ProcessGroup | ForkedProcess
"""A run that has been started: `poll`, `wait`, `terminate` and `kill` it."""
Runner = FreshRunner | ForkRunner
"""Starts runs: `start` each, and `close` at the end."""
