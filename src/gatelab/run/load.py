"""A recorded run as objects: the task with its best weights, and the data it was trained on.

Needs nothing but the directory: the configuration and the data's spec are the recorded ones of `run.json`. A run
directory may come from a stranger, so by default only targets of Gatelab, `torch.nn` and `torch.optim` are built
(`require_trusted_targets`).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from ctypes import ArgumentError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gatelab.data.fetch import default_cache
from gatelab.data.messages import few, say
from gatelab.run import RequestError
from gatelab.run.build import (
    build_data,
    build_task,
    make,
    prepare_process,
    request_errors,
    sizes_only,
    task_class,
)
from gatelab.run.config import check_node
from gatelab.run.config.signatures import locate
from gatelab.run.record.code import changed_code, targets
from gatelab.run.record.directory import DAMAGED_FIX, RunDirectory, read_record, reading
from gatelab.run.record.sources import named_files
from gatelab.tasks import CheckpointError, load_checkpoint

TRUSTED = ("gatelab.", "torch.nn.", "torch.optim.", "pytorch_lightning.")
FACTORIES = ("gatelab.tasks.optimizers", "gatelab.tasks.schedules")
"""Modules whose functions make optimisers and schedules, and do nothing else."""
LOGGERS = ("gatelab.trackers.tensorboard_logger", "gatelab.trackers.wandb_logger")
WRITING = ("pytorch_lightning.callbacks.spike", "pytorch_lightning.cli")
"""Modules whose callbacks write to a file that is named."""
BUILT = ("data", "task", "model", "optim", "schedule")
"""Groups of a recorded configuration that are built when the run is read."""


@dataclass
class LoadedRun:
    """A recorded run as objects.

    Attributes:
        run: the directory.
        record: what `run.json` says.
        task: the LightningModule with the checkpoint's weights, in evaluation mode.
        checkpoint: the file that the weights came from (`best.ckpt`, else `last.ckpt`).
    """

    run: RunDirectory
    record: dict[str, Any]
    task: Any
    checkpoint: Path

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of the run."""
        config: dict[str, Any] = self.record["config"]
        return config

    # what a task asks for (`gatelab.tasks.contract.RunSource`)

    @functools.cached_property
    def reader(self) -> Any:
        """The run's DataModule; nothing is read yet."""
        return make(self.config["data"], "data")

    @functools.cached_property
    def data(self) -> Any:
        """The run's DataModule, with the data as it was; raises as `load_data`."""
        return load_data(self.record)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The run's tokenizer, or None."""
        from gatelab.data.text.tokenizer import tokenizer_from_dict

        file = self.run.tokenizer_file
        if not file.is_file():
            return None
        try:
            return tokenizer_from_dict(read_record(file, {"level": str}))
        except Exception as error:  # the library of byte pairs raises this very class
            raise (
                error if isinstance(error, RequestError) else RequestError(f"{file}: damaged ({error}).")
            ) from None


def require_trusted_targets(config: Any, *, trust: bool = False) -> None:
    """See to it that a recorded configuration names nothing that could run a stranger's code.

    Trusted are networks, DataModules, tasks, optimisers, schedules and callbacks that are defined in Gatelab, PyTorch
    or Lightning. Nothing else is imported. `config` may be the groups of it that will be built; `trust` accepts all.

    Raises:
        RequestError: naming the other targets.
    """
    if not trust and (foreign := foreign_targets(config)):
        raise RequestError(
            f"the run names code that is not part of Gatelab: {', '.join(foreign)}. Nothing was run. If you know and "
            "trust it, --trust allows it."
        )


def foreign_targets(config: Any) -> list[str]:
    """The names in a configuration that `require_trusted_targets` does not trust."""
    return sorted({name for name in targets(config) if not _is_trusted(name)})


def _is_trusted(target: str) -> bool:
    """Whether a name stands for a class or factory of the trusted kinds; only the trusted packages are imported."""
    if not target.startswith(TRUSTED) or target in LOGGERS:
        return target in LOGGERS
    import pytorch_lightning as pl
    from torch import nn, optim

    try:
        found = locate(target)
    except (ImportError, AttributeError):
        return False
    home = str(getattr(found, "__module__", ""))
    if home in FACTORIES:
        return inspect.isfunction(found)
    if not home.startswith(TRUSTED) or not inspect.isclass(found):
        return False
    if home.startswith(
        "pytorch_lightning."
    ):  # its demos download, and read what lies in a folder that is named
        return home not in WRITING and issubclass(found, (pl.Trainer, pl.Callback))
    kinds = (nn.Module, optim.Optimizer, optim.lr_scheduler.LRScheduler, pl.LightningDataModule, pl.Callback)
    return issubclass(found, kinds)


