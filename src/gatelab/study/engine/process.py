"""Starts a run as a process of its own, forked from the zygote or as a fresh interpreter, and ends it.

Both kinds run `python -m gatelab.study.engine.trial REQUEST` in a session of their own, with their output in the run's
log, and die with the worker. What the run does is `trial.py`; when to stop it is the worker's decision.
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
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from gatelab.run.messages import say
from gatelab.study.engine.lifeline import kill_group

ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Keeps the imports of the zygote from starting threads: of numpy's OpenBLAS, and of the allocator in pyarrow."""
TRIAL = "gatelab.study.engine.trial"
PARENT = "GATELAB_PARENT"
"""Names, to a process, the pid that must have started it."""
START_SECONDS = 300.0
"""How long the zygote may take to import everything, on a slow network disk too."""


class RunnerError(RuntimeError):
    """Runs cannot be started this way; the text says why."""


class Process(ABC):
    """A run that has been started."""

    @abstractmethod
    def wait(self) -> int:
        """Wait for the end; the exit code, or minus the signal that killed it. Nothing of its session is left then."""

    @abstractmethod
    def terminate(self) -> None:
        """Ask the first process to save itself and leave (SIGTERM); it passes that on to its other ranks."""

    @abstractmethod
    def kill(self) -> None:
        """Kill every process of the run."""


class Runner(ABC):
    """Starts runs."""

    @abstractmethod
    def start(self, request: Path, log: Path, env: Mapping[str, str], cwd: Path) -> Process:
        """Begin the run that `request` describes.

        Args:
            request: absolute path of the request.
            log: takes the run's stdout and stderr, after what is in it already.
            env: the whole environment.
            cwd: working directory.
        """

    @abstractmethod
    def close(self) -> None:
        """End what the runner itself has started."""


class FreshProcess(Process):
    """A fresh interpreter."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen, self._lock = popen, threading.Lock()

    @classmethod
    def start(cls, command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path) -> Self:
        """Start it in a session of its own; what it prints is appended to `log`, and it ends with this process."""
        with log.open("ab") as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**env, PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
                cwd=cwd,
                start_new_session=True,
            )
        return cls(popen)

    def wait(self) -> int:
        """Wait for the end."""
        if self._popen.returncode is None:
            # a zombie's number is nobody else's, so its group may be killed before it is buried
            os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            if self._popen.returncode is None:
                kill_group(self._popen.pid)
            return self._popen.wait()

    def terminate(self) -> None:
        """Send SIGTERM."""
        with self._lock:
            self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the whole session."""
        with self._lock:
            if self._popen.returncode is None:
                kill_group(self._popen.pid)


class FreshRunner(Runner):
    """Starts a fresh interpreter for each run: nothing is shared, and the imports take their seconds each time."""

    def __init__(self, target: str = TRIAL) -> None:
        self.target = target

    def start(self, request: Path, log: Path, env: Mapping[str, str], cwd: Path) -> Process:
        """Begin a run."""
        return FreshProcess.start([sys.executable, "-m", self.target, str(request)], log, env, cwd)

    def close(self) -> None:
        """Nothing: the runs are the caller's."""


class ForkedProcess(Process):
    """A child of the zygote."""

    def __init__(self, zygote: Zygote, number: int) -> None:
        self.zygote, self.number = zygote, number
        self.code = -int(signal.SIGKILL)  # how it ends if the zygote does
        self.ended = threading.Event()

    def wait(self) -> int:
        """Wait for the end."""
        self.ended.wait()
        return self.code

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.zygote.send({"id": self.number, "signal": int(signal.SIGTERM)})

    def kill(self) -> None:
        """Send SIGKILL to the whole session."""
        self.zygote.send({"id": self.number, "signal": int(signal.SIGKILL), "group": True})


class Zygote:
    """One zygote and its children, from this side of the pipes.

    The thread that starts it also listens to it until it ends, because the kernel ties it to that thread's life.
    """

    def __init__(self, target: str) -> None:
        self.alive, self.target = True, target
        self._popen: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._processes: dict[int, ForkedProcess] = {}
        self._known = threading.Event()
        self._greeting: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._keep, name="zygote", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        try:
            with subprocess.Popen(
                [sys.executable, "-m", "gatelab.study.engine.zygote", self.target],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **ONE_THREAD, PARENT: str(os.getpid())},
            ) as self._popen:
                assert self._popen.stdout is not None
                for line in self._popen.stdout:
                    self._hear(json.loads(line))
        finally:
            self.alive = False
            self._known.set()
            for number in list(self._processes):
                self._end(number)

    def _hear(self, answer: dict[str, Any]) -> None:
        if "ready" in answer:
            self._greeting = answer
            self._known.set()
        elif "code" in answer:
            self._end(answer["id"], answer["code"])

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
            raise RunnerError("the process that imports everything once did not start")
        if self._greeting["threads"] != 1 or self._greeting["cuda"]:
            raise RunnerError(f"importing everything started threads or CUDA ({self._greeting})")

    def fork(self, number: int, message: Mapping[str, Any]) -> ForkedProcess:
        """Begin a run; one that cannot begin any more has ended as if killed."""
        process = self._processes[number] = ForkedProcess(self, number)
        if not self.send({"id": number, **message}):
            self._end(number)
        return process

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send a message; False if the zygote is dead, and every run with it."""
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


class ForkRunner(Runner):
    """Forks each run from a zygote. One that has died is started again for the next run.

    Args:
        target: the module whose `main` a run calls.
    """

    def __init__(self, target: str = TRIAL) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._zygote = Zygote(self.target)

    def start(self, request: Path, log: Path, env: Mapping[str, str], cwd: Path) -> Process:
        """Begin a run; in a fresh interpreter, which is said, where the zygote cannot be used."""
        with self._lock:
            if not self._zygote.alive:
                self._zygote = Zygote(self.target)
            zygote, number = self._zygote, next(self._numbers)
        try:
            zygote.wait_ready()
        except RunnerError as error:
            say(f"study.isolation=fork: {error}; this run gets a fresh interpreter")
            return FreshRunner(self.target).start(request, log, env, cwd)
        message = {"argv": [str(request)], "env": dict(env), "cwd": str(cwd), "log": str(log)}
        return zygote.fork(number, message)

    def close(self) -> None:
        """End the zygote and all runs."""
        self._zygote.close()
