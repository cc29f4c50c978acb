"""Objects from a resolved configuration: DataModule, task, callbacks, Trainer.

An argument that a constructor refuses becomes a `RequestError` that names its group.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.nn.modules.module import register_module_parameter_registration_hook

from gatelab.run import RequestError
from gatelab.run.config import MOST_THREADS
from gatelab.run.config.explain import MARKS
from gatelab.run.config.signatures import locate
from gatelab.run.record.secrets import without_secrets
from gatelab.run.record.sources import own_files

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from gatelab.tasks.callbacks import Checkpoints

REQUEST_ERRORS = (
    ValueError,
    TypeError,
    OSError,
    ImportError,
    MisconfigurationException,
)

MOST_TENSORS = 5_000
"""Weights of a network: fifty times those of the largest that is configured here."""
TOO_LARGE = ("allocate memory", "out of memory", "size calculation overflowed")
"""What PyTorch says of a tensor that finds no room."""


def make(node: Mapping[str, Any] | None, where: str, **extra: Any) -> Any:
    """Build the object that a configuration node describes.

    Raises:
        RequestError: the constructor refused its arguments; `where` is the group that is named.
    """
    if node is None:
        return None
    if "_target_" not in node:
        raise RequestError(f"{where}: names no class to build; give {where}._target_=package.Class too.")
    with request_errors(where, (Exception,)):
        return instantiate(node, **extra)


def instantiate(node: Any, **extra: Any) -> Any:
    """The object that a resolved node describes; errors are the constructor's own.

    It does what `hydra.utils.instantiate` does with such a node, but resolves no interpolations: a run directory that
    came from elsewhere may hold some.
    """
    if isinstance(node, list):
        return [instantiate(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    recursive = node.get("_recursive_", True)
    made = {k: instantiate(v) if recursive else v for k, v in node.items() if k not in MARKS} | extra
    if "_target_" not in node:
        return made
    target, positional = locate(node["_target_"]), instantiate(node.get("_args_", []))
    return partial(target, *positional, **made) if node.get("_partial_") else target(*positional, **made)


@contextlib.contextmanager
def request_errors(where: str, kinds: tuple[type[Exception], ...] = REQUEST_ERRORS) -> Iterator[None]:
    """Turn the errors of a bad request into `RequestError`s that name where it stands, unless they do so themselves."""
    try:
        yield
    except RequestError:
        raise
    except kinds as error:
        if os.environ.get("GATELAB_TRACEBACK"):
            raise
        text = str(error) if isinstance(error, REQUEST_ERRORS) else f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.strerror and error.filename is not None:
            text = f"{error.filename}: {error.strerror}"  # without its number
        text = text.removeprefix(f"{where.removeprefix('--input ')}: ")  # readers of tables name their file
        raise RequestError(f"{where}: {text}" if where else text) from error


@contextlib.contextmanager
def few_weights(most: int = MOST_TENSORS) -> Iterator[None]:
    """Stop a network that is made inside at more than `most` weight tensors: layers without end would be made.

    Raises:
        RequestError: it has more.
    """
    made = itertools.count(1)

    def count(_module: object, _name: str, _weight: object) -> None:
        if next(made) > most:
            raise RequestError(f"model: a network of more than {most:,} weight tensors; give fewer layers.")

    counting = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        counting.remove()


@contextlib.contextmanager
def sizes_only(most: int = MOST_TENSORS) -> Iterator[None]:
    """Make networks on torch's meta device, which allocates nothing; raises as `few_weights`."""
    with few_weights(most), torch.device("meta"):
        yield


def build_data(config: Mapping[str, Any]) -> Any:
    """The DataModule, with its data read, its `spec` ready, and the files of own classes in its `fingerprint`."""
    data = make(config["data"], "data")
    with request_errors("data"):
        data.prepare_data()
        data.setup("fit")
        data.fingerprint = {**data.fingerprint, **own_files(config, data)}
    return data


def task_class(config: Mapping[str, Any]) -> Any:
    """The class of the configured task (a `gatelab.tasks.Task`)."""
    return locate(config["task"]["_target_"])


