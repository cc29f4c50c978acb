"""Notes the signals that ask a run to stop, so that it can stop between two steps with a checkpoint.

Lightning's own handler communicates inside the signal handler, which hangs under DDP. Who saves, and when, is
`callbacks/checkpoints.py`. Imports nothing heavy: a process of a distributed run listens before it imports PyTorch.
"""

import signal
import threading
from types import FrameType
from typing import Any

STOP = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)


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
        self._previous = {number: signal.signal(number, self._note) for number in STOP}
        for handler in self._previous.values():
            outer = getattr(handler, "__self__", None)
            if isinstance(outer, StopSignals):
                self.received = self.received or outer.received
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)

    def release(self) -> None:
        """Give the signals back to whoever handled them before."""
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == "SIGINT":
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
