"""Dry construction: what a run would refuse before its first step, found without training.

`gatelab check`, the first look of a sweep and `gatelab train` ask the same function, so their verdicts are the same.
Networks are made on torch's meta device, which allocates nothing. Data that are this machine's own files are read, once
for all jobs that share them, and the network is made in their sizes; of other data only the constructor runs. Callbacks
and the Trainer are made as they are.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatelab.run import RequestError
from gatelab.run.config.signatures import locate, signature_of
from gatelab.run.config.trainer_problems import (
    callback_problems,
    device_problems,
    rewiring_problems,
    trainer_problems,
)

SIZES = {"vocab_size": 10_000_000, "channels": 7, "horizon": 24}
"""Sizes that a data set decides, for a network that is only tried; the vocabulary is larger than any cutoff."""
OTHER_SIZE = 8
"""Any other such size: an argument of a network that is an `int` and has no default."""
PRECISIONS = {"64": "float64", "bf16": "bfloat16", "16": "float16"}
"""Beginning of `trainer.precision` -> numbers of the weights, where it does not end in `mixed`; else float32."""
STEPS = 10_000_000
"""Steps of the run that a schedule is tried for where its length is not known: more than any run has."""

PACKAGES = {
    "MLFlowLogger": "mlflow",
    "CometLogger": "comet_ml",
    "WandbLogger": "wandb",
    "LitLogger": "litlogger",
    "TensorBoardLogger": "tensorboard",
    "tensorboard_logger": "tensorboard",
    "wandb_logger": "wandb",
}
"""Loggers and the package that each of them needs."""


def _once(attempt: Callable[..., Any]) -> Callable[..., Any]:
    """Remember what a function says of nodes, by what they hold; it gets nodes of its own."""
    known = functools.cache(lambda *texts: attempt(*map(json.loads, texts)))
    return lambda *nodes: known(*(json.dumps(node, sort_keys=True, default=str) for node in nodes))


def refusal(config: Mapping[str, Any], *, here: bool = True, read: bool = True) -> str | None:
    """What the run would refuse before its first step, with its key; None where everything is accepted.

    Nodes that occur in several configurations are tried once. `here`: the run is to be on this machine, so its devices
    and its files have to be here too. `read`: data that are at hand are read; the run itself finds what does not fit.
    """
    from gatelab.run.source.initial import refusal_of_source
    from gatelab.run.source.teacher import refusal_of_teacher

    task, trainer, net = config["task"], config["trainer"], config["task"].get("net")
    tries: tuple[tuple[Callable[..., str | None], tuple[Any, ...]], ...] = (
        (_try_contracts, (config["data"], task)),
        (_try_data, (config["data"],)),
        (_try_model, (config["model"], net, config.get("transfer"), config["data"]["_target_"])),
        (_try_backend, (config["model"], trainer)),
        (_try_lengths, (config["optim"], config["schedule"], trainer, config["data"], read)),
        (_try_averaging, ((config["callbacks"] or {}).get("averaging"), config["schedule"], trainer)),
        (_try_loggers, (config["logger"],)),
        (_try_trainer, (trainer, config["callbacks"], task, here)),
        (_try_monitors, (task, config["callbacks"], config["data"], read)),
        (_try_compile, (config.get("compile"), trainer, here)),
        (_try_read, (config["data"], read and here)),
        (_try_task, (config, read)),
    )
    if text := refusal_of_teacher(config) or refusal_of_source(config):
        return text
    found = (attempt(*nodes) for attempt, nodes in tries)
    return next((text for text in found if text is not None), None)


@_once
def _try_contracts(data_node: Any, task_node: Any) -> str | None:
    """Whether DataModule and task are what a run can work with, and of one kind."""
    import pytorch_lightning as pl

    from gatelab.tasks import Task

    data, task = (locate(node["_target_"]) for node in (data_node, task_node))
    if inspect.isclass(task):
        wanted = ("spec_type", "unit", "figures", "train_loss", "eval_step", "build_net", "count")
        lacking = [name for name in wanted if _is_missing(task, name)]
        if lacking or not issubclass(task, Task):
            what = f" lacks {', '.join(lacking)}" if lacking else ""
            base = f"{',' * bool(lacking)} is not a gatelab.tasks.Task" * (not issubclass(task, Task))
            return f"task._target_: {task.__qualname__}{what}{base}. Derive it from gatelab.tasks.Task and give them."
    if inspect.isclass(data):
        lacking = [name for name in ("baselines", "dataloader") if _is_missing(data, name)]
        if lacking and issubclass(data, pl.LightningDataModule):
            return (
                f"data._target_: {data.__qualname__} publishes no spec (it lacks {', '.join(lacking)}). Derive it from "
                "gatelab.data.GatelabDataModule, or wrap it: data._target_=gatelab.data.PlainDataModule with "
                "`module:` (this node) and `spec:` (what the task reads)."
            )
        if lacking:
            return f"data._target_: {data.__qualname__} is not a DataModule; it lacks {', '.join(lacking)}."
        spec = typing.get_type_hints(data).get("spec") if inspect.isclass(task) else None
        by_hand = data_node.get("spec")
        kind = by_hand.get("kind") if isinstance(by_hand, dict) else getattr(spec, "kind", None)
        needed = getattr(task, "spec_type", None)
        if kind is not None and needed is not None and kind != needed.kind:
            return f"task: {task.__qualname__} works on {needed.kind} data, but data is for {kind}; choose task={kind}."
    return None


def _is_missing(kind: type, name: str) -> bool:
    return not hasattr(kind, name) or getattr(getattr(kind, name), "__isabstractmethod__", False)


@_once
def _try_data(node: Any) -> str | None:
    from gatelab.run.build import instantiate

    return _refused("data", node, lambda: instantiate(node))


@_once
def _try_model(model: Any, net: Any, transfer: Any, data: str) -> str | None:
    from gatelab.core.contract import check_call
    from gatelab.run.build import instantiate, sizes_only
    from gatelab.tasks.fine_tuning import FineTuning

    with sizes_only():
        core, factory = instantiate(model), instantiate(net)
        if not callable(core):
            return "model: the network is made once the data is known; give model._partial_=true."
        signature = signature_of(model["_target_"])
        if "input_size" not in signature.names and not signature.open_ended:
            return None

        def construct() -> None:
            made = core(input_size=8)
            if isinstance(getattr(made, "output_size", None), int):
                check_call(made, 8)

        text = _refused("model", model, construct)
        if text is not None or not callable(factory):
            return text
        parameters = inspect.signature(factory).parameters
        needed = {n: p.annotation for n, p in parameters.items() if p.default is p.empty and n != "core"}
        if not all(kind in (int, "int") for kind in needed.values()):
            return None
        given = {name: SIZES.get(name, OTHER_SIZE) for name in needed}
        tries = [given]
        if "vocab_size" in needed and "channels" in parameters:  # the data decide which of them it reads
            of_channels = {**given, "vocab_size": 0, "channels": SIZES["channels"]}
            known = {"tokens": [given], "channels": [of_channels]}
            tries = known.get(getattr(locate(data), "inputs", ""), [given, of_channels])
        makes = (
            lambda sizes=sizes: FineTuning(factory(**sizes, core=core), **(transfer or {})) for sizes in tries
        )
        refused = [_refused("task.net", net, make) for make in makes]
        return None if None in refused else refused[-1]


@_once
def _try_backend(model: Any, trainer: Any) -> str | None:
    """Whether a backend that is named computes in the precision of the run, tried with a few units on the processor."""
    import torch

    from gatelab.core import BackendError
    from gatelab.run.build import instantiate

    precision = str(trainer.get("precision"))
    if (
        model.get("backend") in (None, "auto")
        or "hidden_size" not in model
        or trainer.get("accelerator") != "cpu"
    ):
        return None
    dtype = next((kind for name, kind in PRECISIONS.items() if precision.startswith(name)), "float32")
    numbers = getattr(torch, "float32" if precision.endswith("mixed") else dtype)
    try:
        core = instantiate({**model, "hidden_size": OTHER_SIZE})(input_size=OTHER_SIZE).to(numbers)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision.endswith("mixed")):
            core(torch.zeros(2, 1, OTHER_SIZE, dtype=numbers))
    except BackendError as error:
        return f"model.backend: {str(error).splitlines()[0]}"
    except Exception:  # another try says what is wrong
        return None
    return None


@_once
def _try_lengths(optim: Any, schedule: Any, trainer: Any, data: Any, read: bool) -> str | None:
    """Whether optimiser and schedule can be made, and interval and schedule fit into the run."""
    import torch

    from gatelab.run.build import instantiate
    from gatelab.tasks.checkpoint_io import check_serializable
    from gatelab.tasks.schedules import scheduler_for

    made: list[Any] = []

    def construct() -> None:
        weights = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 2), (2,))]
        made.append(instantiate(optim)(weights))
        if not isinstance(made[0], torch.optim.Optimizer):
            raise TypeError(f"{optim['_target_']} makes no optimizer, but a {type(made[0]).__name__}")
        if not all(math.isfinite(group.get("lr", 0.0)) for group in made[0].param_groups):
            raise ValueError("the learning rate lr has to be finite")
        check_serializable(made[0].state_dict(), "its state")
        zero: Any = functools.partial(torch.zeros, ())
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        try:
            made[0].step(zero)
        except (RuntimeError, AssertionError) as error:  # e.g. one for sparse gradients only, or for a GPU
            if isinstance(error, RuntimeError) or trainer.get("accelerator") == "cpu":
                raise ValueError(str(error)) from None

    if text := _refused("optim", optim, construct):
        return text
    if text := _too_small_a_share(trainer, data, read):
        return text
    batches = _most_batches(trainer, data, read)
    interval, per_epoch = (
        trainer.get("val_check_interval"),
        trainer.get("check_val_every_n_epoch", 1) is not None,
    )
    if batches is not None and type(interval) is int and interval > batches and per_epoch:
        return (
            f"trainer.val_check_interval={interval}: an epoch has {batches:,} batch{'es' * (batches != 1)}; give at "
            "most that, null for a validation at each epoch's end, or trainer.check_val_every_n_epoch=null too, which "
            "counts over the epochs."
        )
    if schedule is None or not made:
        return None
    steps = _most_steps(trainer, batches)

    def construct_schedule() -> None:
        made.append(scheduler_for(instantiate(schedule), made[0], steps or STEPS))
        if isinstance(made[-1], torch.optim.lr_scheduler.ReduceLROnPlateau):
            _refuse_no_validation(trainer, "it follows the metric of the validations")
        if made[-1] is not None:
            check_serializable(made[-1].state_dict(), "its state")

    text = _refused("schedule", schedule, construct_schedule)
    endless = trainer.get("max_epochs") == -1 and trainer.get("max_steps", -1) == -1
    if text is None and endless and made[-1] is not None:
        return "schedule: needs the run's length; set trainer.max_epochs or trainer.max_steps."
    return text


@_once
def _try_averaging(averaging: Any, schedule: Any, trainer: Any) -> str | None:
    """Whether averaging of the weights can begin within the run, and works with its rate."""
    import torch

    from gatelab.run.build import instantiate
    from gatelab.tasks.callbacks import NonMonotonicAveraging
    from gatelab.tasks.schedules import scheduler_for

    def construct() -> None:
        made = instantiate(averaging)
        if not isinstance(made, NonMonotonicAveraging):
            return
        _refuse_no_validation(trainer, "it begins after validations that were no better")
        if trainer.get("val_check_interval") in (None, 1.0) and trainer.get("max_steps", -1) == -1:
            made.check_length(trainer.get("max_epochs"), trainer.get("check_val_every_n_epoch", 1))
        if schedule is not None:
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            made.check_rate(scheduler_for(instantiate(schedule), optimizer, STEPS), STEPS)

    return None if averaging is None else _refused("callbacks.averaging", averaging, construct)


def _refuse_no_validation(trainer: Mapping[str, Any], why: str) -> None:
    if trainer.get("limit_val_batches") == 0:
        raise ValueError(
            f"{why}, and trainer.limit_val_batches=0 leaves these out; give 1, or another choice"
        )


def _too_small_a_share(trainer: Mapping[str, Any], node: Any, read: bool) -> str | None:
    """What is wrong with a share of the batches that is less than one batch; None where the data cannot tell."""
    reading = _reading(node) if read else None
    for name, batches in (reading.batches if reading else {}).items():
        share = trainer.get(f"limit_{name}_batches")
        if isinstance(share, float) and share > 0 and int(share * batches) < 1:
            return (
                f"trainer.limit_{name}_batches={share}: less than one of {batches:,} batches; give a larger share, "
                "or a number of batches."
            )
    return None


def _most_batches(trainer: Mapping[str, Any], node: Any, read: bool) -> int | None:
    """Training batches of an epoch, or what they are limited to; None where only the data could tell."""
    limit = trainer.get("limit_train_batches")
    limited = limit if type(limit) is int and limit > 0 else None
    reading = _reading(node) if read else None
    if reading is None or reading.refused:
        return limited
    batches = reading.batches["train"]
    return min(batches, limited) if limited else int(batches * limit) if type(limit) is float else batches


@dataclass(frozen=True)
class Reading:
    """What was found in data that are at hand: their spec, the batches of a pass and notes, or why they cannot be
    read.
    """

    spec: Any = None
    batches: Mapping[str, int] = field(default_factory=dict)
    refused: str | None = None
    notes: tuple[str, ...] = ()


def notes_on_data(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What a run would say of its data before its first step; nothing of data that are not at hand."""
    reading = _reading(config["data"])
    return reading.notes if reading else ()


