"""Arguments of Lightning's Trainer and callbacks that a run cannot take, each with what does the same."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from gatelab.data.messages import did_you_mean
from gatelab.run import RequestError
from gatelab.run.config.monitors import directions, wrong_way
from gatelab.run.config.signatures import locate

COMMANDS_OWN = {
    "logger": "logger=csv, logger=tensorboard, ... choose the loggers",
    "callbacks": "+callbacks.NAME={_target_: ...} adds one",
    "plugins": "the run writes its checkpoints with a plugin of its own",
    "default_root_dir": "paths.root=DIR says where a run writes",
    "enable_progress_bar": "callbacks.progress=null takes the bar away",
    "enable_checkpointing": "every run keeps its best and its last state",
    "use_distributed_sampler": "the DataModule shares its batches among the processes",
    "fast_dev_run": "debug=one_batch tries one batch",
    "overfit_batches": "debug=overfit trains on the same few batches; trainer.limit_train_batches=N says how many",
    "barebones": "callbacks=none and logger=off leave out what a run can do without",
    "limit_test_batches": "scores are of the whole split",
    "limit_predict_batches": "`gatelab predict` reads the whole input",
}
"""Arguments of Lightning's Trainer that the command gives itself, and what to use instead."""
NEUTRAL = {"fast_dev_run": (False, 0), "overfit_batches": (0,), "barebones": (False,)}
"""Their values that change nothing; null and, for `enable_checkpointing`, true never do."""

SEARCHES = ("BatchSizeFinder", "LearningRateFinder")
REWIRES = {
    "BackboneFinetuning": "it wants a network with a `backbone`",
    "BaseFinetuning": "it is a base class: name a class derived from it",
    "GradientAccumulationScheduler": "a record keeps its epochs as texts; trainer.accumulate_grad_batches is for all",
    "BasePredictionWriter": "it is a base class, and `gatelab predict` writes predictions",
    "LambdaCallback": "its functions cannot be written in a configuration; name a Callback class of your own",
    "ProgressBar": "it is a base class: take TQDMProgressBar or RichProgressBar",
    "StochasticWeightAveraging": "it replaces the schedule; WeightAveraging and EMAWeightAveraging do not",
    "ThroughputMonitor": "it wants a function; callbacks.throughput measures the same",
    "ModelPruning": "it renames the weights, so that no checkpoint could be read again",
}


def trainer_problems(node: Mapping[str, Any]) -> Iterator[str]:
    """What Lightning's Trainer takes and a run cannot: arguments that the command gives, and limits of nothing."""
    for key, instead in COMMANDS_OWN.items():
        value = node.get(key)
        harmless = value is None or any(value is x or value == x for x in NEUTRAL.get(key, ()))
        if key in node and not (harmless or (key == "enable_checkpointing" and value is True)):
            yield f"trainer.{key}: the command sets this itself; {instead}."
    for key in (
        "accumulate_grad_batches",
        "check_val_every_n_epoch",
        "val_check_interval",
        "limit_train_batches",
    ):
        value = node.get(key)
        if isinstance(value, int | float) and value <= 0:
            no_validation = key in ("check_val_every_n_epoch", "val_check_interval")
            hint = "; trainer.limit_val_batches=0 leaves the validation out" if no_validation else ""
            least = "more than 0" if key.startswith("limit") else "at least 1"
            yield f"trainer.{key}={value}: give {least}{hint}."
    for key in ("max_epochs", "max_steps"):
        value = node.get(key)
        if isinstance(value, int) and (value == 0 or value < -1):
            yield f"trainer.{key}={value}: give at least 1; -1 sets no limit."
    if isinstance(devices := node.get("devices"), str) and "," in devices:
        listed = ",".join(filter(None, devices.split(",")))
        yield f"trainer.devices={devices!r}: write the numbers of the devices as a list: trainer.devices=[{listed}]."
    if node.get("log_every_n_steps") is not None and node["log_every_n_steps"] < 0:
        yield f"trainer.log_every_n_steps={node['log_every_n_steps']}: give at least 1; 0 logs no step."
    if node.get("profiler") == "xla" and importlib.util.find_spec("torch_xla") is None:
        yield "trainer.profiler: xla needs a package: pip install torch_xla"
    if node.get("max_time") is not None and _seconds(node["max_time"]) <= 0:
        yield f"trainer.max_time={node['max_time']}: give more than no time, e.g. 00:01:30:00 for one and a half hours."


