"""Start of a run whose processes torchrun or srun has started: rank 0 decides and keeps the record, the others train.

All processes were given the same command and reach the store at $MASTER_ADDR:$MASTER_PORT. Rank 0 composes the
configuration, holds the run directory and publishes both, with the step of its checkpoint. The other ranks check that
they see the same directory and checkpoint, and answer. Training begins when all have answered; if one of them cannot
train, rank 0 says why and none begins. Afterwards Lightning's own cluster environments connect the processes.

Processes that Lightning starts on one machine need none of this: the environment names their run directory (`RANK_OF`).
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gatelab.run import RequestError, RunFailed
from gatelab.tasks.signals import launched, rank

START_SECONDS = 1800.0
"""Time for a rank to read its data: what PyTorch allows a process that is late."""
VISIBLE_SECONDS = 30.0
"""Time for a new file to appear on another machine: what NFS may cache about a folder."""
POLL_SECONDS = 0.05


class Dismissed(Exception):
    """Rank 0 does not train: it has refused the request, was stopped, or the run is finished."""


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """Of rank 0: release the ranks that still wait when the block ends, however it ends. Alone it does nothing."""
    try:
        yield
    finally:
        if launched() and _world_size() > 1:
            with contextlib.suppress(RuntimeError):  # torchrun has ended, and the other ranks with it
                _store().set("decision", "null")
                _store().compare_set("go", "", "no")


def decision() -> dict[str, Any]:
    """Of the other ranks: what rank 0 published: `run`, `config` and `step`.

    Raises:
        Dismissed: rank 0 does not train.
        RequestError: the run directory is not visible here, or is another one.
    """
    found: dict[str, Any] | None = json.loads(_wait_for("decision"))
    if found is None:
        raise Dismissed
    file, end = Path(found["run"]) / "run.json", time.monotonic() + VISIBLE_SECONDS
    while _sha256(file) != found["sha256"]:
        if time.monotonic() > end:
            raise RequestError(
                f"{file.parent} is not visible here, or is another folder than rank 0's. Every node must see the run "
                "directory by the same path: put paths.root=DIR on a file system that they share."
            )
        time.sleep(POLL_SECONDS)
    return found


def refuse(error: BaseException) -> None:
    """Of the other ranks: tell rank 0 what is wrong here; after training has begun nobody reads it."""
    with contextlib.suppress(RuntimeError):
        _store().set(f"answer{rank()}", f"rank {rank()} on {socket.gethostname()}: {error}")


def start_together(run: Path, config: Mapping[str, Any], step: int | None) -> None:
    """Begin at the same moment as the other ranks; every rank calls it right before training. Alone it does nothing.

    `step`: the one from which the run continues, None for a new run.

    Raises:
        RequestError: a rank cannot train; the text says which and why.
        Dismissed: as `decision`.
    """
    if not launched() or _world_size() == 1:
        return
    if rank() == 0:
        found = {"run": str(run.absolute()), "sha256": _sha256(run / "run.json"), "step": step}
        _store().set("decision", json.dumps({**found, "config": dict(config)}))
        for other in range(1, _world_size()):
            if answer := _wait_for(f"answer{other}"):
                raise RequestError(answer)
        _store().set("go", "yes")
        return
    if step != (expected := decision()["step"]):
        raise RequestError(f"{run}: its checkpoint is of step {step} here, and of {expected} for rank 0.")
    _store().set(f"answer{rank()}", "")
    if _wait_for("go") != "yes":
        raise Dismissed


def require_processes(trainer: Mapping[str, Any]) -> None:
    """Compare the processes that were started with those that the `trainer` group asks for.

    Raises:
        RequestError: they differ; the text says what to give.
    """
    nodes, devices = int(trainer.get("num_nodes") or 1), trainer.get("devices")
    each = len(devices) if isinstance(devices, list | tuple) else devices
    if not launched():
        if nodes > 1:
            raise RequestError(
                f"trainer.num_nodes={nodes}: start the same command on each node with torchrun (RANK is 0 to "
                f"{nodes - 1}), or with srun:\n  torchrun --nnodes={nodes} --node-rank=RANK --nproc-per-node={each} "
                "--master-addr=HOST_OF_RANK_0 --master-port=29500 -m gatelab train trainer=ddp "
                f"trainer.num_nodes={nodes} trainer.devices={each} ..."
            )
        return
    started_nodes = int(os.environ.get("GROUP_WORLD_SIZE") or os.environ["SLURM_STEP_NUM_NODES"])
    started_each = _world_size() // started_nodes
    if nodes != started_nodes or (isinstance(each, int) and each > 0 and each != started_each):
        raise RequestError(
            f"trainer.num_nodes={nodes} trainer.devices={each}: {started_each} processes were started on each of "
            f"{started_nodes} nodes; give trainer.num_nodes={started_nodes} trainer.devices={started_each}."
        )


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE") or os.environ["SLURM_STEP_NUM_TASKS"])


@functools.cache
def _store() -> Any:
    """The key-value store that all ranks reach; torchrun serves it, or under srun rank 0."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    if "TORCHELASTIC_RUN_ID" not in os.environ:
        slurm = SLURMEnvironment()
        os.environ |= {"MASTER_ADDR": slurm.main_address, "MASTER_PORT": str(slurm.main_port)}
    within = datetime.timedelta(seconds=START_SECONDS)
    store, _, _ = next(rendezvous("env://", rank(), _world_size(), timeout=within))
    return PrefixStore("gatelab", store)


def _wait_for(key: str) -> str:
    """The value of a key, once there is one; stop signals are acted on meanwhile.

    Raises:
        RunFailed: rank 0's machine or the rank that should answer is gone.
    """
    end = time.monotonic() + START_SECONDS
    try:
        while not _store().check([key]):
            if time.monotonic() > end:
                raise RunFailed(
                    f"no '{key}' within {START_SECONDS:.0f} s; see the output of the other ranks."
                )
            time.sleep(POLL_SECONDS)
        return bytes(_store().get(key)).decode()
    except RuntimeError as error:
        raise RunFailed("the machine with rank 0 does not answer any more") from error


def _sha256(file: Path) -> str | None:
    with contextlib.suppress(OSError):
        os.listdir(file.parent)  # makes an NFS client look again
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return None
