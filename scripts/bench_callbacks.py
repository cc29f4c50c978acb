"""What the default callbacks cost on a step of about 1 ms: python scripts/bench_callbacks.py

One training of a small character model; every block of 200 steps it goes on with another set of callbacks: none, all
of `conf/callbacks/default.yaml`, or one alone, in a new random order each round. So every set sees the same process,
weights and moments. Counted is the processor time of the process (one thread), step by step, in three kinds: ordinary
steps, logged ones (one in 50) and those in which what looks rarely looks (one in 200). A cost is the median with the
callbacks less the median without, kind by kind, weighted by how often the kind comes, with a bootstrap interval of
95 %: what else the machine does moves it less than a mean. Not in it: the bar's drawing, five times a second, and what
happens at the end of an epoch (validation, checkpoints).
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
KINDS = {"ordinary": 196 / 200, "logged": 3 / 200, "rare": 1 / 200}
Samples = dict[str, list[float]]


class Terminal(io.TextIOWrapper):
    """A terminal that shows nothing."""

    def isatty(self) -> bool:
        """Whether a bar may be drawn."""
        return True


class Rounds(pl.Callback):
    """Goes through the sets of callbacks, a block each, and times the blocks.

    Attributes:
        seconds: for each set, the processor seconds of every step, by kind (`KINDS`).
    """

    def __init__(self, sets: dict[str, list[Any]], rounds: int) -> None:
        self.sets, self.rounds = sets, rounds
        self.seconds: dict[str, Samples] = {name: {kind: [] for kind in KINDS} for name in sets}
        self.queue: list[str] = []
        self.random = random.Random(0)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self.began = time.process_time()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the step's time; at the end of a block begin the next."""
        done = batch_idx + 1
        if self.queue:
            kind = "ordinary" if done % 50 else "logged" if done % BLOCK else "rare"
            self.seconds[self.queue[0]][kind].append(time.process_time() - self.began)
        if done % BLOCK == 0:
            self.queue = self.queue[1:]
            if not self.queue:
                if self.rounds == 0:
                    trainer.should_stop = True
                    return
                self.rounds -= 1
                self.queue = self.random.sample(list(self.sets), len(self.sets))
            trainer.callbacks = [self, *self.sets[self.queue[0]]]
            for key in [key for key in trainer._results if "train/l" not in key]:
                del trainer._results[
                    key
                ]  # what another set has logged would be in every row until the epoch ends
        self.began = time.process_time()


def measure(rounds: int) -> dict[str, Samples]:
    """Train; return the processor seconds of each step, by set and kind."""
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


def cost(with_: Samples, without: Samples) -> tuple[float, float, float]:
    """Microseconds a step that are added, and their 95 % bootstrap interval."""

    def added(draw: Any) -> float:
        pairs = ((share, draw(with_[kind]), draw(without[kind])) for kind, share in KINDS.items())
        return 1e6 * sum(share * (statistics.median(a) - statistics.median(b)) for share, a, b in pairs)

    source = random.Random(1)
    drawn = sorted(added(lambda values: source.choices(values, k=len(values))) for _ in range(400))
    return added(lambda values: values), drawn[10], drawn[389]


def main() -> None:
    """Print one line for each callback and one for all together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    seconds = measure(options.rounds)
    without = seconds.pop(NONE)
    step = 1e6 * sum(share * statistics.median(without[kind]) for kind, share in KINDS.items())
    print(
        f"a step without callbacks: {step / 1000:.3f} ms (medians of {sum(map(len, without.values()))} steps)"
    )
    print(f"{'callback':16}{'us/step':>10}{'share':>10}   95 % interval")
    table = {name: cost(samples, without) for name, samples in seconds.items()}
    for name in [*(name for name in table if name != ALL), ALL]:
        mean, low, high = table[name]
        shares = [100 * value / step for value in (mean, low, high)]
        print(f"{name:16}{mean:10.1f}{shares[0]:9.2f} %   {shares[1]:.2f} to {shares[2]:.2f} %")
    if options.json:
        options.json.write_text(json.dumps({"step_us": step, "added_us": table}, indent=1))


if __name__ == "__main__":
    main()
