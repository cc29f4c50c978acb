"""Is a resumed run the undisturbed run? Every step of a 20-step run is tried, and everything compared bit for bit.

A language model with carried state and a forecaster are trained for two epochs of ten steps, with a validation every
five, with 0 and 2 loader workers, on 1 and 2 processes (gloo). Each case is killed (SIGKILL) right after the checkpoint
of its step was written, started again, and compared with a run that nobody disturbed: weights, optimiser, schedule,
carried state and counters in last.ckpt and best.ckpt, every line of metrics.csv, result.json.

examples:
  python -m scripts.checks.resume                          all 160 cases, some minutes on 2 cores
  python -m scripts.checks.resume --tasks text --ranks 2 --steps 9 10 11

Exit code 0 if all are exact; else 1, and the first difference of each is named. Not for Windows.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import as_completed
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.compare import first_difference
from scripts.forked import STEPS, ForkedRun, Kind, Request, forked_cases
from scripts.harness import parser, place, show

EVERY_STEP = "callbacks.checkpoints.every_n_steps=1"
LIMIT_SECONDS = 60.0


def kill_after(step: int) -> Any:
    """For `ForkedRun`: every process kills itself once the checkpoint of `step` is written."""

    def prepare(rank: int) -> list[Any]:
        from gatelab.tasks import Checkpoints

        save = Checkpoints.save_last

        def save_and_die(self: Checkpoints, trainer: Any) -> None:
            save(self, trainer)
            if trainer.global_step == step:
                os.kill(os.getpid(), signal.SIGKILL)

        Checkpoints.save_last = save_and_die  # type: ignore[method-assign]
        return []

    return prepare


def try_case(request: Request, root: Path, reference: Path, step: int) -> str | None:
    """Kill the run after `step`, start it again, and name the first difference."""
    folder = root / f"step{step}"
    killed = ForkedRun(request, folder, kill_after(step))
    codes = killed.wait(LIMIT_SECONDS)
    if codes != [-signal.SIGKILL] * len(killed.pids):
        return f"was not killed: {codes}\n{killed.tail()}"
    again = ForkedRun(request, folder)
    codes = again.wait(LIMIT_SECONDS)
    if codes is None or any(codes):
        return f"could not be resumed: {codes or f'nothing after {LIMIT_SECONDS:g} s'}\n{again.tail()}"
    if f"from step {step}\n" not in again.log.read_text():
        return f"did not go on from step {step}:\n{again.tail()}"
    return first_difference(request.directory(folder), reference)


def main(arguments: list[str] | None = None) -> int:
    p = parser(__doc__, folder=True)
    p.add_argument("--tasks", nargs="+", default=["text", "series"], choices=("text", "series"))
    p.add_argument("--workers", nargs="+", type=int, default=[0, 2], help="default: 0 2")
    p.add_argument("--ranks", nargs="+", type=int, default=[1, 2], help="processes of a run (default: 1 2)")
    every = list(range(1, STEPS + 1))
    p.add_argument("--steps", nargs="+", type=int, default=every, metavar="N", help=f"default: 1 to {STEPS}")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases at a time (default: %(default)s)")
    options = p.parse_args(arguments)
    began, wrong = time.monotonic(), {}
    kinds = [Kind(*what) for what in product(options.tasks, options.workers, options.ranks)]
    with (
        place(options.folder, "resume-") as root,
        forked_cases(kinds, root, options.jobs, LIMIT_SECONDS, EVERY_STEP) as (pool, runs),
    ):
        cases = {
            pool.submit(try_case, *runs[kind], step): (kind, step)
            for kind, step in product(kinds, options.steps)
        }
        bar = tqdm(as_completed(cases), total=len(cases), desc="cases", file=sys.stderr, disable=None)
        for case in bar:
            wrong[cases[case]] = case.result()
    tried = Counter(kind for kind, _ in wrong)
    exact = Counter(kind for (kind, _), difference in wrong.items() if not difference)
    rows = [{**vars(kind), "tried": number, "exact": exact[kind]} for kind, number in sorted(tried.items())]
    show("runs killed after a step and resumed", rows)
    bad = {case: difference for case, difference in sorted(wrong.items()) if difference}
    for (kind, step), difference in bad.items():
        print(f"{kind}, step {step}: {difference}")
    print(f"{len(wrong)} tried, {exact.total()} exact, {len(bad)} not, {time.monotonic() - began:.0f} s")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
