"""Processes in sessions of their own that end with the process that started them, however that ended.

On Linux the kernel kills a process when its parent dies (`PR_SET_PDEATHSIG`). Elsewhere nothing does: a run that was
left behind ends with its training.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

PARENT = "GATELAB_PARENT"
"""Names, to a process, the pid that must have started it."""
OF_ONE_RUN = ("WANDB_SWEEP_ID", "WANDB_RUN_ID")
"""Variables by which an agent of Weights & Biases names one run: not for the processes that this one starts."""
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Args:
        parent: the pid that should have started it; if that is gone already, the process ends now. None: the one that
            `$GATELAB_PARENT` names, if it names one.
    """
    if parent is None and PARENT in os.environ:
        parent = int(os.environ[PARENT])
    if sys.platform.startswith("linux"):
        before = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != (parent or before):
            os._exit(128 + signal.SIGKILL)
    if PARENT in os.environ:
        os.environ[PARENT] = str(os.getpid())  # for processes that this one starts


def kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to every process of the group that `pid` leads, if there still is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class ProcessGroup:
    """A command in a session of its own. It ends with this process if it calls `die_with_parent`."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen, self._lock = popen, threading.Lock()

    @classmethod
    def start(cls, command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path) -> Self:
        """Start it; its output goes after what is in `log`. `env` is the whole environment but `GATELAB_PARENT`."""
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

    @property
    def pid(self) -> int:
        """Of the first process, which leads the group."""
        return self._popen.pid

    def poll(self) -> int | None:
        """The exit code, or minus the signal that killed it; None while it runs. Nothing of its group is left then."""
        with self._lock:
            if self._popen.returncode is None:
                # a zombie's number is not given to another process, so its group may be killed before it is reaped
                if os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                    return None
                kill_group(self._popen.pid)
            return self._popen.wait()

    def wait(self) -> int:
        """Wait for the end; as `poll`."""
        if self._popen.returncode is None:
            os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)
        code = self.poll()
        assert code is not None
        return code

    def terminate(self) -> None:
        """Send SIGTERM to the first process, which passes it on to its other ranks."""
        with self._lock:
            self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill every process of the group."""
        with self._lock:
            if self._popen.returncode is None:
                kill_group(self._popen.pid)
