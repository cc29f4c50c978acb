"""Signals to a command that trains, outside of training: before it and after it there is nothing to save.

The command leaves at once, with the exit code of a run that can be continued. A process that works beside the first
one of a distributed run must not leave alone, since the first would wait for it: it notes the signal, and all of them
stop together after their next step. Inside training the signals are those of `gatelab.tasks.callbacks.Checkpoints`.
Imports nothing heavy, so that a command can listen before it imports the rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from gatelab.run.errors import Interrupted
from gatelab.tasks.stop import STOP, StopSignals

# Set for the processes that Lightning starts for the other ranks: they take the frozen configuration of rank 0.
RANK_OF = "GATELAB_RANK_OF"
RANK_VARIABLES = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "NODE_RANK",
)
"""By these a process knows that it is one of several; torchrun's own begin with TORCHELASTIC_."""


class Left(BaseException):
    """A stop signal came outside of training. No `Exception`: what mends errors must not mend this."""


def launched() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """This process's rank in its run; 0 unless Lightning or torchrun started it beside another."""
    if launched():
        return int(os.environ["RANK"])
    return int(os.environ.get("LOCAL_RANK", 0)) if RANK_OF in os.environ else 0


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Leave on a stop signal; in a process beside the first one, note it for `Checkpoints`.

    Raises:
        Interrupted: a signal came.
    """
    if rank() > 0 or threading.current_thread() is not threading.main_thread():
        with noted():
            yield
        return
    before = {number: signal.signal(number, _leave) for number in STOP}
    try:
        yield
    except Left as left:
        raise Interrupted(f"stopped by {left}; the same command continues it") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextlib.contextmanager
def noted() -> Iterator[StopSignals]:
    """Note stop signals instead of leaving; whoever listens inside, and whoever asks afterwards, learns of them."""
    signals = StopSignals()
    signals.listen()
    try:
        yield signals
    finally:
        signals.release()


def start_deaf(launcher: Any) -> None:
    """Have Lightning's launcher start the other processes of a run with the stop signals blocked until they listen.

    A signal to one that still imports would end it, and Lightning then kills the first one, which could save itself.
    """
    start = getattr(launcher, "_call_children_scripts", None)
    if start is None or not hasattr(signal, "pthread_sigmask"):
        return

    def blocked() -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
        try:
            start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    launcher._call_children_scripts = blocked


def _leave(number: int, frame: FrameType | None) -> None:
    for other in STOP:  # one is enough; a second Ctrl-C ends what hangs
        signal.signal(other, signal.default_int_handler if other == signal.SIGINT else signal.SIG_IGN)
    raise Left(signal.Signals(number).name)
