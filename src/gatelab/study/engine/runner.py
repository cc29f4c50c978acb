"""Starts a run as a process of its own, forked from the fork server or as a fresh interpreter, and ends it.

Both kinds run `python -m gatelab.study.engine.run_trial REQUEST` in a session of their own, with their output in the
run's log, and die with the worker. What the run does is `run_trial.py`; when to stop it is the worker's decision.

The fork server is `python -m gatelab.study.engine.runner MODULE`: it imports everything once, reads requests from stdin
and writes what became of them to stdout, one JSON object a line. A child calls `main(arguments)` of the module, as if
it were `python -m MODULE`. The server starts no threads and never touches CUDA, so forking is safe. It dies when stdin
ends or its parent dies, and its children with it. `multiprocessing`'s fork server does not do: a run needs a session of
its own, an environment, a working directory and a log of its own, a kill of its whole group, and an exit code that
tells a signal.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.util
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatelab.data.messages import say
from gatelab.data.stop_signals import STOP, unblock
from gatelab.run.process_group import PARENT, ProcessGroup, die_with_parent, kill_group

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
        here = Path.cwd()
        if cwd.resolve() != here.resolve():
            # modules are looked for where this process looks, not in a recorded folder
            more = [env["PYTHONPATH"]] if env.get("PYTHONPATH") else []
            env = {**env, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join([str(here), *more])}
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
                [sys.executable, "-m", "gatelab.study.engine.runner", self.target],
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

    def problem(self) -> str | None:
        """Wait until everything is imported; why it cannot be used: it ended, or has threads, so a child could hang."""
        if not self._known.wait(START_SECONDS) or self._greeting is None:
            return "the fork server did not start"
        if self._greeting["threads"] != 1 or self._greeting["cuda"]:
            return f"importing everything started threads or CUDA ({self._greeting})"
        return None

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
        if (problem := server.problem()) is not None:
            say(f"study.isolation=fork: {problem}; this run gets a fresh interpreter")
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


def main(target: str) -> int:
    """Import `target`, call its `preload()` if it has one, and serve; in each forked child run its request.

    Returns:
        the exit code: of the server, and in a child of its run.
    """
    child, code = 0, 1

    def leave() -> None:
        # else the interpreter would take every imported module apart, and copy the memory shared with the server
        if os.getpid() == child:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    atexit.register(leave)  # before all others, so that it is called after them
    die_with_parent()
    for number in STOP:  # to the whole process group or job: the worker decides what becomes of the runs
        signal.signal(number, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)  # stdout is the channel of answers: what an import prints goes to stderr
    module = importlib.import_module(target)
    if hasattr(module, "preload"):
        module.preload()
    gc.collect()
    gc.freeze()  # a collection in a child does not copy the pages of what it shares
    cuda = "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()
    _answer(answers, {"ready": os.getpid(), "threads": threads(), "cuda": cuda})
    request = serve(0, answers)
    if request is None:
        return 0
    os.close(answers)
    _become(target, request)
    child = os.getpid()
    code = int(module.main(sys.argv[1:]))
    return code


def threads() -> int:
    """How many threads this process has; 1 where /proc does not tell."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def serve(requests: int, answers: int) -> dict[str, Any] | None:
    """Fork a child for each request, and answer when it has ended.

    Requests: `{"id", "argv", "env", "cwd", "log"}` begins one, `{"id", "signal"}` sends a signal to its first
    process, or with `"group": true` to all of them.

    Returns:
        None at the end of the requests, and the request in each forked child.
    """
    children: dict[int, int] = {}  # pid -> id
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    buffer = b""
    while True:
        ready, _, _ = select.select([requests, read], [], [])
        if read in ready:
            os.read(read, 4096)
            _reap_children(children, answers)
        if requests not in ready:
            continue
        received = os.read(requests, 1 << 16)
        if not received:
            break
        *lines, buffer = (buffer + received).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "signal" in request:
                _signal(children, request)
                continue
            # a signal that arrives before the child has become the run waits until then
            before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
            parent, pid = os.getpid(), os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                os.close(read)
                os.close(write)
                return {**request, "parent": parent}
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            children[pid] = request["id"]
    for pid in children:
        kill_group(pid)
    return None


def _reap_children(children: dict[int, int], answers: int) -> None:
    """Answer for every child that has ended, once nothing of its session is left."""
    for pid, number in list(children.items()):
        # the child stays a zombie until its group is killed, so that its number is not given to another process
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            continue
        kill_group(pid)
        _, status = os.waitpid(pid, 0)
        del children[pid]
        _answer(answers, {"id": number, "code": os.waitstatus_to_exitcode(status)})


def _signal(children: dict[int, int], request: dict[str, Any]) -> None:
    for pid, number in children.items():
        if number == request["id"]:
            if request.get("group"):
                kill_group(pid, request["signal"])
            os.kill(pid, request["signal"])  # also one that does not lead a group yet


def _answer(answers: int, value: dict[str, Any]) -> None:
    os.write(answers, json.dumps(value).encode() + b"\n")


def _become(target: str, request: dict[str, Any]) -> None:
    """Make this child the run: its session, its output, its environment, its command line."""
    os.setsid()
    die_with_parent(request["parent"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if "gatelab.core.backends.native.kernel" in sys.modules:
        sys.modules["gatelab.core.backends.native.kernel"].forked_from_one_thread()
    for number in STOP:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    unblock()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, standard)
    os.close(log)
    os.close(nothing)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(request["env"], **{PARENT: str(request["parent"])})
    os.chdir(request["cwd"])
    # what starts this command again (Lightning, for the other ranks) must start the run, not the fork server
    spec = importlib.util.find_spec(target)
    assert spec is not None
    sys.argv = [str(spec.origin), *request["argv"]]
    sys.modules["__main__"].__spec__ = spec


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
