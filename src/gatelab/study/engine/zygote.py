"""The zygote: a process that has imported everything once and forks one child for each run.

`python -m gatelab.study.engine.zygote MODULE` reads requests from stdin and writes what became of them to stdout, one
JSON document a line (`process.py` is the other end). A child calls `main(arguments)` of the module, as if it were
`python -m MODULE`. The zygote starts no thread, computes nothing and leaves the GPU alone, so that a child is as
free as a fresh process. It dies when stdin ends or its parent dies, and its children with it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import sys
import traceback
import weakref
from pathlib import Path
from typing import Any

from gatelab.study.engine.lifeline import die_with_parent, kill_group

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
"""Signals to the whole group or job: the worker decides what becomes of the runs."""


def main(target: str) -> int:
    """Import `target` and what its `PRELOAD` names, call its `prepare()` if it has one, and serve until stdin ends.

    `PRELOAD` holds `MODULE`, or `MODULE:FUNCTION` to be called. In each forked child run its request instead.
    Returns the exit code.
    """
    die_with_parent(int(os.environ["GATELAB_PARENT"]))
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)  # what an import prints is no answer
    gc.disable()  # loading makes no garbage
    module = importlib.import_module(target)
    for name in getattr(module, "PRELOAD", ()):
        loaded, _, function = name.partition(":")
        found = importlib.import_module(loaded)
        if function:
            getattr(found, function)()
    if hasattr(module, "prepare"):
        module.prepare()
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False  # e.g. of 10,000 kernels of PyTorch: a child undoes its own doings only
    gc.collect()
    gc.freeze()  # what is here stays shared with the children
    gc.enable()
    cuda = "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()
    _answer(answers, {"ready": os.getpid(), "threads": threads(), "cuda": cuda})
    request = serve(0, answers)
    if request is None:
        return 0
    os.close(answers)
    return _run(target, request)


def threads() -> int:
    """How many threads this process has."""
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    return 1


def serve(requests: int, answers: int) -> dict[str, Any] | None:
    """Fork a child for each request; answer when it has begun and when it has ended.

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
            _bury(children, answers)
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
            # the child ignores these signals until it has become the run: it is to hear then what is sent meanwhile
            before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
            parent, pid = os.getpid(), os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                os.close(read)
                os.close(write)
                return {**request, "parent": parent}
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            children[pid] = request["id"]
            _answer(answers, {"id": request["id"], "pid": pid})
    for pid in children:
        kill_group(pid)
    return None


def _bury(children: dict[int, int], answers: int) -> None:
    """Answer for every child that has ended, once nothing of its session is left."""
    for pid, number in list(children.items()):
        # the child stays a zombie until its group is killed, so that its number is nobody else's
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
            os.kill(pid, request["signal"])  # also one that leads no group yet


def _answer(answers: int, value: dict[str, Any]) -> None:
    os.write(answers, json.dumps(value).encode() + b"\n")


def _run(target: str, request: dict[str, Any]) -> int:
    """Become the run: its session, its output, its environment, its command line. Never returns."""
    code = 1
    try:
        _become(target, request)
        code = sys.modules[target].main(sys.argv[1:])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    # the interpreter's own end takes a fifth of a second to free what the system frees anyway
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _become(target: str, request: dict[str, Any]) -> None:
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
    os.environ.update(request["env"], GATELAB_PARENT=str(request["parent"]))
    os.chdir(request["cwd"])
    # what starts this command again (Lightning's other ranks) must start the trial, not the zygote
    spec = importlib.util.find_spec(target)
    assert spec is not None
    sys.argv = [str(Path(str(spec.origin))), *request["argv"]]
    sys.modules["__main__"].__spec__ = spec


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