def load_task(path: str | Path, *, trust: bool = False) -> LoadedRun:
    """The task of the run in `path` with its best weights; no data is read.

    `trust` accepts networks and tasks that are not part of Gatelab; their code is imported and run. The process gets as
    many threads as the run was trained with, unless OMP_NUM_THREADS says otherwise.

    Raises:
        RequestError: no such run, no checkpoint yet, a checkpoint of another model, or a target that is not trusted.
    """
    run = RunDirectory.open(path)
    record = run.read()
    require_trusted_targets([record["config"].get(group) for group in BUILT], trust=trust)
    with reading(run.run_file):
        _require_types(run, record["config"])
        record = record if trust else with_own_places(run, record)
    with reading(run.run_file), request_errors(str(run.run_file), (RuntimeError, ArgumentError)):
        return _load(path, run, record)


def _require_types(run: RunDirectory, config: Mapping[str, Any]) -> None:
    """See to it that a recorded configuration has the keys and types that its classes take, as a composed one has."""
    for group in BUILT:
        node = config[group]
        if not isinstance(node, dict) and not (group == "schedule" and node is None):
            raise RequestError(f"{run.run_file}: damaged, config.{group} is no group of keys. {DAMAGED_FIX}")
        for key, text in check_node(node, group):
            raise RequestError(f"{run.run_file}: config.{key}: {text}")


def with_own_places(run: RunDirectory, record: dict[str, Any]) -> dict[str, Any]:
    """A record whose data is read here without writing elsewhere, and by no more processes than there are processors.

    `data.cache` is written to and cleaned up. It is kept if it is the default one or the run's own, `data` beside the
    folder `runs`; else the default one is used.
    """
    node = record["config"].get("data")
    if not isinstance(node, dict):
        return record
    kept, root = dict(node), run.path.absolute().parents[2]
    if node.get("num_workers"):
        kept["num_workers"] = min(int(node["num_workers"]), os.cpu_count() or 1)
    if (cache := node.get("cache")) is not None:
        place = (Path(record["attempts"][-1]["cwd"]) / Path(cache).expanduser()).resolve()
        if place not in (root.resolve() / "data", default_cache().resolve()):
            kept["cache"] = None
            say(f"note: {run.path}: data.cache={cache} lies outside; it is used with --trust only")
    return {**record, "config": {**record["config"], "data": kept}}


def _load(path: str | Path, run: RunDirectory, record: dict[str, Any]) -> LoadedRun:
    checkpoint = run.best if run.best.is_file() else run.last
    if not checkpoint.is_file() or "spec" not in record:
        raise RequestError(f"{path}: has no checkpoint yet; train it first.")
    # PyTorch has read it; a sweep's runs are often trained on one thread
    asked = "OMP_NUM_THREADS" in os.environ
    prepare_process({**record["config"], "threads": None} if asked else record["config"])
    with request_errors(str(run.run_file)):
        spec = task_class(record["config"]).spec_type.from_dict(record["spec"])
    weights = _weights(checkpoint)
    _require_sizes(record["config"], spec, weights, checkpoint)
    task = build_task(record["config"], spec)
    if names := changed_code(record):  # now its modules are imported, and found where they are
        say(
            f"note: {path}: the code has changed since this run ({few(names)}), so its outputs may have changed too"
        )
    _require_shapes(weights, task, checkpoint)
    task.load_state_dict(weights)
    return LoadedRun(run, record, task.eval(), checkpoint)


def _weights(checkpoint: Path) -> dict[str, Tensor]:
    try:
        weights = load_checkpoint(checkpoint).get("state_dict", {})
    except CheckpointError as error:
        raise RequestError(str(error)) from None
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()):
        raise RequestError(f"{checkpoint}: holds no weights; it is not a checkpoint of a run.")
    return dict(weights)


def require_sizes(run: RunDirectory, record: dict[str, Any]) -> None:
    """See to it that a record names the network of its checkpoint, if there is one, before any of it is allocated.

    Raises:
        RequestError: it does not.
    """
    checkpoint = run.best if run.best.is_file() else run.last
    if checkpoint.is_file() and "spec" in record:
        with request_errors(str(run.run_file)):
            spec = task_class(record["config"]).spec_type.from_dict(record["spec"])
        _require_sizes(record["config"], spec, _weights(checkpoint), checkpoint)


