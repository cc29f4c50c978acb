"""Fork server: a process that imports everything once and forks one child per run.

`python -m gatelab.study.engine.fork_server MODULE` reads requests from stdin and writes what became of them to stdout,
one JSON object a line (`runner.py` is the other end). A child calls `main(arguments)` of the module, as if it were
`python -m MODULE`. The server starts no threads and never touches CUDA, so forking is safe. It dies when stdin ends or
its parent dies, and its children with it.

`multiprocessing`'s fork server does not do: a run needs a session of its own, an environment, a working directory and
a log of its own, a kill of its whole group, and an exit code that tells a signal.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import sys
from typing import Any

from gatelab.run.process_group import PARENT, die_with_parent, kill_group

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
"""Signals to the whole process group or job: the worker decides what becomes of the runs."""


def main(target: str) -> int:
    """Import `target`, call its `preload()` if it has one, and serve; in each forked child run its request.

    Returns:
        the exit code: of the server, and in a child of its run.
    """
    die_with_parent()
    for number in IGNORED:
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
    return int(module.main(sys.argv[1:]))


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
            before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
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
    for number in IGNORED:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
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
