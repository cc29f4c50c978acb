"""The signals that ask a process to stop, and how they are held back while another process is started."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Final

STOP: Final = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGXCPU", "SIGALRM")
    if hasattr(signal, name)
)
"""Signals that ask a process to stop. Others end it as SIGKILL does: the run continues from its last checkpoint."""


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Hold stop signals back; a process that is started inside begins with them blocked, until it listens."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Take the signals that waited because the process was begun with them blocked."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