def _reading(node: Mapping[str, Any]) -> Reading | None:
    """The reading of a DataModule whose data are this machine's own, whatever its seed; None of others."""
    found: Reading | None = _read({**node, "seed": 0} if "seed" in node else node)
    return found


@_once
def _read(node: Any) -> Reading | None:
    from gatelab.run.build import build_data, instantiate, request_errors

    try:
        if not getattr(instantiate(node), "at_hand", False):
            return None
        data = build_data({"data": node})
        with request_errors("data"):
            batches = {"train": len(data.train_dataloader()), "val": len(data.val_dataloader())}
            return Reading(data.spec, batches, notes=tuple(data.notes))
    except RequestError as error:
        return Reading(refused=str(error))
    except Exception:  # the run says what is wrong
        return None


def _try_read(node: Any, here: bool) -> str | None:
    reading = _reading(node) if here else None
    return reading.refused if reading else None


def _try_task(config: Mapping[str, Any], read: bool) -> str | None:
    """Whether the task takes its network in the sizes that the data have, where these are at hand."""
    reading = _reading(config["data"]) if read else None
    if reading is None or reading.refused:
        return None
    text: str | None = _try_task_of(
        {group: config.get(group) for group in ("model", "task", "optim", "schedule", "data", "transfer")}
    )
    return text


