"""What is watched during a run costs of a step of about 1 ms: python scripts/bench_callbacks.py

One training of a very small character model on one core and one thread. After every block of steps it goes on in
another way, in random order: with nothing (no callback, no trace), with all of `conf/callbacks/default.yaml` and the
trace, or with all of them and a clock around each of their hooks. So all three see the same process, weights and
moments. A block holds its share of ordinary, logged (one in 50) and rare steps (one in 200), and of drawn bars.

The table is what the clocks say, less what a clock costs. `calls` is what Lightning and `lean.py` need to call the
hooks: the time in Lightning's dispatch of the step's hooks with all callbacks less that with none, less what is in the
hooks. `metrics.csv` is how much longer a row is written. The line below it is another way to the same: processor time
of a step with all less with nothing, in pairs. It also holds what no clock sees (caches that are cold afterwards), and
the machine's noise.

All figures are medians over the blocks with a bootstrap interval of 95 %. Not in them: what happens at the end of an
epoch (validation, checkpoints).
"""

import argparse
import functools
import gc
import io
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.trainer import call as lightning

from gatelab.lab.build import build_callbacks, build_data, build_task, build_trainer, prepare_process
from gatelab.lab.compose import compose
from gatelab.lab.metrics_csv import MetricsCSV
from gatelab.lab.schema import check
from gatelab.tasks.lean import STEP_HOOKS, Joined, join_hooks
from gatelab.tasks.trace import Trace

RUN = ["data=stdlib", "data.batch_size=4", "data.window=16", "model=gru", "model.hidden_size=32", "threads=1"]
RUN += ["trainer.max_epochs=1", "trainer.limit_val_batches=0", "data.max_characters=null"]
BLOCK = 600
INTERRUPTED = 2_000_000
NONE, ALL, CLOCKED = "none", "all", "clocked"
DISPATCH, ROW, CALLS = "dispatch", "metrics.csv", "calls"
Estimate = tuple[float, float, float]


class Terminal(io.TextIOWrapper):
    """A terminal that shows nothing."""

    def isatty(self) -> bool:
        """Whether a bar may be drawn."""
        return True


class Clocks:
    """Adds up what calls take, by name: `spent` in nanoseconds, `calls` their number.

    A call that took longer than `INTERRUPTED` lost the processor on its way, and counts like the others of its name.
    """

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.interrupted: Counter[str] = Counter()
        nothing = self.around("nothing", lambda *_: None)
        found = []
        for _ in range(20_000):
            nothing(None, None, None)
            found.append(self.spent.pop("nothing"))
        self.own = statistics.median(found)

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with a clock."""
        clock, spent, calls, interrupted = time.perf_counter_ns, self.spent, self.calls, self.interrupted

        @functools.wraps(function)
        def called(*arguments: Any, **options: Any) -> Any:
            began = clock()
            value = function(*arguments, **options)
            took = clock() - began
            if took < INTERRUPTED:
                spent[name] += took
                calls[name] += 1
            else:
                interrupted[name] += 1
            return value

        return called

    def read(self) -> dict[str, float]:
        """Microseconds of every name, without the clock's own, since the last time."""
        found = {}
        for name, calls in self.calls.items():
            took = self.spent[name] / calls - self.own
            found[name] = took * (calls + self.interrupted[name]) / 1000
        for counter in (self.spent, self.calls, self.interrupted):
            counter.clear()
        return found


class Turns:
    """Goes through the three ways to train, a block each.

    Attributes:
        step: for each way, the processor time of a step (us) in each of its blocks.
        inside: for each way, what the clocks say of a step (us) in each of its blocks.
    """

    def __init__(self, callbacks: dict[str, Any], trace: Trace, logger: MetricsCSV, turns: int) -> None:
        self.callbacks, self.trace, self.turns, self.clocks = callbacks, trace, turns, Clocks()
        self.step: dict[str, list[float]] = {way: [] for way in (NONE, ALL, CLOCKED)}
        self.inside: dict[str, list[dict[str, float]]] = {way: [] for way in self.step}
        self.queue: list[str] = []
        self.random = random.Random(0)
        setattr(logger, "save", self.clocks.around(ROW, logger.save))  # noqa: B010

    def enter(self, way: str, trainer: Any, task: Any) -> None:
        """Go on in another way."""
        watched = list(self.callbacks.values())
        trainer.callbacks = [] if way == NONE else watched
        task.trace = None if way == NONE else self.trace
        vars(self.trace).pop("add_loss", None)
        vars(self.callbacks["gates"]).pop("_look", None)
        vars(task).pop("count", None)
        join_hooks(trainer, task)
        if way == NONE:
            task.count = lambda batch: 0
        elif way == CLOCKED:
            self.clock_everything(task)
        for hook in STEP_HOOKS:
            setattr(task, hook, self.clocks.around(DISPATCH, getattr(task, hook)))
        for key in [key for key in trainer._results if "train/l" not in key]:
            del trainer._results[
                key
            ]  # what another way has logged would be in every row until the epoch ends

    def clock_everything(self, task: Any) -> None:
        """A clock around all that is watched."""
        around = self.clocks.around
        setattr(self.trace, "add_loss", around("trace", self.trace.add_loss))  # noqa: B010
        task.count = around("count", task.count)
        gates = self.callbacks["gates"]
        gates._look = around("gates (looking)", gates._look)
        names = {id(callback): name for name, callback in self.callbacks.items()}
        for hook in STEP_HOOKS:
            if isinstance(joined := getattr(task, hook), Joined):
                inner: Any = [around(names[id(h.__self__)], h) for h in joined.hooks]  # type: ignore[attr-defined]
                joined.hooks = tuple(inner)
                joined.ordinary = tuple(h for h in inner if not hasattr(h, "on_logged_steps"))

    def step_done(self, trainer: Any) -> None:
        """At the end of a block note its time and begin the next."""
        if (trainer.fit_loop.epoch_loop.batch_idx + 1) % BLOCK:
            return
        inside = self.clocks.read()
        if self.queue:
            way = self.queue.pop()
            self.step[way].append((time.thread_time_ns() - self.began) / BLOCK / 1000)
            self.inside[way].append({name: took / BLOCK for name, took in inside.items()})
        if not self.queue:
            if self.turns == 0:
                trainer.should_stop = True
                return
            self.turns -= 1
            self.queue = self.random.sample(list(self.step), len(self.step))
        self.enter(self.queue[-1], trainer, trainer.lightning_module)
        self.began = time.thread_time_ns()