def _seconds(duration: Any) -> float:
    """The seconds of a duration as Lightning reads it; 1 for one that it will refuse itself."""
    if isinstance(duration, dict):
        import datetime

        try:
            return datetime.timedelta(**duration).total_seconds()
        except (TypeError, OverflowError):
            return 1.0
    parts = str(duration).split(":")
    return float(sum(map(int, parts))) if all(part.isdigit() for part in parts) else 1.0


def rewiring_problems(nodes: Mapping[str, Any]) -> Iterator[str]:
    """Callbacks of Lightning that do not work here, told before they are made: some cannot be."""
    for name, node in nodes.items():
        kind = locate(node["_target_"]) if node else None
        called = str(getattr(kind, "__name__", ""))
        if called in REWIRES and str(getattr(kind, "__module__", "")).startswith("pytorch_lightning."):
            yield f"callbacks.{name}: {called} does not work here: {REWIRES[called]}."


def callback_problems(
    callbacks: Mapping[str, Any], trainer: Mapping[str, Any], task: Mapping[str, Any]
) -> Iterator[str]:
    """What a run cannot do with its callbacks: no checkpoints, a search of its own, a metric that nobody logs.

    `task` is the node of the configuration.
    """
    import pytorch_lightning as pl

    from gatelab.run.build import saver_of
    from gatelab.tasks.checkpoint_io import check_serializable

    for name, callback in callbacks.items():
        kind = type(callback)
        if not isinstance(callback, pl.Callback):
            yield f"callbacks.{name}: {kind.__module__}.{kind.__qualname__} is not a pytorch_lightning.Callback."
        elif kind.__module__.startswith("pytorch_lightning."):
            if kind.__name__ in SEARCHES:
                yield f"callbacks.{name}: {kind.__name__} trains before the run; `gatelab sweep` searches."
            if kind.__name__ == "DeviceStatsMonitor" and importlib.util.find_spec("psutil") is None:
                yield f"callbacks.{name}: DeviceStatsMonitor needs a package: pip install psutil"
        else:
            try:
                check_serializable(callback.state_dict(), "its state")
            except TypeError as error:
                yield f"callbacks.{name}: {error}"
            except Exception:  # its state may be there during training only
                continue
    try:
        saver_of(list(callbacks.values()))
    except RequestError as error:
        yield str(error)
    yield from _monitor_problems(callbacks, trainer, task)


def device_problems(nodes: Mapping[str, Any]) -> Iterator[str]:
    """Devices that a callback is to use and that are not here; Lightning finds this when the run has begun."""
    import torch

    for name, node in nodes.items():
        device = (node or {}).get("device")
        if isinstance(device, str | int):
            try:
                torch.zeros(1, device=device).item()
            except (RuntimeError, AssertionError):  # an AssertionError of a PyTorch without CUDA
                yield f"callbacks.{name}.device={device}: not a device of this machine; null takes the run's own."


def _monitor_problems(
    callbacks: Mapping[str, Any], trainer: Mapping[str, Any], node: Mapping[str, Any]
) -> Iterator[str]:
    from gatelab.tasks.callbacks import Checkpoints

    task = locate(node["_target_"])
    better = {**directions(task), "train/loss": "min"}
    known = [*better, "train/lr", "time/epoch_seconds"]
    ours = ("gatelab.", "pytorch_lightning.")
    others = any(not type(c).__module__.startswith(ours) for c in callbacks.values())
    open_ended = others or not str(task.__module__).startswith(ours)
    for name, callback in callbacks.items():
        monitor = getattr(callback, "monitor", None)
        if isinstance(callback, Checkpoints) and monitor is None:
            monitor = node.get("monitor")
        if not isinstance(monitor, str):
            continue
        if monitor not in known and not (open_ended and not monitor.startswith(("val/", "train/"))):
            lightnings = monitor.replace("_", "/", 1)  # `val_loss`
            hint = f" Did you mean '{lightnings}'?" if lightnings in known else did_you_mean(monitor, known)
            yield f"callbacks.{name}.monitor: nothing logs '{monitor}'.{hint} The run logs {', '.join(known)}."
        key, mode = f"callbacks.{name}.mode", getattr(callback, "mode", None) or node.get("mode")
        if why := wrong_way(key, monitor, mode, better):
            yield f"{key}={mode}: {why}"
        stops = type(callback).__name__ == "EarlyStopping" and getattr(callback, "strict", False)
        if stops and monitor.startswith("val/") and trainer.get("limit_val_batches") == 0:
            yield f"callbacks.{name}.monitor: with trainer.limit_val_batches=0 nothing logs '{monitor}'."
