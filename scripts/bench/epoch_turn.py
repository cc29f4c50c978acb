"""One turn of one contender: a slice of an epoch through the whole path that `gatelab train` takes.

Data, Lightning's loop, the default callbacks, metrics.csv, validation and checkpoints are all there; only the progress
bar is left out, because it would draw over the benchmark's own. Where a step's time goes is `parts.py`.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from gatelab.run.build import build_callbacks, build_data, build_task, build_trainer, prepare_process
from gatelab.run.config.compose import compose
from gatelab.run.config.schema import check
from gatelab.run.record.metrics_logger import MetricsCSV

SIZES = ("hidden_size", "num_layers", "dropout")


@dataclass(frozen=True)
class Slice:
    """How much of an epoch a turn trains and validates, in batches."""

    warmup: int  # trained before the clock starts
    training: int
    validation: int


class Clock(pl.Callback):
    """Seconds from the start of batch `warmup` to the start of the batch after the last timed one; of validation."""

    def __init__(self, part: Slice) -> None:
        self.part = part
        self.training = self.validation = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == self.part.warmup:
            self.training = -time.perf_counter()
        elif batch_idx == self.part.warmup + self.part.training:
            self.training += time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validation = -time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validation += time.perf_counter()


@dataclass
class Contender:
    """A model in an experiment, and the seconds per epoch of its turns so far."""

    name: str
    plain: dict[str, Any]
    data: Any
    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @property
    def batches(self) -> int:
        """Training batches of an epoch."""
        return len(self.data.train_dataloader())

    @property
    def validation_batches(self) -> int:
        """Batches of a whole validation."""
        return len(self.data.val_dataloader())

    def epochs(self) -> list[float]:
        """Seconds per epoch of each turn, validation included."""
        return [t + v for t, v in zip(self.training, self.validation, strict=True)]

    def take_turn(self, part: Slice) -> None:
        """Train and validate a slice; keep its seconds, scaled to an epoch."""
        clock = Clock(part)
        fit(self, part, [clock])
        self.training.append(clock.training * self.batches / part.training)
        self.validation.append(clock.validation * self.validation_batches / part.validation)


def contenders(overrides: list[str], models: list[str], part: Slice) -> list[Contender]:
    """The models, with the sizes that the experiment gives its own, on one copy of the data.

    Raises:
        RequestError: an override that does not fit. ValueError: the slice is longer than the epoch.
    """
    sizes = compose(overrides).resolved()["model"]
    kept = [f"model.{key}={sizes[key]}" for key in SIZES]
    found: list[Contender] = []
    for model in models:
        plain = check(compose([*overrides, *model.split(), *kept, "callbacks.progress=null"]))
        prepare_process(plain)
        found.append(Contender(model, plain, found[0].data if found else build_data(plain)))
    first = found[0]
    if part.warmup + part.training >= first.batches:
        raise ValueError(
            f"--batches={part.training}: with {part.warmup} to warm up, an epoch of {first.batches} batches "
            "has not that many"
        )
    if part.validation > first.validation_batches:
        raise ValueError(f"--val-batches={part.validation}: there are {first.validation_batches}")
    return found


def fit(contender: Contender, part: Slice, watchers: list[Any], profiler: Any = None) -> pl.LightningModule:
    """Train a slice from the configured seed with the callbacks of a run and `watchers`; return the task."""
    limits = {
        "max_epochs": 1,
        "limit_train_batches": part.warmup + part.training + 1,
        "limit_val_batches": part.validation,
    }
    plain = {**contender.plain, "trainer": {**contender.plain["trainer"], **limits}}
    prepare_process(plain)
    pl.seed_everything(plain["seed"], workers=False, verbose=False)
    task = build_task(plain, contender.data.spec)
    with tempfile.TemporaryDirectory() as folder:
        callbacks = build_callbacks(plain, checkpoints={"directory": f"{folder}/checkpoints"})
        logger = MetricsCSV(Path(folder) / "metrics.csv", None)
        profiled = {**plain, "trainer": {**plain["trainer"], "profiler": profiler}}
        trainer = build_trainer(
            profiled, callbacks=[*watchers, *callbacks], loggers=[logger], run_dir=Path(folder)
        )
        if profiler is not None:
            profiler.watch(task)
        trainer.fit(task, datamodule=contender.data)
    return task
