"""Signals that ask a run to stop: noted while it trains, so that it stops between two steps with a checkpoint.

Before and after training there is nothing to save, so the command ends at once with the exit code of a run that can
be continued (`stoppable`). Inside training `callbacks/checkpoints.py` decides when to save and stop. Lightning's own
handler communicates inside the signal handler, which hangs under DDP.

The processes of a distributed run start and end together: one beside the first must not leave alone, since the first
would wait for it. It notes the signal, and all of them stop after their next step. Imports nothing heavy, so that a
command can listen before it imports PyTorch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

STOP = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP")
    if hasattr(signal, name)
)

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


class StopRequested(BaseException):
    """A stop signal came outside of training. Not an `Exception`: a handler of errors must not catch it."""


class RunInterrupted(Exception):
    """The run was asked to stop, wrote `last.ckpt` and stopped; starting it again continues it."""


class RunPruned(Exception):
    """The run was judged not worth going on with, wrote `last.ckpt` and stopped; it can be continued all the same.

    Attributes:
        by: who judged, as plain data for the record.
    """

    def __init__(self, why: str, by: dict[str, Any] | None = None) -> None:
        super().__init__(why)
        self.by = by or {}


class StopSignals:
    """Notes the first stop signal between `listen` and `release`; a second Ctrl-C stops at once.

    Attributes:
        received: the name of the signal, or None. One that an outer `StopSignals` has noted counts too.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._previous: dict[int, Any] = {}

    def listen(self) -> None:
        """Take over the stop signals, and those that wait because the process was begun with them blocked.

        Does nothing outside the main thread, where Python forbids it.
        """
        if threading.current_thread() is not threading.main_thread() or self._previous:
            return
        self._previous = {number: signal.signal(number, self._note) for number in _heeded()}
        for handler in self._previous.values():
            outer = getattr(handler, "__self__", None)
            if isinstance(outer, StopSignals):
                self.received = self.received or outer.received
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)

    def release(self) -> None:
        """Restore the handlers of before."""
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == "SIGINT":
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name


def _heeded() -> list[int]:
    """The stop signals without a hangup that is ignored already: `nohup` stays in force."""
    return [n for n in STOP if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]


def launched() -> bool:
    """Whether torchrun, or srun with several tasks, has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def rank() -> int:
    """This process's rank in its run; 0 unless Lightning, torchrun or srun started it beside another."""
    if launched():
        return int(os.environ.get("RANK") or os.environ["SLURM_PROCID"])
    return int(os.environ.get("LOCAL_RANK", 0)) if RANK_OF in os.environ else 0


@contextlib.contextmanager
def stoppable(error: type[Exception] = RunInterrupted) -> Iterator[None]:
    """End the block on a stop signal; in a process beside the first one, note it for `Checkpoints`.

    Raises:
        error: a signal came.
    """
    if rank() > 0 or threading.current_thread() is not threading.main_thread():
        with noted():
            yield
        return
    before = {number: signal.signal(number, _raise) for number in _heeded()}
    try:
        yield
    except StopRequested as stop:
        raise error(f"stopped by {stop}; the same command continues it") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextlib.contextmanager
def noted() -> Iterator[StopSignals]:
    """Note stop signals instead of stopping; whoever listens inside, and whoever asks afterwards, learns of them."""
    signals = StopSignals()
    signals.listen()
    try:
        yield signals
    finally:
        signals.release()


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


def _raise(number: int, frame: FrameType | None) -> None:
    for other in STOP:  # one is enough; a second Ctrl-C ends what hangs
        signal.signal(other, signal.default_int_handler if other == signal.SIGINT else signal.SIG_IGN)
    raise StopRequested(signal.Signals(number).name)
