"""What watching a run costs a step: a very small character model with the default callbacks and the trace, and without.

One training on one thread. After every block of steps it goes on the other way, in turns, so that both see the same
process, weights and moments. A block's figure is the processor time of a step, less the slowest 5 %; the cost is the
median of the differences between neighbours. Not in it: the end of an epoch (validation, checkpoints).

example:
  python -m scripts.bench.callbacks --turns 40
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from gatelab.run.build import build_callbacks, build_data, build_task, build_trainer, prepare_process
from gatelab.run.config.compose import compose
from gatelab.run.config.schema import check
from gatelab.run.record.metrics_logger import MetricsCSV
from gatelab.tasks.trace import Trace
from scripts.harness import parser

RUN = ["data=stdlib", "data.batch_size=4", "data.window=16", "data.max_characters=null", "model=gru"]
RUN += ["model.hidden_size=32", "threads=1", "trainer.max_epochs=1", "trainer.limit_val_batches=0"]
BLOCK = 600


class Turns(pl.Callback):
    """Changes between the two ways after each block; `found` has the microseconds of a step of each block."""

    def __init__(self, watched: list[Any], turns: int) -> None:
        self.watched, self.left = watched, 2 * turns
        self.found: dict[bool, list[float]] = {True: [], False: []}
        self._watching, self._trace = True, None
        self._began, self._steps = 0, [0.0]

    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._steps.append(
            1e-3 * (time.thread_time_ns() - self._began)
        )  # the machine's other work is not in it
        if (batch_idx + 1) % BLOCK == 0:
            self.found[self._watching].append(statistics.fmean(sorted(self._steps[2:])[: int(0.95 * BLOCK)]))
            self._steps, self.left = [], self.left - 1
            self._watching = not self._watching
            self._trace, task.trace = task.trace, self._trace
            trainer.callbacks = [self, *(self.watched if self._watching else [])]
            trainer.should_stop = self.left <= 0
        self._began = time.thread_time_ns()


def main() -> int:
    p = parser(__doc__)
    p.add_argument("--turns", type=int, default=40, help=f"blocks of {BLOCK} steps of each way (%(default)s)")
    options = p.parse_args()
    plain = check(compose(RUN))
    prepare_process(plain)
    data = build_data(plain)
    with tempfile.TemporaryDirectory() as folder:
        watched = build_callbacks(plain, checkpoints={"directory": folder})
        turns, logger = Turns(watched, options.turns), MetricsCSV(Path(folder) / "metrics.csv")
        task: Any = build_task(plain, data.spec)
        task.trace = Trace(Path(folder) / "trace.csv")
        trainer = build_trainer(plain, callbacks=[turns, *watched], loggers=[logger], run_dir=Path(folder))
        trainer.callbacks = [turns, *watched]
        trainer.fit(task, datamodule=data)
    more = sorted(a - b for a, b in zip(turns.found[True], turns.found[False], strict=True))
    step, cost = statistics.median(turns.found[False]), statistics.median(more)
    low, high = more[len(more) // 4], more[-1 - len(more) // 4]
    print(
        f"a step with nothing: {step:.0f} us; watched: {cost:+.0f} us (quartiles {low:+.0f} to {high:+.0f}),",
        end=" ",
    )
    print(f"{100 * cost / step:.1f} % of it; {len(more)} blocks of {BLOCK} steps of each way")
    return 0


if __name__ == "__main__":
    sys.exit(main())
