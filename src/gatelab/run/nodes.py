"""A run that torchrun has started: all of its processes were given the same command, on one machine or on several.

Rank 0 decides: it composes and checks, holds the run and keeps its record. The others wait for its word in the store
that torchrun keeps for its processes, and say when they are ready; what any of them lacks is told by rank 0, before
the first step. What a process does once it is told is `as_rank.py`; torchrun's own side is `torchrun.py`.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gatelab.run.errors import RequestError, RunFailed
from gatelab.tasks.callbacks import RunInterrupted
from gatelab.tasks.signals import RANK_VARIABLES, launched, noted

START_SECONDS = 1800.0
"""How long rank 0 waits for the others to read their data: as long as PyTorch waits for a process that is late."""
SEE_SECONDS = 30.0
"""How long a new file may take to appear on another machine: what NFS is allowed to remember about a folder."""
LOOK_SECONDS = 0.05


class Dismissed(Exception):
    """Rank 0 has left before training began: it has said why, and there is nothing to do."""


class Ranks:
    """What the processes tell each other before training.

    Args:
        store: a key-value store that all of them reach (`torch.distributed.Store`).
        rank, size: of this process, and how many there are.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.store, self.rank, self.size = store, rank, size
        self.said = False

    # rank 0

    def begin(self, run: Path, plain: Mapping[str, Any], step: int | None) -> None:
        """Tell every process what to train; come back when all are ready.

        Args:
            run: the run directory.
            plain: the resolved configuration.
            step: from which the run continues; None: it is new.

        Raises:
            RequestError: a process lacks something; the text says which and what.
            RunInterrupted: one was asked to stop.
        """
        token = run / f".seen-{secrets.token_hex(8)}"
        token.touch()
        try:
            word = {"run": str(run.absolute()), "token": token.name, "config": dict(plain), "step": step}
            self.store.set("word", json.dumps(word))
            for rank in range(1, self.size):
                self._heard(rank)
        finally:
            token.unlink(missing_ok=True)
        self.said = True
        self.store.set("go", "")

    def _heard(self, rank: int) -> None:
        end = time.monotonic() + START_SECONDS
        while not self.store.check([f"answer{rank}"]):
            if time.monotonic() > end:
                raise RunFailed(f"rank {rank}: no word from it for {START_SECONDS:.0f} s; see its own output")
            time.sleep(LOOK_SECONDS)
        answer = json.loads(self.store.get(f"answer{rank}"))
        if answer.get("stopped"):
            raise RunInterrupted(f"rank {rank} was stopped by {answer['stopped']} before training")
        if answer.get("error"):
            raise RequestError(f"rank {rank} on {answer['host']}: {answer['error']}")

    def over(self) -> None:
        """Send the others home, unless they train already."""
        if not self.said:
            self.said = True
            with contextlib.suppress(RuntimeError):  # torchrun is gone, and with it the others
                self.store.set("over", "")

    # the others

    def hear(self) -> dict[str, Any]:
        """Wait for rank 0's word: `run`, `config`, `step`.

        Raises:
            Dismissed: rank 0 left, or a stop signal came here and rank 0 knows.
            RequestError: the run directory is not to be seen from here.
        """
        self._wait("word")
        word: dict[str, Any] = json.loads(self.store.get("word"))
        run = Path(word["run"])
        if not _appears(run / word["token"]):
            raise RequestError(
                f"{run} is not there, or is another folder than rank 0's. Every node must see the run directory by the "
                "same path: let paths.root=DIR lie on a file system that they share."
            )
        return word

    def ready(self) -> None:
        """Say so, and wait until everybody is.

        Raises:
            Dismissed: as `hear`.
        """
        self._answer({"ready": True})
        self._wait("go")

    def refuse(self, error: BaseException) -> None:
        """Tell rank 0 what is wrong here."""
        self._answer({"error": f"{error}", "host": socket.gethostname()})

    def _answer(self, answer: Mapping[str, Any]) -> None:
        self.store.set(f"answer{self.rank}", json.dumps(answer))

    def _wait(self, key: str) -> None:
        with noted() as signals:
            while not self._there(key):
                if self._there("over"):
                    raise Dismissed
                if signals.received and key == "word":
                    self._answer({"stopped": signals.received})
                    raise Dismissed
                time.sleep(LOOK_SECONDS)

    def _there(self, key: str) -> bool:
        try:
            return bool(self.store.check([key]))
        except RuntimeError as error:
            raise RunFailed("the machine with rank 0 does not answer any more") from error


