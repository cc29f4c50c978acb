"""Start the workers of a study through a Hydra launcher: on this machine, with joblib, Slurm or Ray.

A worker gets the study's folder and nothing else; what it runs stands there. The launcher's own configuration is
`conf/sweep.yaml` with `conf/launcher/<name>.yaml`. What a worker does is `worker.py`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from gatelab.run.errors import RequestError
from gatelab.run.messages import nearest
from gatelab.study.engine.group import Place
from gatelab.study.engine.processes import ONE, Processes, set_nodes

EXTRAS = {
    "joblib": ("joblib", "joblib"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
}
"""Launcher -> the module it needs, and the extra that brings it."""


@dataclass
class WorkerTask:
    """The task function of the launcher's jobs: run one worker of a study.

    Attributes:
        study: the folder.
        launcher: what started it, for the record.
        nodes: that a trial takes; gang: whether one job of the launcher has a process on each of them.
        group: a name that is new at each launch.
    """

    study: str
    launcher: str
    nodes: int = 1
    gang: bool = False
    group: str = ""

    def __call__(self, _config: DictConfig) -> dict[str, Any]:
        """Work, or follow a worker, until nothing is left to do; what was done."""
        from gatelab.study.engine.worker import Worker

        place = self._place(int(HydraConfig.get().job.num))
        if place.node > 0:
            from gatelab.study.engine.follower import Follower

            return Follower(self.study, place, self.launcher).run()
        done: dict[str, Any] = Worker(self.study, place.index, self.launcher, place=place).run()
        return done

    def _place(self, job: int) -> Place:
        if self.gang:
            import submitit

            index, node = job, int(submitit.JobEnvironment().global_rank)
        else:
            index, node = divmod(job, self.nodes)
        return Place(f"{self.group}-{index}", index, node, self.nodes)


def check_launcher(
    name: str, options: Sequence[str], sources: Sequence[Path], processes: Processes = ONE
) -> None:
    """Refuse a launcher that is not there, lacks its package, cannot start so many, or does not know an option.

    Raises:
        RequestError: with the nearest spelling, or the command that installs the package.
    """
    known = sorted({path.stem for source in sources for path in (source / "launcher").glob("*.yaml")})
    if name not in known:
        raise RequestError(
            f"launcher={name}: no such choice.{nearest(name, known)} Choices: {', '.join(known)}."
        )
    if name in EXTRAS:
        module, extra = EXTRAS[name]
        if not _is_there(module):
            raise RequestError(f"launcher={name} needs a package: pip install 'gatelab[{extra}]'")
    config = _compose(name, options, Path("launcher"), sources)
    GlobalHydra.instance().clear()
    if config.hydra.launcher is None:
        raise RequestError(f"launcher={name}: its file chooses no hydra/launcher.")
    set_nodes(config.hydra.launcher, options, processes)


def _is_there(module: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _compose(name: str, options: Sequence[str], folder: Path, sources: Sequence[Path]) -> DictConfig:
    """The launcher's configuration; Hydra stays initialised with it."""
    first, *others = sources
    search = ",".join(f"file://{source.resolve()}" for source in others)
    overrides = [
        f"launcher={name}",
        *(f"hydra.{option}" for option in options),
        "hydra.sweep.dir='{}'".format(str(folder).replace("'", "\\'")),
        *([f"hydra.searchpath=[{search}]"] if search else []),
    ]
    GlobalHydra.instance().clear()
    initialize_config_dir(str(first.resolve()), version_base="1.3", job_name="gatelab")
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    try:
        return hydra.compose_config("sweep", overrides, run_mode=RunMode.MULTIRUN, from_shell=False)
    except MissingConfigException as error:
        raise RequestError(f"launcher={name}: {str(error).splitlines()[0]}") from None
    except ConfigCompositionException as error:
        raise RequestError(_explain(str(error), name, folder, sources)) from None
    except HydraException as error:
        raise RequestError(f"launcher={name}: {error}") from None


def _explain(message: str, name: str, folder: Path, sources: Sequence[Path]) -> str:
    match = re.search(r"'hydra\.launcher\.([^']+)'", message)
    if match is None:
        return f"launcher={name}: {' '.join(message.split())}"
    node = OmegaConf.to_container(_compose(name, [], folder, sources).hydra.launcher, resolve=False)
    known = list(_paths(node)) if isinstance(node, dict) else []
    return f"launcher.{match[1]}: no such key of launcher={name}.{nearest(match[1], known)}"


def _paths(node: dict[Any, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in node.items():
        if not str(key).startswith("_"):
            found.append(f"{prefix}{key}")
            found += _paths(value, f"{prefix}{key}.") if isinstance(value, dict) else []
    return found


def launch(
    study: Path, processes: Processes, name: str, options: Sequence[str], sources: Sequence[Path]
) -> list[str]:
    """Start the workers, with their followers on further nodes, and wait for all of them.

    Args:
        study: the folder.
        processes: how many.
        name, options: of the launcher.
        sources: folders with configuration files; the study's own copies, since every worker can read these.

    Returns:
        what went wrong with a worker, one text each; empty if nothing did.
    """
    config = _compose(name, options, study / "launcher", sources)
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
    gang = set_nodes(config.hydra.launcher, options, processes)
    task = WorkerTask(str(study), name, processes.nodes, gang, secrets.token_hex(4))
    launcher = Plugins.instance().instantiate_launcher(context, task, config)
    each = 1 if gang else processes.nodes
    returned = launcher.launch([[f"launcher={name}"]] * (processes.workers * each), initial_job_idx=0)
    problems = []
    for number, job in enumerate(returned):
        who = f"worker {number // each}" + (f", node {number % each}" if each > 1 else "")
        try:
            done = job.return_value
            problems += [f"{who}: {problem}" for problem in done.get("errors", ())]
        except Exception as error:
            problems.append(f"{who}: {type(error).__name__}: {error}")
    return problems
