"""Start the workers of a study: as processes here, as Slurm jobs through submitit, or as tasks on a Ray cluster.

A worker is `python -m gatelab.study.engine.worker STUDY INDEX LAUNCHER`; it gets the study's folder and nothing else.
What it prints is in `<study>/launcher/`. The options of a launcher are those of its file `conf/launcher/<name>.yaml`.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gatelab.data.messages import did_you_mean
from gatelab.data.stop_signals import blocked
from gatelab.run import RequestError
from gatelab.run.config.explain import keys_of
from gatelab.run.frozen_run import child_environment
from gatelab.run.process_group import ProcessGroup

EXTRAS = {
    "submitit_local": ("submitit", "slurm"),
    "submitit_slurm": ("submitit", "slurm"),
    "ray": ("ray", "ray"),
}
"""Launcher -> the package it needs, and the extra that brings it."""
SHARED = (
    *("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"),
    "stderr_to_stdout",
)
"""submitit's options that mean the same on every cluster."""


def check_launcher(name: str, options: Sequence[str], sources: Sequence[Path]) -> dict[str, Any]:
    """The options of a launcher: those of its file, with those given on the command line.

    Args:
        name: of `conf/launcher/<name>.yaml`.
        options: `launcher.KEY=VALUE` each.
        sources: folders with configuration files; the last one that has the file counts.

    Raises:
        RequestError: an unknown launcher or option, with the nearest spelling; a missing package, with the command
            that installs it.
    """
    files = {path.stem: path for source in sources for path in (source / "launcher").glob("*.yaml")}
    if name == "joblib":
        raise RequestError("launcher=joblib: is no longer there; launcher=local does the same.")
    if name not in files or name not in LAUNCHERS:
        known = sorted({*files} & {*LAUNCHERS})
        raise RequestError(
            f"launcher={name}: no such choice.{did_you_mean(name, known)} Choices: {', '.join(known)}."
        )
    if name in EXTRAS and importlib.util.find_spec(EXTRAS[name][0]) is None:
        raise RequestError(f"launcher={name} needs a package: pip install 'gatelab[{EXTRAS[name][1]}]'")
    config = OmegaConf.load(files[name])
    assert isinstance(config, DictConfig)
    for option in options:
        key, _, value = option.partition("=")
        OmegaConf.set_struct(config, not key.startswith("+"))
        key = key.lstrip("+").removeprefix("launcher.")
        try:
            config.merge_with_dotlist([f"{key}={value}"])
        except OmegaConfBaseException:
            raise RequestError(
                f"launcher.{key}: no such key of launcher={name}.{did_you_mean(key, keys_of(config))}"
            ) from None
    chosen: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return chosen


def launch(
    study: Path, workers: int, name: str, options: Sequence[str], sources: Sequence[Path]
) -> list[str]:
    """Start the workers and wait for all of them.

    Args:
        study: the folder; workers: how many.
        name, options, sources: as for `check_launcher`.

    Returns:
        what went wrong with a worker, one text each; empty if nothing did.
    """
    chosen = check_launcher(name, options, sources)
    (study / "launcher").mkdir(parents=True, exist_ok=True)
    problems = []
    for index, wait in enumerate(LAUNCHERS[name](study, workers, chosen)):
        try:
            errors = wait()
        except Exception as error:  # whatever a launcher raises is reported at the end
            errors = [f"{type(error).__name__}: {error}"]
        problems += [f"worker {index}: {error}" for error in errors]
    return problems


def run_worker(study: str, index: int, launcher: str) -> list[str]:
    """Be one worker in a launcher's job; its errors. Signals to the job are heard by the worker."""
    from gatelab.study.engine.worker import Worker

    errors: list[str] = Worker(study, index, launcher).run()["errors"]
    return errors


Wait = Callable[[], list[str]]
"""Waits for one worker; its errors."""


def _local(study: Path, workers: int, _options: dict[str, Any]) -> list[Wait]:
    """A process in a session of its own for each worker: Ctrl-C reaches the sweep only, and they die with it."""
    env, started = child_environment(), []
    for index in range(workers):
        log = study / "launcher" / f"{index}.log"
        command = [sys.executable, "-m", "gatelab.study.engine.worker", str(study), str(index), "local"]
        with blocked():  # a signal to it waits until it listens: it imports its libraries first
            started.append((ProcessGroup.start(command, log, env, Path.cwd()), log))
    return [functools.partial(_wait_for_process, process, log) for process, log in started]


def _wait_for_process(process: ProcessGroup, log: Path) -> list[str]:
    code = process.wait()
    if code == 0:
        return []
    how = f"exit code {code}" if code > 0 else f"signal {-code}"
    last = log.read_text(errors="replace").strip().splitlines()[-1:] if code > 0 else []
    return [": ".join([f"it ended with {how}", *last, f"what it printed is in {log}"])]


def _submitit(cluster: str, study: Path, workers: int, options: dict[str, Any]) -> list[Wait]:
    """An array of jobs, one for each worker. Options that are Slurm's own have its prefix in submitit."""
    import submitit

    given = {key: value for key, value in options.items() if value is not None}
    restarts = (
        {f"{cluster}_max_num_timeout": given.pop("max_num_timeout")} if "max_num_timeout" in given else {}
    )
    executor = submitit.AutoExecutor(study / "launcher", cluster=cluster, **restarts)
    executor.update_parameters(
        **{key if key in SHARED else f"{cluster}_{key}": value for key, value in given.items()}
    )
    indices = range(workers)
    jobs = executor.map_array(run_worker, [str(study)] * workers, indices, [f"submitit_{cluster}"] * workers)
    return [job.result for job in jobs]


def _ray(study: Path, workers: int, options: dict[str, Any]) -> list[Wait]:
    """One task for each worker."""
    import ray

    ray.init(**{key: value for key, value in options["ray"]["init"].items() if value is not None})
    task = ray.remote(**options["ray"]["remote"])(run_worker)
    return [functools.partial(ray.get, task.remote(str(study), index, "ray")) for index in range(workers)]


LAUNCHERS: dict[str, Callable[[Path, int, dict[str, Any]], list[Wait]]] = {
    "local": _local,
    "submitit_local": functools.partial(_submitit, "local"),
    "submitit_slurm": functools.partial(_submitit, "slurm"),
    "ray": _ray,
}
"""Launcher -> starts the workers and returns how to wait for each."""
