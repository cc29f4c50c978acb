"""A run in processes that are forked from this one, which has imported everything: a tenth of a second instead of five.

The processes of one run share a process group, write to one log, and are killed when they take too long. The ranks of
a distributed run are forked beside each other instead of started by Lightning; from there on they are what Lightning
would have started. This process must have one thread and must not have trained.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from gatelab.run.errors import Interrupted
from gatelab.run.record.directory import RunDirectory
from gatelab.run.train import train_frozen
from gatelab.tasks.signals import RANK_OF, STOP, stoppable
from scripts.checks.resume_cases import Request

Prepare = Callable[[int], list[Any]]
STUCK_SECONDS = 20.0
"""After that a run writes to its log where it is."""


class ForkedRun:
    """One attempt at a run.

    Args:
        request: the run; folder: where its run directory lies.
        prepare: called in each process with its rank before it trains; returns further callbacks.

    Attributes:
        pids: of the ranks, in order; group: their process group.
    """

    def __init__(self, request: Request, folder: Path, prepare: Prepare | None = None) -> None:
        self.request, self.folder = request, folder
        self.plain, self.run = request.below(folder), RunDirectory(request.directory(folder))
        self.log = folder / "log.txt"
        folder.mkdir(parents=True, exist_ok=True)
        self._fitting = folder / "fitting"
        self._fitting.unlink(missing_ok=True)
        port = _free_port() if request.kind.ranks > 1 else 0
        self.pids: list[int] = []
        self.group = 0
        before = signal.pthread_sigmask(
            signal.SIG_BLOCK, STOP
        )  # until a child listens, as one not yet started
        for rank in range(request.kind.ranks):
            pid = os.fork()
            if pid == 0:
                self._become(rank, port, prepare)
            self.group = self.group or pid
            with contextlib.suppress(PermissionError, ProcessLookupError):  # it has done so itself
                os.setpgid(pid, self.group)
            self.pids.append(pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._codes: dict[int, int] = {}

    def poll(self) -> list[int] | None:
        """The exit codes of the ranks (negative: a signal) once all have ended, else None."""
        for pid in self.pids:
            if pid not in self._codes:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self._codes[pid] = os.waitstatus_to_exitcode(status)
        return [self._codes[pid] for pid in self.pids] if len(self._codes) == len(self.pids) else None

    def wait(self, seconds: float) -> list[int] | None:
        """Wait for all ranks, at most `seconds`; kill what is left of the group then, and return None."""
        end = time.monotonic() + seconds
        while (codes := self.poll()) is None and time.monotonic() < end:
            time.sleep(0.005)
        self.kill()  # loader workers of a rank that was killed, or all of a run that hangs
        return codes

    def kill(self) -> None:
        """Kill every process of the group, and bury the ranks."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGKILL)
        for pid in self.pids:
            if pid not in self._codes:
                self._codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def tail(self, lines: int = 12) -> str:
        """The end of what the processes said."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _become(self, rank: int, port: int, prepare: Prepare | None) -> None:
        """Be rank `rank`; never returns."""
        code = 1
        try:
            os.setpgid(0, self.group)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(log, 1)
            os.dup2(log, 2)
            faulthandler.dump_traceback_later(STUCK_SECONDS, file=2)  # where a run hangs is in its log
            if self.request.kind.ranks > 1:
                os.environ |= {
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port),
                    "NODE_RANK": "0",
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(self.request.kind.ranks),
                }
            if rank > 0:
                os.environ[RANK_OF] = str(self.run.path.absolute())
            with stoppable(Interrupted):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
                callbacks = prepare(rank) if prepare else []
                if rank == 0:
                    _say_when_fitting(self._fitting)
                if rank == 0 or _wait_for(self._fitting, self.pids[0]):
                    train_frozen(self.plain, self.request.identity, callbacks=callbacks)
            code = 0
        except Interrupted as error:
            print(error, file=sys.stderr)
            code = error.exit_code
        except BaseException:
            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _say_when_fitting(path: Path) -> None:
    """Make `path` when the first rank comes to the moment in which Lightning would start the others."""
    fit = pl.Trainer.fit

    def say_and_fit(*args: Any, **kwargs: Any) -> None:
        path.touch()
        fit(*args, **kwargs)

    pl.Trainer.fit = say_and_fit  # type: ignore[method-assign]


def _wait_for(path: Path, first: int) -> bool:
    """Wait for that moment; False if the first rank ended before."""
    while not path.exists():
        try:
            os.kill(first, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.002)
    return True


def _free_port() -> int:
    """A port that nobody listens on, below those that the system gives to other programs meanwhile."""
    while True:
        port = random.SystemRandom().randrange(12000, 32000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