@_once
def _try_task_of(config: Any) -> str | None:
    from gatelab.run.build import build_task, request_errors, sizes_only
    from gatelab.tasks.fine_tuning import FineTuning

    try:
        with sizes_only(), request_errors("", (ValueError,)):
            reading = _reading(config["data"])
            assert reading is not None
            task: Any = build_task(config, reading.spec)
            FineTuning(task.net, **(config["transfer"] or {}))
    except RequestError as error:
        return str(error)
    except Exception:  # a limit of the meta device says nothing about the run
        return None
    return None


@_once
def _try_compile(how: Any, trainer: Any, here: bool) -> str | None:
    """Whether the network can be compiled as is asked for; on another machine what is installed is not known."""
    from gatelab.tasks.callbacks.compiled import INDUCTOR, why_not

    device = trainer.get("accelerator")
    if how is None or device == "auto" or (how in INDUCTOR and not here):
        return None
    return why_not(how, device in ("gpu", "cuda"), trainer.get("accumulate_grad_batches") or 1)


@_once
def _try_monitors(node: Any, callbacks: Any, data_node: Any, read: bool) -> str | None:
    """Whether the data have the metrics that task and callbacks watch; every data set has a task's first one."""
    task = locate(node["_target_"])
    watched = {"task.monitor": node.get("monitor")}
    watched |= {
        f"callbacks.{name}.monitor": (item or {}).get("monitor") for name, item in (callbacks or {}).items()
    }
    first = [f"val/{figure.name}" for figure in getattr(task, "figures", ())[:1]]
    watched = {key: m for key, m in watched.items() if isinstance(m, str) and m not in first}
    if not read or not watched or not hasattr(task, "why_without"):
        return None
    if (reading := _reading(data_node)) is None or reading.refused:
        return None
    found = ((key, monitor, task.why_without(monitor, reading.spec)) for key, monitor in watched.items())
    return next((f"{key}: {monitor}: {why}." for key, monitor, why in found if why), None)