def _require_sizes(
    config: Mapping[str, Any], spec: Any, weights: Mapping[str, Tensor], checkpoint: Path
) -> None:
    """See to it that a record names no larger network than its checkpoint holds, before any of it is allocated.

    Raises:
        RequestError: it does.
    """
    if foreign_targets([config.get(group) for group in BUILT]):  # trusted; it may need more than shapes
        return
    try:
        with sizes_only(max(4 * len(weights), 100)):  # one that is tied is made twice
            task = build_task(config, spec)
    except RequestError:
        raise
    except Exception:  # a limit of the meta device says nothing about the run
        return
    _require_shapes(weights, task, checkpoint)


def _require_shapes(weights: Mapping[str, Tensor], task: Any, checkpoint: Path) -> None:
    if found := mismatch(weights, task.state_dict()):
        raise RequestError(f"{checkpoint}: a checkpoint of another model, {found} in this run's.")


def mismatch(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
    """The first weight whose shapes differ in two models, as `NAME is SHAPE there and SHAPE`; None if all fit."""
    for name in [*ours, *theirs]:
        there, here = (tuple(state[name].shape) if name in state else "absent" for state in (theirs, ours))
        if there != here:
            return f"{name} is {there} there and {here}"
    return None


def load_data(record: dict[str, Any]) -> Any:
    """The run's DataModule, with the data as it was; its target is one that `load_task` has accepted.

    Raises:
        RequestError: a file is gone, or is not the one that the run was trained on; or the data have other sizes than
            the checkpoint is made for.
    """
    with reading("run.json"), _where_it_ran(record["attempts"][-1]):
        data = build_data(record["config"])
        recorded = type(data.spec).from_dict(record["spec"])
    data.fingerprint = _under_old_names(record.get("data", {}), data.fingerprint)
    own = {key for key, _ in named_files(record["config"])}  # accepted with the code that reads them
    if unknown := sorted(data.fingerprint.keys() - record.get("data", {}).keys() - own):
        raise RequestError(f"data: run.json has no sha256 of {few(unknown)}, so it is not the run's data.")
    if changed := changed_data(record, data):
        raise RequestError(
            f"{changed}. The run's figures belong to the data that it was trained on: put the file back as it was, "
            "or train anew."
        )
    for name in recorded.sizes:
        then, now = getattr(recorded, name), getattr(data.spec, name)
        if then != now:
            raise RequestError(
                f"data: {name} is {str(now)[:40]}, in the run's record {str(then)[:40]}: the checkpoint is of other "
                "data, or run.json was edited"
            )
    return data


def _under_old_names(recorded: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """`found` (file -> sha256), with a file that is called otherwise now under the name that the record has for it."""
    gone = {sha256: name for name, sha256 in recorded.items() if name not in found}
    return {name if name in recorded else gone.get(sha256, name): sha256 for name, sha256 in found.items()}


def changed_data(record: dict[str, Any], data: Any) -> str | None:
    """The first file of a run's data that is not as it was when the run began, in words; None if all are."""
    for name, sha256 in record.get("data", {}).items():
        now = data.fingerprint.get(name)
        if now != sha256:
            place = record["config"]["data"].get("path")
            where = f" (data.path={place})" if place is not None and Path(place).name == name else ""
            return (
                f"data: {name}{where} has changed since the run began "
                f"(sha256 {sha256[:12]}... then, {f'{now[:12]}...' if now else 'no such file'} now)"
            )
    return None


@contextlib.contextmanager
def _where_it_ran(attempt: dict[str, Any]) -> Iterator[None]:
    """Read data as the run did: relative paths from its working directory, files from its mirror.

    Modules are looked for where they were before: those of that directory may be a stranger's.
    """
    cwd, before = Path(attempt["cwd"]), sys.path[:]
    mirror = cwd / attempt["mirror"] if attempt["mirror"] else None
    sys.path[:] = [str(Path(entry).absolute()) for entry in before]
    added = mirror is not None and mirror.is_dir() and "GATELAB_DATA_MIRROR" not in os.environ
    if added:
        os.environ["GATELAB_DATA_MIRROR"] = str(mirror)
    try:
        with contextlib.chdir(cwd if cwd.is_dir() else Path.cwd()):
            yield
    finally:
        sys.path[:] = before
        if added:
            del os.environ["GATELAB_DATA_MIRROR"]
