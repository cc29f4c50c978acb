"""Servers as child processes: started on a free port of the loopback, watched, and stopped together.

Each leads a process group of its own, so that Ctrl-C reaches this process alone and it stops them in order. One that is
killed takes its servers with it: on Linux the kernel kills them (`lifeline.py`), and they end when their stdin closes.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType

from gatelab.run.process_group import die_with_parent, kill_group

ADDRESS = re.compile(rb"https?://[^\s/]+:(\d+)")
START_SECONDS, STOP_SECONDS = 60.0, 5.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ServerError(RuntimeError):
    """A server did not start; the text is the last thing that it said."""


@dataclass
class Server:
    """One that runs.

    Attributes:
        name: to show.
        address: `http://127.0.0.1:PORT/`.
        process: the child.
    """

    name: str
    address: str
    process: subprocess.Popen[bytes]


class Servers:
    """Use as a context manager: at its end, however it comes, no server is left."""

    def __init__(self) -> None:
        self.running: list[Server] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str]) -> Server:
        """Start a server that chooses its port itself and says its address, on stdout or stderr.

        Raises:
            ServerError: it ended, or said no address within a minute.
        """
        parent = os.getpid()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent),
        )
        self._processes.append(process)
        server = Server(name, f"http://127.0.0.1:{_port(process, name)}/", process)
        self.running.append(server)
        return server

    def wait(self) -> Iterator[Server]:
        """Give each server that ends by itself, until all have, or until a signal asks to stop."""
        with _stopped_by_signals() as asked:
            while self.running and not asked():
                for server in [s for s in self.running if s.process.poll() is not None]:
                    self.running.remove(server)
                    yield server
                _drain([server.process for server in self.running], 0.5)

    def stop(self) -> None:
        """End every server and what it started; those that do not listen are killed."""
        for process in self._processes:
            kill_group(process.pid, signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            kill_group(process.pid)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        self._processes, self.running = [], []


def python(*arguments: str) -> list[str]:
    """The command that runs this Python with some arguments, unbuffered."""
    return [sys.executable, "-u", *arguments]


def _port(process: subprocess.Popen[bytes], name: str) -> int:
    """The port in the first address that a server says."""
    heard = b""
    until = time.monotonic() + START_SECONDS
    assert process.stdout is not None
    while time.monotonic() < until:
        if not select.select([process.stdout], [], [], 0.2)[0]:
            continue
        piece = os.read(process.stdout.fileno(), 65536)
        heard += piece
        if found := ADDRESS.search(heard):
            return int(found[1])
        if not piece:
            said = heard.decode(errors="replace").strip().splitlines()
            raise ServerError(f"{name} ended: {said[-1] if said else 'it said nothing'}")
    raise ServerError(f"{name} named no address within {START_SECONDS:.0f} s")


def _drain(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    """Read away what the servers say, so that none waits for a full pipe; at most for so long."""
    pipes = [process.stdout for process in processes if process.stdout is not None]
    ready = select.select(pipes, [], [], seconds)[0]
    ended = [pipe for pipe in ready if not os.read(pipe.fileno(), 65536)]
    if ended:  # it is about to end; its exit is seen at the next look
        time.sleep(0.05)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """A function that says whether a signal has asked to stop; a second one is not heard any better."""
    heard: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield lambda: bool(heard)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
