"""Allocate threads and GPUs to a worker's slots, and make the environment in which a run starts its own ranks.

GPUs are counted without touching CUDA, since a process that has started CUDA cannot be forked. Which slots there
are is `worker.py`.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatelab.run import RequestError
from gatelab.study.settings import StudySettings
from gatelab.tasks.signals import RANK_OF, RANK_VARIABLES

ON_ONE_MACHINE = ("local", "submitit_local")
"""Launchers that start all workers on this machine."""
RANKS = (*RANK_VARIABLES, RANK_OF, "PL_GLOBAL_SEED")
"""Variables by which a run would take itself for a rank of something else; each run finds its own free port."""


@dataclass(frozen=True)
class Allocation:
    """The threads and GPUs that one run may use.

    Attributes:
        threads: of the tensor library, in each of its ranks.
        gpus: for CUDA_VISIBLE_DEVICES; empty for none, None to leave the choice to the configuration.
    """

    threads: int
    gpus: tuple[str, ...] | None

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of a run, made from the worker's."""
        env = {key: value for key, value in base.items() if key not in RANKS}
        # Lightning takes the tasks of a Slurm job for the ranks of a run, and refuses devices=2 in a job of one task
        env = {key: value for key, value in env.items() if not key.startswith(("TORCHELASTIC_", "SLURM_"))}
        env["OMP_NUM_THREADS"] = str(self.threads)
        if self.gpus is not None:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return env


def allocate(
    slot: int,
    *,
    trainer: Mapping[str, Any],
    gpus: Sequence[str],
    slots: int,
    threads: int | None = None,
    cores: int | None = None,
) -> Allocation:
    """The allocation of one slot.

    Args:
        slot: from 0, over all workers.
        trainer: the run's `trainer` group.
        gpus: this machine's; several slots share one if there are more slots than GPUs.
        slots: on this machine.
        threads: of each run; None: the machine's cores divided by its slots.
        cores: of this machine; None: those that this process may use.

    Raises:
        RequestError: a run needs more GPUs than there are.
    """
    ranks = _ranks(trainer.get("devices", 1))
    each = threads or max(1, (cores or usable_cores()) // slots)
    accelerator = str(trainer.get("accelerator", "auto"))
    if accelerator not in ("gpu", "cuda", "auto") or (accelerator == "auto" and not gpus):
        return Allocation(max(1, each // (ranks or 1)), ())
    if isinstance(trainer.get("devices"), list | tuple):  # its numbers are the machine's own
        return Allocation(max(1, each // len(trainer["devices"])), None)
    if not gpus:
        raise RequestError(
            "trainer.accelerator=gpu: no GPU was found on this machine; name them in study.gpus=[0,..]."
        )
    ranks = ranks or max(1, len(gpus) // slots)
    if ranks > len(gpus):
        raise RequestError(
            f"trainer.devices={ranks}: this machine has {len(gpus)} GPUs; study.gpus={list(gpus)}."
        )
    groups = len(gpus) // ranks
    first = (slot % groups) * ranks
    return Allocation(max(1, each // ranks), tuple(gpus[first : first + ranks]))


def _ranks(devices: Any) -> int | None:
    """How many processes a run starts on this machine; None where that depends on the machine."""
    if isinstance(devices, list | tuple):
        return len(devices)
    try:
        number = int(devices)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None


def refuse_several_nodes(trainer: Mapping[str, Any]) -> None:
    """Refuse a `trainer` group that spreads a run over several machines.

    Raises:
        RequestError: it does.
    """
    nodes = trainer.get("num_nodes", 1)
    if nodes != 1:
        raise RequestError(
            f"trainer.num_nodes={nodes}: a trial of a sweep runs on one machine (trainer.devices=N uses several of its "
            "GPUs). Train it as a single run instead: torchrun --nnodes=... $(command -v gatelab) train ..."
        )


def allocation(
    settings: StudySettings, index: int, launcher: str, slot: int, trainer: Mapping[str, Any]
) -> Allocation:
    """The allocation of a slot of a worker, for a run with this `trainer` group.

    Args:
        settings: of the study.
        index: of the worker; launcher: tells whether all of them are on this machine.
        slot: of the worker, from 0.

    Raises:
        RequestError: it needs more GPUs than there are, or several machines.
    """
    refuse_several_nodes(trainer)
    return allocate(
        index * settings.slots + slot,
        trainer=trainer,
        gpus=[] if trainer.get("accelerator") == "cpu" else find_gpus(settings.gpus),
        slots=slots_on_machine(settings.slots, settings.workers, launcher),
        threads=settings.threads,
    )


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slots_on_machine(slots: int, workers: int, launcher: str) -> int:
    """How many slots share this machine."""
    return slots * (workers if launcher in ON_ONE_MACHINE else 1)


def find_gpus(given: Sequence[int | str] | None = None) -> list[str]:
    """The GPUs that slots may use, as CUDA_VISIBLE_DEVICES names them.

    Args:
        given: `study.gpus`; None: those of CUDA_VISIBLE_DEVICES, else those that `nvidia-smi` lists.
    """
    if given is not None:
        return [str(gpu) for gpu in given]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip() not in ("", "-1")]
    return parse_gpus(_nvidia_smi())


@functools.cache
def _nvidia_smi() -> str:
    """The machine's GPUs as `nvidia-smi -L` lists them; an empty text where it cannot."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return listed.stdout


def parse_gpus(listed: str) -> list[str]:
    """Read `nvidia-smi -L`: the numbers of the GPUs, or the names of the parts (MIG) where they are divided."""
    lines = [line.strip() for line in listed.splitlines()]
    parts = [line.rpartition("UUID: ")[2].rstrip(")") for line in lines if line.startswith("MIG ")]
    return parts or [line.partition(":")[0].removeprefix("GPU ") for line in lines if line.startswith("GPU ")]