def _appears(file: Path) -> bool:
    end = time.monotonic() + SEE_SECONDS
    while not file.is_file():
        if time.monotonic() > end:
            return False
        with contextlib.suppress(OSError):
            os.listdir(file.parent)  # a file server's client asks again
        time.sleep(LOOK_SECONDS)
    return True


@functools.cache
def ranks() -> Ranks:
    """This process among those that torchrun started."""
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    within = datetime.timedelta(seconds=START_SECONDS)
    store, rank, size = next(rendezvous("env://", timeout=within))
    return Ranks(PrefixStore("gatelab", store), rank, size)


def meet(run: Path, plain: Mapping[str, Any], step: int | None, expected: int | None) -> None:
    """Begin at the same moment as the other processes that torchrun has started; without torchrun it does nothing.

    Args:
        run, plain, step: as `Ranks.begin`.
        expected: the `step` of rank 0, in the other processes.

    Raises:
        RequestError: one of them lacks something.
    """
    if not launched():
        return
    if ranks().rank == 0:
        ranks().begin(run, plain, step)
    elif step != expected:
        raise RequestError(
            f"{run}: from here its checkpoint is of step {step}, and for rank 0 of {expected}."
        )
    else:
        ranks().ready()


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """Of rank 0: when the block ends, however it does, nobody is left waiting. Alone it does nothing."""
    try:
        yield
    finally:
        if launched() and int(os.environ["WORLD_SIZE"]) > 1:
            ranks().over()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """What this process does inside, it does for itself: it scores a split that the others have no part in."""
    started = ("TORCHELASTIC_", "SLURM_")  # Lightning would take Slurm's tasks for its processes instead
    names = [name for name in os.environ if name in RANK_VARIABLES or name.startswith(started)]
    kept = {name: os.environ.pop(name) for name in names} if launched() else {}
    try:
        yield
    finally:
        os.environ.update(kept)


def require_processes(trainer: Mapping[str, Any]) -> None:
    """See to it that the processes are there that the `trainer` group asks for on several nodes.

    Raises:
        RequestError: they are not; the text says how torchrun is started.
    """
    nodes, devices = int(trainer.get("num_nodes") or 1), trainer.get("devices")
    each = len(devices) if isinstance(devices, list | tuple) else devices
    if not launched():
        if nodes > 1:
            raise RequestError(
                f"trainer.num_nodes={nodes}: a run on several nodes is begun by torchrun, with the same command on "
                f"each of them (RANK is 0 to {nodes - 1}):\n  {example(nodes, each)}"
            )
        return
    there = {"nodes": int(os.environ["GROUP_WORLD_SIZE"]), "each": int(os.environ["LOCAL_WORLD_SIZE"])}
    known = isinstance(each, int) and each > 0
    if nodes != there["nodes"] or (known and each != there["each"]):
        raise RequestError(
            f"trainer.num_nodes={nodes} trainer.devices={each}: torchrun has started {there['each']} on each of "
            f"{there['nodes']} nodes; give trainer.num_nodes={there['nodes']} trainer.devices={there['each']}, or "
            f"torchrun --nnodes={nodes} --nproc-per-node={each}"
        )


def example(nodes: int, devices: Any) -> str:
    """The command that begins a run on several nodes."""
    return (
        f"torchrun --nnodes={nodes} --node-rank=RANK --nproc-per-node={devices} --master-addr=HOST_OF_RANK_0 "
        f"--master-port=29500 -m gatelab train trainer=ddp trainer.num_nodes={nodes} trainer.devices={devices} ..."
    )
