"""What the default callbacks cost on a step of about 1 ms: python scripts/bench_callbacks.py

One training of a small character model; every block of 200 steps it goes on with another set of callbacks: none, all
of `conf/callbacks/default.yaml`, or one alone, in a new random order each round. So every set sees the same process,
weights and moments, and each block holds one look of what looks rarely. Counted is the processor time of the process
(one thread), which what else the machine does moves less than the clock. A cost is the median over the rounds of
(block - the round's block without callbacks) / the latter, with a bootstrap interval of 95 %. Callbacks share work
(a row that is logged anyway), so one alone may cost more than its part of all. The bar is drawn as on a terminal of
80 columns, into nothing. Not in the figures: what happens at the end of an epoch (validation, checkpoints).
"""

import argparse
import io
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from gatelab.lab.build import build_callbacks, build_data, build_task, build_trainer, prepare_process
from gatelab.lab.compose import compose
from gatelab.lab.metrics_csv import MetricsCSV
from gatelab.lab.schema import check

RUN = ["data=stdlib", "data.batch_size=4", "data.window=32", "model=gru", "model.hidden_size=64", "threads=1"]
RUN += ["trainer.max_epochs=1", "trainer.limit_val_batches=0", "data.max_characters=null"]
BLOCK = 200
NONE, ALL = "none", "all"


class Terminal(io.TextIOWrapper):
    """A terminal that shows nothing."""

    def isatty(self) -> bool:
        """Whether a bar may be drawn."""
        return True


class Rounds(pl.Callback):
    """Goes through the sets of callbacks, a block each, and times the blocks.

    Attributes:
        seconds: for each set, the processor seconds a step of its block in every round.
    """

    def __init__(self, sets: dict[str, list[Any]], rounds: int) -> None:
        self.sets, self.rounds = sets, rounds
        self.seconds: dict[str, list[float]] = {name: [] for name in sets}
        self.queue: list[str] = [ALL]  # a block to warm up
        self.random = random.Random(0)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self.began = time.process_time()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """At the end of a block note its time and begin the next."""
        if (batch_idx + 1) % BLOCK:
            return
        now = time.process_time()
        self.seconds[self.queue.pop(0)].append((now - self.began) / BLOCK)
        if not self.queue:
            if batch_idx + 1 == BLOCK:
                self.seconds = {name: [] for name in self.sets}
            if len(self.seconds[NONE]) == self.rounds:
                trainer.should_stop = True
                return
            self.queue = self.random.sample(list(self.sets), len(self.sets))
        trainer.callbacks = [self, *self.sets[self.queue[0]]]
        for key in [key for key in trainer._results if "train/l" not in key]:
            del trainer._results[
                key
            ]  # what another set has logged would be in every row until the epoch ends
        self.began = time.process_time()


def measure(rounds: int) -> dict[str, list[float]]:
    """Train; return the seconds a step, for each set and round."""
    plain = check(compose(RUN))
    prepare_process(plain)
    data = build_data(plain)
    with tempfile.TemporaryDirectory() as folder:
        callbacks = build_callbacks(plain, checkpoints={"directory": folder})
        names = list(plain["callbacks"])
        sets = {NONE: [], ALL: callbacks, **{name: [c] for name, c in zip(names, callbacks, strict=True)}}
        clock = Rounds(sets, rounds)
        trainer = build_trainer(
            plain,
            callbacks=[clock, *callbacks],
            loggers=[MetricsCSV(Path(folder) / "metrics.csv")],
            run_dir=Path(folder),
        )
        with open(os.devnull, "wb") as nothing:
            before, sys.stderr = sys.stderr, Terminal(nothing)
            try:
                trainer.fit(build_task(plain, data.spec), datamodule=data)
            finally:
                sys.stderr = before
    return clock.seconds


def cost(with_: Sequence[float], without: Sequence[float]) -> tuple[float, float, float]:
    """The median share that is added, in percent, and its 95 % bootstrap interval."""
    shares = [100 * (a - b) / b for a, b in zip(with_, without, strict=True)]
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(shares, k=len(shares))) for _ in range(2000))
    return statistics.median(shares), medians[50], medians[1949]


def main() -> None:
    """Print one line for each callback and one for all together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    seconds = measure(options.rounds)
    without = seconds.pop(NONE)
    base = 1000 * statistics.median(without)
    print(f"a step without callbacks: {base:.3f} ms (median of {len(without)} blocks of {BLOCK} steps)")
    print(f"{'callback':16}{'us/step':>10}{'share':>10}   95 % interval")
    table = {name: cost(values, without) for name, values in seconds.items()}
    for name in [*(name for name in table if name != ALL), ALL]:
        share, low, high = table[name]
        print(f"{name:16}{10 * share * base:10.1f}{share:9.2f} %   {low:.2f} to {high:.2f} %")
    if options.json:
        options.json.write_text(json.dumps({"step_ms": base, "percent": table}, indent=1))


if __name__ == "__main__":
    main()
