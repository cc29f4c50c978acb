"""Processes that end with the one that started them, whatever ended that: no run is left behind.

On Linux the kernel sees to it; elsewhere a run ends at its next report at the latest.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Args:
        parent: the pid that should have started it; if that is gone already, the process ends now.
    """
    if sys.platform.startswith("linux"):
        before = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != (parent or before):
            os._exit(128 + signal.SIGKILL)


def kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to every process of the group that `pid` leads, if there still is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