def _most_steps(trainer: Mapping[str, Any], batches: int | None) -> int | None:
    """The largest number of optimiser steps that the run can have; None if that is not known."""
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps", -1)
    limits = [steps] if isinstance(steps, int) and steps > 0 else []
    if batches is not None and isinstance(epochs, int) and epochs > 0:
        limits.append(epochs * math.ceil(batches / (trainer.get("accumulate_grad_batches") or 1)))
    return min(limits, default=None)


@_once
def _try_loggers(nodes: Any) -> str | None:
    from pytorch_lightning.loggers import Logger

    for name, node in (nodes or {}).items():
        if found := _without_target(f"logger.{name}", node):
            return found
        if node is None:
            continue
        kind = locate(node["_target_"])
        package = PACKAGES.get(getattr(kind, "__name__", ""))
        if package and importlib.util.find_spec(package) is None:
            return f"logger.{name}: needs a package: pip install {package.replace('_', '-')}"
        if inspect.isclass(kind) and not issubclass(kind, Logger):
            return f"logger.{name}._target_: {node['_target_']} is not a pytorch_lightning.loggers.Logger."
    return None


def _without_target(where: str, node: Any) -> str | None:
    """The mistake of an entry of `callbacks` or `logger` that names no class."""
    if node is None or (isinstance(node, dict) and "_target_" in node):
        return None
    given = f" (it has {', '.join(node) or 'no keys'})" if isinstance(node, dict) else f", not {node!r}"
    return (
        f"{where}: an entry is a node with a _target_{given}; write {where}._target_=CLASS, or {where}=null."
    )