def build_task(config: Mapping[str, Any], spec: Any, teacher: Any = None) -> pl.LightningModule:
    """The LightningModule around a freshly initialised network; the caller seeds.

    teacher: the task that it learns from (`task.teacher`), which only a run that trains has.

    Raises:
        RequestError: data and task do not fit together, or a size is impossible.
    """
    node, kind = dict(config["task"]), task_class(config)
    if kind.spec_type.kind != spec.kind:
        raise RequestError(
            f"task: {kind.__name__} works on {kind.spec_type.kind} data, but data is for {spec.kind}; "
            f"choose task={spec.kind}."
        )
    net_factory, core_factory = make(node.pop("net"), "task.net"), make(config["model"], "model")
    try:
        with request_errors("model"), few_weights():
            net = kind.build_net(net_factory, core_factory, spec)
    except RuntimeError as error:
        if not any(words in str(error) for words in TOO_LARGE):
            raise
        raise RequestError(
            "model: the network does not fit into this machine's memory; give smaller sizes, e.g. model.hidden_size."
        ) from None
    hparams = {"config": without_secrets(dict(config)), "spec": spec.to_dict()}
    optimizer, schedule = make(config["optim"], "optim"), make(config["schedule"], "schedule")
    with request_errors("optim"):
        optimizer(net.parameters())
    if node.get("teacher") is not None and teacher is None:  # nothing is learnt from it then
        node |= dict.fromkeys(("teacher", "distill_weight", "temperature"))
    factory = make({**node, "_partial_": True}, "task")
    with request_errors("task"):
        task: pl.LightningModule = factory(
            net=net,
            spec=spec,
            optimizer=optimizer,
            schedule=schedule,
            hparams=hparams,
            **({"teacher": teacher} if teacher is not None else {}),
        )
    return task


def build_callbacks(config: Mapping[str, Any], **extra: Mapping[str, Any]) -> list[pl.Callback]:
    """The callbacks of `callbacks=`, in order, and those of `matmul_precision` and `compile`; `extra` gives further
    arguments by the callback's key."""
    from gatelab.tasks.callbacks import Compile, MatmulPrecision

    nodes, precision, how = config["callbacks"] or {}, config.get("matmul_precision"), config.get("compile")
    found = [
        make({**node, **extra.get(name, {})}, f"callbacks.{name}")
        for name, node in nodes.items()
        if node is not None
    ]
    found += [] if precision in (None, "highest") else [MatmulPrecision(precision)]
    return [*found, *([] if how is None else [Compile(how)])]


def saver_of(callbacks: Sequence[Any]) -> Checkpoints:
    """The callback that writes the checkpoints.

    Raises:
        RequestError: there is none.
    """
    from gatelab.tasks.callbacks import Checkpoints

    for callback in callbacks:
        if isinstance(callback, Checkpoints):
            return callback
    raise RequestError(
        "callbacks.checkpoints: every run needs it (gatelab.tasks.callbacks.Checkpoints); leave it in."
    )


def build_trainer(
    config: Mapping[str, Any], *, callbacks: Sequence[Any], loggers: Sequence[Any], run_dir: Path
) -> pl.Trainer:
    """The Lightning Trainer that trains, writing below `run_dir` only."""
    from pytorch_lightning.callbacks import ProgressBar

    from gatelab.tasks import AtomicCheckpointIO

    node = dict(config["trainer"])
    if node.get("accelerator") in ("gpu", "cuda") and not torch.cuda.is_available():
        raise RequestError(
            "trainer.accelerator: PyTorch sees no GPU here (`gatelab doctor`); trainer=cpu trains without one."
        )
    if str(node.get("precision")).startswith("16") and node.get("accelerator") == "cpu":
        raise RequestError(
            f"trainer.precision={node['precision']}: half precision needs a GPU; trainer.precision=bf16-mixed trains "
            "on the CPU too."
        )
    if node.get("profiler") == "simple":
        from pytorch_lightning.profilers import SimpleProfiler

        node["profiler"] = SimpleProfiler(dirpath=run_dir, filename="profile")
    own = {
        "logger": list(loggers),
        "callbacks": list(callbacks),
        "plugins": [AtomicCheckpointIO()],
        "default_root_dir": run_dir,
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "use_distributed_sampler": False,
    }
    with request_errors("trainer", (Exception,)):
        trainer: pl.Trainer = locate(node.pop("_target_"))(**{**node, **own})
    return trainer


def prepare_process(config: Mapping[str, Any]) -> None:
    """Threads, denormals and the noise of libraries, for the whole process."""
    if config["threads"] is not None:
        torch.set_num_threads(min(int(config["threads"]), MOST_THREADS))  # a record may say anything
    torch.set_flush_denormal(bool(config["flush_denormal"]))
    # PyTorch lets cuDNN, whose GRU we train with on a GPU, read 10 bits of 23; `matmul_precision` asks for that
    torch.backends.cudnn.allow_tf32 = False
    # else `trainer.deterministic` has PyTorch write NaN over every new tensor, to show where one is read too early
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    quiet()


def quiet() -> None:
    """Silence the libraries' remarks that tell a user of Gatelab nothing."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*IterableDataset.*",
        ".*smaller than the logging interval.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*mid-epoch.*",
        ".*weights_only.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*recommended to use .self.log.*sync_dist=True.*",
        # logged as val/stitch; the final scores are read again until they do not depend on it (evaluate.py)
        ".*neighbouring evaluation streams.*",
    ):
        warnings.filterwarnings("ignore", message=message)
