"""Seconds per epoch of real training, for several models side by side in one process, and where they go.

Each model trains a slice of an epoch through the whole path of `gatelab train` (data, Lightning, default callbacks,
metrics.csv, checkpoints) and validates a slice, in turns, several rounds. Both are scaled to an epoch; a ratio is the
median over the rounds. All models get the sizes that the experiment gives its own, the same data, seed and batches.
Only the progress bar is left out. On a shared machine only the ratios mean something.

examples:
  python -m scripts.bench.epochs experiment=etth1_gru --threads 2 --profile
  python -m scripts.bench.epochs experiment=ptb_gru --batches 20 --rounds 3 --models model=gru model=lstm model=nn_lstm
  python -m scripts.bench.epochs --output docs/bench_epochs.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from tqdm import tqdm

from gatelab.core.backends.native import kernel
from gatelab.run.build import build_callbacks, build_data, build_task, build_trainer, prepare_process
from gatelab.run.config.compose import compose
from gatelab.run.config.schema import check
from gatelab.run.errors import RequestError
from gatelab.run.record.environment import describe
from gatelab.run.record.metrics_logger import MetricsCSV
from scripts.harness import median_ratio, parser, show, write_json

EXPERIMENTS = ("ptb_gru", "etth1_gru")
MODELS = ["model=gru model.backend=native", "model=gru model.backend=torch", "model=nn_gru"]
SIZES = ("hidden_size", "num_layers", "dropout")


@dataclass(frozen=True)
class Slice:
    """How much of an epoch a turn trains and validates, in batches; `warmup` is trained before the clock starts."""

    warmup: int
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

    def epochs(self) -> list[float]:
        """Seconds per epoch of each turn, validation included."""
        return [t + v for t, v in zip(self.training, self.validation, strict=True)]

    def take_turn(self, part: Slice, profiler: Any = None) -> None:
        """Train and validate a slice from the configured seed; keep its seconds, scaled to an epoch."""
        limits: dict[str, Any] = {"max_epochs": 1, "limit_train_batches": part.warmup + part.training + 1}
        limits |= {"limit_val_batches": part.validation, "profiler": profiler}
        plain, clock = {**self.plain, "trainer": {**self.plain["trainer"], **limits}}, Clock(part)
        prepare_process(plain)
        pl.seed_everything(plain["seed"], workers=False, verbose=False)
        task = build_task(plain, self.data.spec)
        with tempfile.TemporaryDirectory() as folder:
            callbacks = [clock, *build_callbacks(plain, checkpoints={"directory": f"{folder}/checkpoints"})]
            logger = MetricsCSV(Path(folder) / "metrics.csv", None)
            trainer = build_trainer(plain, callbacks=callbacks, loggers=[logger], run_dir=Path(folder))
            trainer.fit(task, datamodule=self.data)
        if profiler is None:
            self.training.append(clock.training * len(self.data.train_dataloader()) / part.training)
            self.validation.append(clock.validation * len(self.data.val_dataloader()) / part.validation)


def contenders(overrides: list[str], models: list[str], part: Slice) -> list[Contender]:
    """The models, with the sizes that the experiment gives its own, on one copy of the data.

    Raises:
        RequestError: an override that does not fit, or a slice that is longer than the epoch.
    """
    sizes = compose(overrides).resolved()["model"]
    kept = [f"model.{key}={sizes[key]}" for key in SIZES]
    found: list[Contender] = []
    for model in models:
        plain = check(compose([*overrides, *model.split(), *kept, "callbacks.progress=null"]))
        prepare_process(plain)
        found.append(Contender(model, plain, found[0].data if found else build_data(plain)))
    batches, validation = len(found[0].data.train_dataloader()), len(found[0].data.val_dataloader())
    if part.warmup + part.training >= batches or part.validation > validation:
        raise RequestError(
            f"--batches, --val-batches: an epoch has {batches} batches, a validation {validation}"
        )
    return found


def measure(overrides: list[str], threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """One experiment with one number of threads: the turns, and Lightning's profile of one more."""
    part = Slice(options.warmup, options.batches, options.val_batches)
    racers = contenders([*overrides, f"threads={threads}"], options.models, part)
    title = f"{' '.join(overrides)}, {threads} threads"
    for turn in tqdm(range(options.rounds), desc=title, file=sys.stderr, disable=None):
        at = turn % len(racers)
        for racer in racers[at:] + racers[:at]:
            racer.take_turn(part)
    models = [
        {
            "model": racer.name,
            "seconds_per_epoch": round(statistics.median(racer.epochs()), 3),
            "training": round(statistics.median(racer.training), 3),
            "validation": round(statistics.median(racer.validation), 3),
            "ratio": round(median_ratio(racer.epochs(), racers[-1].epochs()), 3),
            "rounds": [round(s, 3) for s in racer.epochs()],
        }
        for racer in racers
    ]
    show(
        f"{title}; ratios to {racers[-1].name}",
        [{k: v for k, v in m.items() if k != "rounds"} for m in models],
    )
    for racer in racers if options.profile else ():
        racer.take_turn(part, profiler := pl.profilers.SimpleProfiler())
        print(f"{racer.name}\n{profiler.summary()}")
    return {"overrides": overrides, "threads": threads, "models": models}


def main() -> int:
    p = parser(__doc__)
    text = f"as for `gatelab train`; without experiment=NAME: {' and '.join(EXPERIMENTS)}"
    p.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=text)
    text = f"the contenders, each one argument of overrides; ratios are to the last (default: {MODELS})"
    p.add_argument("--models", nargs="+", default=MODELS, metavar="OVERRIDES", help=text)
    p.add_argument(
        "--batches", type=int, default=60, help="training batches of a turn (default: %(default)s)"
    )
    p.add_argument("--val-batches", type=int, default=5, help="validation batches (default: %(default)s)")
    p.add_argument(
        "--warmup", type=int, default=5, help="batches before the clock starts (default: %(default)s)"
    )
    p.add_argument("--rounds", type=int, default=5, help="turns of each model (default: %(default)s)")
    p.add_argument("--threads", nargs="+", type=int, metavar="N", help="default: one for each core, then 1")
    p.add_argument("--profile", action="store_true", help="one more turn of each under Lightning's profiler")
    p.add_argument("--output", type=Path, metavar="FILE", help="write the results as JSON")
    options = p.parse_intermixed_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = options.threads or sorted({cores, 1}, reverse=True)
    given, wanted = options.overrides, [[f"experiment={name}", *options.overrides] for name in EXPERIMENTS]
    if any(o.startswith("experiment=") for o in given):
        wanted = [given]
    try:
        results = [measure(overrides, number, options) for overrides in wanted for number in threads]
    except RequestError as error:
        print(error, file=sys.stderr)
        return 2
    about = describe()
    document = {key: about[key] for key in ("cpu", "cpu_capability", "versions", "python")}
    document |= {"native": kernel.unavailable() or kernel.load().isa, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    document["slice"] = {k: getattr(options, k) for k in ("warmup", "batches", "val_batches", "rounds")}
    if options.output:
        write_json(options.output, {**document, "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
