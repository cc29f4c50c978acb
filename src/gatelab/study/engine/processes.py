"""How many processes a study takes, and what a launcher must be told so that those of one worker begin together.

A trial on several nodes needs a worker and its followers at once. submitit gets one job with a process on each node;
the other launchers get one job for each process. How they find each other is `group.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf, open_dict

from gatelab.run.errors import RequestError

if TYPE_CHECKING:
    from gatelab.study.spec import StudySpec

KEY = "trainer.num_nodes"


@dataclass(frozen=True)
class Processes:
    """The processes of a study: `workers`, each on `nodes` nodes."""

    workers: int = 1
    nodes: int = 1


ONE = Processes()


def processes_of_study(frozen: StudySpec) -> Processes:
    """How many processes a study takes.

    Raises:
        RequestError: trainer.num_nodes is swept, or is no number of nodes.
    """
    if frozen.space[KEY] is not None:
        raise RequestError(f"{KEY}: the trials of one study take the same number of nodes; give one value.")
    firsts = {p.prefix + p.key: p.values()[0] for p in frozen.space.parameters if p.group}
    trainer = frozen.templates.get(firsts).config.trainer
    nodes = trainer.get("num_nodes", 1)
    if not isinstance(nodes, int) or nodes < 1:
        raise RequestError(f"{KEY}={nodes}: give at least 1")
    if nodes > 1:
        from gatelab.study.engine.spread import processes_of

        processes_of(OmegaConf.to_container(trainer, resolve=True)["devices"])  # type: ignore[call-overload, index]
    return Processes(frozen.settings.workers, nodes)


def set_nodes(launcher: Any, options: Sequence[str], processes: Processes) -> bool:
    """Ask a launcher for the nodes; whether one job of it has a process on each of them.

    Args:
        launcher: its configuration, which is changed.
        options: those that were given, e.g. `launcher.nodes=2`.
        processes: of the study.

    Raises:
        RequestError: the launcher cannot do it, or was asked for another number.
    """
    target, nodes = str(launcher.get("_target_")), processes.nodes
    given = {option.lstrip("+").partition("=")[0]: option for option in options}
    submitit = "hydra_submitit_launcher" in target
    if submitit:
        local = target.endswith(".LocalLauncher")  # one machine: its processes stand for nodes
        wanted = {"nodes": 1 if local else nodes, "tasks_per_node": nodes if local else 1}
        for key, value in wanted.items():
            if launcher[key] not in (1, value):
                text = given.get(f"launcher.{key}", f"launcher.{key}={launcher[key]}")
                raise RequestError(
                    f"{text}: each worker takes trainer.num_nodes={nodes} nodes, with one process a node that starts "
                    f"the others. Leave it out, and give trainer.num_nodes=N and trainer.devices=K."
                )
            launcher[key] = value
    elif nodes > 1 and "BasicLauncher" in target:
        raise RequestError(
            f"{KEY}={nodes}: this launcher starts one process after the other; take launcher=local, joblib, "
            "submitit_slurm or ray."
        )
    elif nodes > 1 and 0 < launcher.get("n_jobs", -1) < processes.workers * nodes:
        raise RequestError(
            f"launcher.n_jobs={launcher.n_jobs}: study.workers={processes.workers} with {KEY}={nodes} are "
            f"{processes.workers * nodes} processes at the same time; leave it out."
        )
    elif nodes > 1 and "RayLauncher" in target:
        with open_dict(launcher):
            launcher.ray.remote.setdefault("scheduling_strategy", "SPREAD")  # one process a node
    return submitit and nodes > 1