def measure(turns: int) -> Turns:
    """Train; return what was measured."""
    plain = check(compose(RUN))
    prepare_process(plain)
    data = build_data(plain)
    with tempfile.TemporaryDirectory() as folder:
        callbacks = build_callbacks(plain, checkpoints={"directory": folder})
        logger = MetricsCSV(Path(folder) / "metrics.csv")
        task: Any = build_task(plain, data.spec)
        task.trace = Trace(Path(folder) / "trace.csv")
        trainer: Any = build_trainer(plain, callbacks=callbacks, loggers=[logger], run_dir=Path(folder))
        turn = Turns(dict(zip(plain["callbacks"], callbacks, strict=True)), task.trace, logger, turns)
        end = trainer.fit_loop.epoch_loop.on_advance_end

        def on_advance_end(fetcher: Any) -> None:
            end(fetcher)
            turn.step_done(trainer)

        trainer.fit_loop.epoch_loop.on_advance_end = on_advance_end
        dispatch = lightning._call_callback_hooks
        setattr(lightning, "_call_callback_hooks", turn.clocks.around(DISPATCH, dispatch))  # noqa: B010
        gc.collect()
        gc.freeze()
        with open(os.devnull, "wb") as nothing:
            before, sys.stderr = sys.stderr, Terminal(nothing)
            try:
                trainer.fit(task, datamodule=data)
            finally:
                sys.stderr = before
                setattr(lightning, "_call_callback_hooks", dispatch)  # noqa: B010
    return turn


def estimate(values: Sequence[float]) -> Estimate:
    """The median and its 95 % bootstrap interval."""
    source = random.Random(1)
    drawn = sorted(statistics.median(source.choices(values, k=len(values))) for _ in range(1000))
    return statistics.median(values), drawn[25], drawn[974]


def table(found: Turns) -> dict[str, Estimate]:
    """Microseconds a step, by what takes them, and `together`."""
    without, with_, clocked = (found.inside[way] for way in (NONE, ALL, CLOCKED))

    def more(name: str) -> list[float]:
        return [b[name] - a[name] for a, b in zip(without, with_, strict=True)]

    inside = {name: [block.get(name, 0.0) for block in clocked] for name in found.callbacks}
    beside = {
        name: [block.get(name, 0.0) for block in clocked] for name in ("gates (looking)", "trace", "count")
    }
    beside[ROW] = more(ROW)
    hooks = list(map(sum, zip(*inside.values(), strict=True)))
    calls = [both - own for both, own in zip(more(DISPATCH), hooks, strict=True)]
    everything = map(sum, zip(more(DISPATCH), *beside.values(), strict=True))
    rows = {**inside, **beside, CALLS: calls, "together": list(everything)}
    return {name: estimate(values) for name, values in rows.items()}


def main() -> None:
    """Print one line for each, one for all together, and the other estimate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=40, help=f"blocks of {BLOCK} steps of each way")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found = measure(options.turns)
    step = statistics.median(found.step[NONE])
    print(f"a step with nothing: {step / 1000:.3f} ms ({options.turns} blocks of {BLOCK} steps of each way)")
    print(f"{'':18}{'us/step':>9}{'of a step':>12}{'of 1 ms':>11}   95 % interval of 1 ms")
    rows = table(found)
    rows["by turns"] = estimate([b - a for a, b in zip(found.step[NONE], found.step[ALL], strict=True)])
    for name, (middle, low, high) in rows.items():
        share = f"{middle:9.2f}{100 * middle / step:10.2f} %{middle / 10:9.2f} %"
        print(f"{name:18}{share}   {low / 10:.2f} to {high / 10:.2f} %")
    if options.json:
        options.json.write_text(json.dumps({"step_us": step, "added_us": rows}, indent=1))


if __name__ == "__main__":
    main()
