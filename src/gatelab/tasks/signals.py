"""Signals that ask a run to stop: noted while it trains, so that it stops between two steps with a checkpoint.

Before and after training there is nothing to save, so the command ends at once with the exit code of a run that can
be continued (`raising`, `stoppable`). Inside training `callbacks/checkpoints.py` decides when to save and stop.
Lightning's own handler communicates inside the signal handler, which hangs under DDP.

The processes of a distributed run start and end together: one beside the first must not leave alone, since the first
would wait for it. It notes the signal, and all of them stop after their next step. Imports nothing heavy, so that a
command can listen before it imports PyTorch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from gatelab.data.stop_signals import STOP, unblock

KEYBOARD = tuple(number for number in STOP if number.name in ("SIGINT", "SIGQUIT"))
"""A second one of these does not wait for the next checkpoint."""
RETRY_SECONDS = 0.02

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
    """A stop signal came outside of training, or a second Ctrl-C.

    Not an `Exception`, which handlers of errors catch, nor a `KeyboardInterrupt`: Lightning exits with 1 on that.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


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
        unblock()

    def act(self) -> None:
        """Send the noted signal once more, for the handlers that are in force now."""
        if self.received:
            signal.raise_signal(signal.Signals[self.received])

    def release(self) -> None:
        """Restore the handlers of before."""
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if number in KEYBOARD and self.received == name:
            _raise(number, frame)
        self.received = name


def _heeded() -> list[int]:
    """The stop signals; not a hangup or an alarm that somebody else sees to: `nohup` and a timer stay in force."""

    def is_free(number: int) -> bool:
        handler = signal.getsignal(number)
        ours = handler is _raise or isinstance(getattr(handler, "__self__", None), StopSignals)
        return signal.Signals(number).name not in ("SIGHUP", "SIGALRM") or handler is signal.SIG_DFL or ours

    return [number for number in STOP if is_free(number)]


def launched() -> bool:
    """Whether torchrun, or srun with several tasks, has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1


def rank() -> int:
    """This process's rank in its run; 0 unless Lightning, torchrun or srun started it beside another."""
    if launched():
        return int(os.environ.get("RANK") or os.environ["SLURM_PROCID"])
    return int(os.environ.get("LOCAL_RANK", 0)) if RANK_OF in os.environ else 0


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """End the block on a stop signal; in a process beside the first one, note it for `Checkpoints`.

    Raises:
        StopRequested: a signal came. Where Python would lose it, or an import would be left half done, it is raised a
            moment later.
    """
    if rank() > 0 or threading.current_thread() is not threading.main_thread():
        with noted():
            yield
        return
    before = {number: signal.signal(number, _raise) for number in _heeded()}
    hook = sys.unraisablehook
    sys.unraisablehook = lambda lost: _raise_again(lost) or hook(lost)
    try:
        unblock()
        with stop_first():
            yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def finish() -> None:
    """Say that the work is done and only its outcome is left to show: inside `raising`, a stop signal changes nothing.

    A second one still ends a print that nobody reads.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            _raise(number, frame)
        came.append(number)

    for number in STOP:
        if signal.getsignal(number) is _raise:
            signal.signal(number, note)


@contextlib.contextmanager
def stop_first() -> Iterator[None]:
    """Have an error that comes while things are cleaned up after a stop be that stop: what failed was half begun."""
    try:
        yield
    except Exception as error:
        behind = error.__context__
        while not (behind is None or isinstance(behind, StopRequested)):
            behind = behind.__context__
        if behind is None:
            raise
        raise behind from None


@contextlib.contextmanager
def stoppable(error: type[Exception] = RunInterrupted) -> Iterator[None]:
    """As `raising`, with an error in good order.

    Raises:
        error: a signal came.
    """
    try:
        with raising():
            yield
    except StopRequested as stop:
        raise error(f"stopped by {stop}; the same command continues it") from None


@contextlib.contextmanager
def noted() -> Iterator[StopSignals]:
    """Note stop signals instead of stopping; whoever listens inside, and whoever asks afterwards, learns of them."""
    signals = StopSignals()
    signals.listen()
    try:
        yield signals
    finally:
        signals.release()


def _raise(number: int, frame: FrameType | None) -> None:
    if _imports(frame):  # half a module would be left, or C code would lose the exception
        _send_later(number)
        return
    for other in STOP:  # one is enough; a second Ctrl-C ends what hangs
        if other not in KEYBOARD:
            signal.signal(other, signal.SIG_IGN)
    raise StopRequested(number)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False


def _raise_again(lost: sys.UnraisableHookArgs) -> bool:
    """Whether the exception that Python could not raise, e.g. in `__del__`, is a stop, which then comes once more."""
    if not isinstance(lost.exc_value, StopRequested):
        return False
    number = lost.exc_value.number
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, _raise)
    _send_later(number)
    return True


def _send_later(number: int) -> None:
    later = threading.Timer(RETRY_SECONDS, os.kill, (os.getpid(), number))
    later.daemon = True
    later.start()