@_once
def _try_trainer(trainer: Any, nodes: Any, task: Any, here: bool) -> str | None:
    from gatelab.run.build import build_callbacks, build_trainer, quiet

    if not here:
        trainer |= {"accelerator": "cpu", "devices": 1, "strategy": "auto"}
        trainer |= {} if str(trainer.get("precision")).startswith("32") else {"precision": None}
    quiet()
    found = [_without_target(f"callbacks.{name}", item) for name, item in (nodes or {}).items()]
    if not any(found):
        found += [*trainer_problems(trainer), *rewiring_problems(nodes or {})]
    if text := next((text for text in found if text), None):
        return text
    try:
        made = build_callbacks({"callbacks": nodes}, checkpoints={"directory": "checkpoints"})
        names = [name for name, item in (nodes or {}).items() if item is not None]
        wrong = [*callback_problems(dict(zip(names, made, strict=True)), trainer, task)]
        if wrong := wrong or [*(device_problems(nodes or {}) if here else ())]:
            return wrong[0]
        build_trainer({"trainer": trainer}, callbacks=made, loggers=[], run_dir=Path("unused"))
    except RequestError as error:
        return str(error)
    return None


def _refused(group: str, node: Mapping[str, Any], construct: Callable[[], object]) -> str | None:
    """The message of a constructor's ValueError or TypeError, after the key that it names."""
    try:
        construct()
    except (ValueError, TypeError) as error:
        text = str(error).splitlines()[0]
        if text.startswith((group, "transfer.")):
            return text
        named = max((k for k in node if not k.startswith("_") and k in text), key=len, default="")
        return f"{group}.{named}: {text}" if named else f"{group}: {text}"
    except RequestError as error:
        return str(error)
    except Exception:  # a limit of this machine or of the meta device says nothing about the run
        return None
    return None
