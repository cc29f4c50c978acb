"""What is watched during a run costs of a step of about 1 ms: python -m scripts.bench.callbacks

One training of a very small character model on one core and one thread. After every block of steps it goes on in
another way, in random order: with nothing (no callback, no trace), with all of `conf/callbacks/default.yaml` and the
trace, or with all of them and a clock around each of their hooks. So all three see the same process, weights and
moments.

The table is what the clocks say, less what they say of a hook that is empty: for ordinary steps, logged ones (one in
50) and those in which what looks rarely looks (one in 200) the median of a call, times how often it comes. A median,
because whatever else the machine does makes some calls much longer and none shorter. `calls` is what Lightning and
`lean.py` need to call the hooks: the dispatch of a step's hooks with all callbacks less that with none, less what is
in the hooks; `metrics.csv` is how much longer a row is written. The last line is another way to the same: processor
time of a step with all less with nothing, by the same medians. It holds what no clock sees (caches that are cold
afterwards, say), and more noise. Not in them: the end of an epoch (validation, checkpoints).

Intervals are those of a bootstrap over the calls, 95 %.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.trainer import call as lightning

from gatelab.run.build import build_callbacks, build_data, build_task, build_trainer, prepare_process
from gatelab.run.config.compose import compose
from gatelab.run.config.schema import check
from gatelab.run.record.metrics_logger import MetricsCSV
from gatelab.tasks.lean import STEP_HOOKS, Joined, join_hooks
from gatelab.tasks.trace import Trace

RUN = ["data=stdlib", "data.batch_size=4", "data.window=16", "model=gru", "model.hidden_size=32", "threads=1"]
RUN += ["trainer.max_epochs=1", "trainer.limit_val_batches=0", "data.max_characters=null"]
BLOCK = 600
NONE, ALL, CLOCKED = "none", "all", "clocked"
ROW, CALLS, NOTHING, STEP, TOGETHER = "metrics.csv", "calls", "nothing", "step", "together"
KINDS = {"ordinary": 196 / 200, "logged": 3 / 200, "rare": 1 / 200}
SOMETIMES = ("bar drawn", "trace written")  # when time has passed, in whatever step
Samples = dict[tuple[str, str], list[float]]
Estimate = tuple[float, float, float]


class Terminal(io.TextIOWrapper):
    """A terminal that shows nothing."""

    def isatty(self) -> bool:
        """Whether a bar may be drawn."""
        return True


class Clocks:
    """Notes what calls take.

    Attributes:
        kind: of the step that goes on; found: by name and kind, the microseconds of every call.
    """

    def __init__(self) -> None:
        self.kind = "ordinary"
        self.found: Samples = {}

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with a clock."""
        clock = time.perf_counter_ns

        @functools.wraps(function)
        def called(*arguments: Any, **options: Any) -> Any:
            began = clock()
            value = function(*arguments, **options)
            took = clock() - began
            self.found.setdefault((name, self.kind), []).append(took / 1000)
            return value

        return called


class Turns:
    """Goes through the three ways to train, a block each; `found` holds what was measured in each of them."""

    def __init__(self, callbacks: dict[str, Any], trace: Trace, logger: MetricsCSV, turns: int) -> None:
        self.callbacks, self.trace, self.turns, self.clocks = callbacks, trace, turns, Clocks()
        self.found: dict[str, Samples] = {way: {} for way in (NONE, ALL, CLOCKED)}
        self.queue: list[str] = []
        self.random = random.Random(0)
        setattr(logger, "save", self.clocks.around(ROW, logger.save))  # noqa: B010

    def enter(self, way: str, trainer: Any, task: Any) -> None:
        """Go on in another way."""
        watched = list(self.callbacks.values())
        trainer.callbacks = [] if way == NONE else watched
        task.trace = None if way == NONE else self.trace
        for owner, name in [*self.clocked(task), *((task, hook) for hook in STEP_HOOKS)]:
            vars(owner).pop(name, None)  # what the way before has put there
        join_hooks(trainer, task)
        if way == NONE:
            task.count = lambda batch: 0
        elif way == CLOCKED:
            self.clock_everything(task)
        for hook in STEP_HOOKS:
            setattr(task, hook, self.clocks.around(f"{hook} of the task", getattr(task, hook)))
        self.clocks.found = self.found[way]
        for key in [key for key in trainer._results if "train/l" not in key]:
            del trainer._results[
                key
            ]  # what another way has logged would be in every row until the epoch ends

    def clocked(self, task: Any) -> dict[tuple[Any, str], str]:
        """What gets a clock beside the hooks: owner and name, and what it is called here."""
        return {
            (self.trace, "add_loss"): "trace",
            (self.trace, "flush"): "trace written",
            (self.callbacks["progress"], "_show"): "bar drawn",
            (self.callbacks["gates"], "_look"): "gates (looking)",
            (task, "count"): "count",
        }

    def clock_everything(self, task: Any) -> None:
        """A clock around all that is watched."""
        around = self.clocks.around
        for (owner, name), label in self.clocked(task).items():
            setattr(owner, name, around(label, getattr(owner, name)))
        names = {id(callback): name for name, callback in self.callbacks.items()}
        for hook in STEP_HOOKS:
            if isinstance(joined := getattr(task, hook), Joined):
                inner: list[Any] = [around(names[id(h.__self__)], h) for h in joined.hooks]  # type: ignore[attr-defined]
                joined.hooks = (*inner, around(NOTHING, lambda *_: None))
                joined.ordinary = tuple(h for h in joined.hooks if not hasattr(h, "on_logged_steps"))

    def step_done(self, trainer: Any) -> None:
        """Note the step's time; at the end of a block begin the next."""
        now, done = time.thread_time_ns(), trainer.fit_loop.epoch_loop.batch_idx + 1
        if self.queue:
            self.clocks.found.setdefault((STEP, self.clocks.kind), []).append((now - self.began) / 1000)
        if done % BLOCK == 0:
            if self.queue:
                self.queue.pop()
            if not self.queue:
                if self.turns == 0:
                    trainer.should_stop = True
                    return
                self.turns -= 1
                self.queue = self.random.sample(list(self.found), len(self.found))
            self.enter(self.queue[-1], trainer, trainer.lightning_module)
        self.clocks.kind = "ordinary" if (done + 1) % 50 else "logged" if (done + 1) % 200 else "rare"
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
        end, dispatch = trainer.fit_loop.epoch_loop.on_advance_end, lightning._call_callback_hooks
        clocked = {hook: turn.clocks.around(hook, dispatch) for hook in STEP_HOOKS}

        def by_hook(trainer: Any, hook: str, *arguments: Any, **options: Any) -> None:
            clocked.get(hook, dispatch)(trainer, hook, *arguments, **options)

        def on_advance_end(fetcher: Any) -> None:
            end(fetcher)
            turn.step_done(trainer)

        setattr(lightning, "_call_callback_hooks", by_hook)  # noqa: B010
        trainer.fit_loop.epoch_loop.on_advance_end = on_advance_end
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


