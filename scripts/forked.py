"""Small runs in processes forked from this one, which has imported everything: a tenth of a second instead of five.

The runs have 20 steps in two epochs, a validation every five steps, dropout and a schedule: a text that is read in
streams whose state is carried from window to window, or a series that is read in windows of random order. The
processes of one run share a process group and write to one log. The ranks of a distributed run are forked beside each
other instead of started by Lightning. The forking process must have one thread and must not have trained.
"""

from __future__ import annotations

import contextlib
import copy
import faulthandler
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from gatelab.data.stop_signals import STOP
from gatelab.run import Interrupted
from gatelab.run.config import check, compose
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.identity import identify
from gatelab.run.train import train_frozen
from gatelab.tasks.signals import RANK_OF, stoppable
from scripts.harness import tail

Prepare = Callable[[int], list[Any]]
STUCK_SECONDS = 20.0
"""After that a run writes to its log where it is."""
STEPS = 20
COMMON = [
    *("model.hidden_size=8", "model.num_layers=2", "model.dropout=0.3", "task.net.dropout=0.3"),
    *("schedule=cosine", "optim.lr=1e-2", "trainer.max_epochs=2", "trainer.val_check_interval=5"),
    *("trainer.log_every_n_steps=3", "threads=1", "callbacks.progress=null"),
    *("callbacks.throughput=null", "callbacks.memory=null"),  # what the machine does is not the same twice
]
TASKS = {
    "text": "data=text data.batch_size=4 data.window=16 data.eval_batch_size=2 data.eval_window=32 data.burn_in=20",
    "series": "data=lorenz data.lookback=8 data.horizon=4 data.batch_size=700 data.eval_batch_size=512",
}


@dataclass(frozen=True, order=True)
class Kind:
    """A sort of run: its task, its loader workers, its processes."""

    task: str
    workers: int
    ranks: int


class Request:
    """A run's checked configuration, to be trained in any folder.

    Args:
        kind: which sort; root: for its data; more: further overrides.

    Attributes:
        overrides: as for `gatelab train`.
    """

    def __init__(self, kind: Kind, root: Path, more: tuple[str, ...] = ()) -> None:
        self.kind = kind
        root.mkdir(exist_ok=True)
        given = [
            *COMMON,
            *TASKS[kind.task].split(),
            f"data.num_workers={kind.workers}",
            f"paths.root={root}",
            *more,
        ]
        if kind.ranks > 1:
            given += ["trainer=ddp_cpu", f"trainer.devices={kind.ranks}"]
        if kind.task == "text":
            for name, length in (("train", 641), ("valid", 200), ("test", 200)):
                path = root / f"{name}.txt"
                path.write_text("".join(random.Random(name).choices("abcdefgh \n", k=length)))
                given.append(f"data.{'' if name == 'train' else name + '_'}path={path}")
        self.overrides, composed = given, compose(given)
        self._plain, self.identity = check(composed), identify(composed)

    def below(self, folder: Path) -> dict[str, Any]:
        """The configuration with its run directory below `folder`."""
        plain = copy.deepcopy(self._plain)
        plain["paths"]["runs"] = str(folder)
        return plain

    def directory(self, folder: Path) -> Path:
        """Where the run lies below `folder`."""
        return Path(self.identity.directory(folder))

    def undisturbed(self, folder: Path, limit: float) -> Path:
        """Train without a disturbance; the run directory."""
        codes = (run := ForkedRun(self, folder)).wait(limit)
        if codes is None or any(codes):
            raise SystemExit(f"the undisturbed run ({self.kind}) ended with {codes}:\n{run.tail()}")
        return self.directory(folder)


Case = tuple[Request, Path, Path]
"""A request, the folder of its cases, and its undisturbed run."""


@contextlib.contextmanager
def forked_cases(
    kinds: Iterable[Kind], root: Path, jobs: int, limit: float, *more: str
) -> Iterator[tuple[ProcessPoolExecutor, dict[Kind, Case]]]:
    """A pool of processes for cases of these kinds, and the undisturbed run of each.

    The pool is forked before this process has a second thread; the runs are forked from those in turn.

    Args:
        root: for all folders; jobs: cases at a time; limit: seconds of an undisturbed run; more: further overrides.
    """
    folders = {kind: root / f"kind{n}" for n, kind in enumerate(kinds)}
    requests = {kind: Request(kind, folder, more) for kind, folder in folders.items()}
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        whole = {
            k: pool.submit(r.undisturbed, folders[k] / "undisturbed", limit) for k, r in requests.items()
        }
        yield pool, {kind: (requests[kind], folders[kind], whole[kind].result()) for kind in folders}


class ForkedRun:
    """One attempt at a run.

    Args:
        request: the run; folder: where its run directory lies.
        prepare: called in each process with its rank before it trains; returns further callbacks.

    Attributes:
        pids: of the ranks, in order; group: their process group.
    """

    def __init__(self, request: Request, folder: Path, prepare: Prepare | None = None) -> None:
        self.request, self.prepare = request, prepare
        self.plain, self.run = request.below(folder), RunDirectory(request.directory(folder))
        folder.mkdir(parents=True, exist_ok=True)
        self.log, self._fitting = folder / "log.txt", folder / "fitting"
        self._fitting.unlink(missing_ok=True)
        self._port = _free_port() if request.kind.ranks > 1 else 0
        self.pids: list[int] = []
        self.group = 0
        self._codes: dict[int, int] = {}
        before = signal.pthread_sigmask(
            signal.SIG_BLOCK, STOP
        )  # until a child listens, as one not yet started
        for rank in range(request.kind.ranks):
            pid = os.fork()
            if pid == 0:
                self._become(rank)
            self.group = self.group or pid
            with contextlib.suppress(PermissionError, ProcessLookupError):  # it has done so itself
                os.setpgid(pid, self.group)
            self.pids.append(pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

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
        """Kill every process of the group, and wait for the ranks."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGKILL)
        for pid in self.pids:
            if pid not in self._codes:
                self._codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def tail(self, lines: int = 12) -> str:
        """The end of what the processes said."""
        return tail(self.log, lines)

    def _become(self, rank: int) -> None:
        """Be rank `rank`; never returns."""
        code, ranks = 1, self.request.kind.ranks
        try:
            os.setpgid(0, self.group)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(log, 1)
            os.dup2(log, 2)
            faulthandler.dump_traceback_later(STUCK_SECONDS, file=2)  # where a run hangs is in its log
            if ranks > 1:
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._port), "NODE_RANK": "0"}
                os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            if rank > 0:
                os.environ[RANK_OF] = str(self.run.path.absolute())
            with stoppable(Interrupted):
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
                callbacks = self.prepare(rank) if self.prepare else []
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
