"""Wait for the workers of a study: show how it goes, and pass Ctrl-C and SIGTERM on to them.

The launcher blocks in a thread of its own, so that the main thread can hear signals and leave when it must. What
the workers do with a wish to stop is `worker.py`.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.liveness import is_alive

LOOK_SECONDS = 0.1
LEAVE_SECONDS = 3.0
"""How long no worker must have been alive, after a stop, before those that were never started are left alone."""
KILL_SECONDS = 10.0
"""How long to wait for workers that were told to leave at once."""


@dataclass
class Ended:
    """How the workers ended.

    Attributes:
        problems: what went wrong with one of them.
        stopped: whether somebody asked them to stop.
        seconds: how long it took.
    """

    problems: list[str] = field(default_factory=list)
    stopped: bool = False
    seconds: float = 0.0


def drive(directory: StudyDirectory, launch: Callable[[], list[str]]) -> Ended:
    """Run `launch` in a thread and wait for it.

    The first SIGINT or SIGTERM lets the workers' runs save themselves and leave; a second SIGINT kills them.
    """
    from gatelab.report.live import following

    ended, began = Ended(), time.monotonic()
    thread = threading.Thread(target=_launch, args=(launch, ended), name="launcher", daemon=True)
    with _signals() as received, following(directory.path):
        thread.start()
        _wait(directory, thread, received, ended)
    ended.seconds = time.monotonic() - began
    ended.stopped = ended.stopped or directory.stopping() != "no"
    return ended


def _launch(launch: Callable[[], list[str]], ended: Ended) -> None:
    try:
        ended.problems += launch()
    except BaseException as error:  # whatever a launcher raises is told at the end
        ended.problems.append(f"the launcher: {type(error).__name__}: {error}")


def _wait(directory: StudyDirectory, thread: threading.Thread, received: list[int], ended: Ended) -> None:
    killed_at = float("inf")
    seen = time.monotonic()
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        if received and not ended.stopped:
            ended.stopped = True
            directory.stop()
            seen = time.monotonic()
            name = signal.Signals(received[0]).name
            say(f"{name}: the runs save themselves and leave; Ctrl-C once more kills them")
        if received.count(signal.SIGINT) > 1 and killed_at == float("inf"):
            directory.stop(now=True)
            killed_at = time.monotonic()
        if ended.stopped:
            seen = time.monotonic() if living(directory) else seen
            if time.monotonic() - seen > LEAVE_SECONDS or time.monotonic() - killed_at > KILL_SECONDS:
                return  # what has not begun yet finds the wish to stop, or dies with this process


def living(directory: StudyDirectory) -> list[str]:
    """The workers of a study that are alive."""
    identifiers = [path.stem for path in directory.workers.glob("*.json")]
    if not identifiers:
        return []
    stale_after = float(directory.read()["settings"]["stale_after"])
    with directory.locked() as now:
        return [name for name in identifiers if is_alive(directory.workers, name, now, stale_after)]


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that arrive while the block runs; none are caught outside the main thread."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """A remark for the person at the terminal, on stderr."""
    print(text, file=sys.stderr, flush=True)