def table(found: Turns, draw: Callable[[Sequence[float]], Sequence[float]]) -> dict[str, float]:
    """Microseconds a step, by what takes them, and `together`; `draw` gives the calls that count."""
    steps = sum(len(found.found[CLOCKED][STEP, kind]) for kind in KINDS)

    def middle(way: str, name: str, kind: str) -> float:
        calls = found.found[way].get((name, kind), [])
        return statistics.median(draw(calls)) if calls else 0.0

    def of(way: str, name: str) -> float:
        return sum(share * middle(way, name, kind) for kind, share in KINDS.items())

    own = middle(CLOCKED, NOTHING, "ordinary")

    def clocked(name: str) -> float:
        calls = {kind: len(found.found[CLOCKED].get((name, kind), [])) for kind in KINDS}
        if name in SOMETIMES:
            merged = [us for kind in KINDS for us in found.found[CLOCKED].get((name, kind), [])]
            return (statistics.median(draw(merged)) - own) * len(merged) / steps if merged else 0.0
        return sum((middle(CLOCKED, name, kind) - own) * n / steps for kind, n in calls.items() if n)

    inside = {name: clocked(name) for name in found.callbacks}
    beside = {name: clocked(name) for name in found.clocked(None).values()}
    dispatched = sum(
        of(ALL, name) - of(NONE, name) for hook in STEP_HOOKS for name in (hook, f"{hook} of the task")
    )
    beside[ROW] = of(ALL, ROW) - of(NONE, ROW)
    rows = {**inside, **beside, CALLS: dispatched - sum(inside.values())}
    by_turns = of(ALL, STEP) - of(NONE, STEP)
    return {**rows, TOGETHER: sum(rows.values()), "by turns": by_turns, STEP: of(NONE, STEP)}


def estimates(found: Turns) -> dict[str, Estimate]:
    """The table with its 95 % bootstrap intervals."""
    source = random.Random(1)
    drawn = [table(found, lambda calls: source.choices(calls, k=min(len(calls), 2000))) for _ in range(40)]
    ends = {name: sorted(other[name] for other in drawn) for name in drawn[0]}
    return {name: (us, ends[name][1], ends[name][-2]) for name, us in table(found, list).items()}


def main() -> None:
    """Print one line for each, one for all together, and the other estimate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=40, help=f"blocks of {BLOCK} steps of each way")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    found = measure(options.turns)
    rows = estimates(found)
    step = rows.pop(STEP)[0]
    print(f"a step with nothing: {step / 1000:.3f} ms ({options.turns} blocks of {BLOCK} steps of each way)")
    print(f"{'':18}{'us/step':>9}{'of a step':>12}{'of 1 ms':>11}   95 % interval of 1 ms")
    for name, (middle, low, high) in rows.items():
        share = f"{middle:9.2f}{100 * middle / step:10.2f} %{middle / 10:9.2f} %"
        print(f"{name:18}{share}   {low / 10:.2f} to {high / 10:.2f} %")
    if options.json:
        options.json.write_text(json.dumps({"step_us": step, "added_us": rows}, indent=1))


if __name__ == "__main__":
    main()
