"""Is a resumed run the undisturbed run? Every step of a 20-step run is tried, and everything compared bit for bit.

A language model with carried state and a forecaster are trained for two epochs of ten steps, with a validation every
five, with 0 and 2 loader workers, on 1 and 2 processes (gloo). Each case is killed (SIGKILL) right after the checkpoint
of its step was written, started again, and compared with a run that nobody disturbed: weights, optimiser, schedule,
carried state and counters in last.ckpt and best.ckpt, every line of metrics.csv, result.json.

examples:
  python -m scripts.checks.resume                          all 160 cases, some minutes on 2 cores
  python -m scripts.checks.resume --quick                  16 cases
  python -m scripts.checks.resume --tasks text --ranks 2 --steps 9 10 11

Exit code 0 if all are exact; else 1, and the first difference of each is named. Not for Windows.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.compare import first_difference
from scripts.forked import STEPS, ForkedRun, Kind, Request
from scripts.harness import parser, place, show

EVERY_STEP = "callbacks.checkpoints.every_n_steps=1"
QUICK = (5, 7, 10, STEPS)  # after a validation, inside an epoch, between two, at the end


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


def try_case(request: Request, step: int, folder: Path, reference: Path, limit: float) -> str | None:
    """Kill the run after `step`, start it again, and name the first difference."""
    killed = ForkedRun(request, folder, kill_after(step))
    codes = killed.wait(limit)
    if codes != [-signal.SIGKILL] * len(killed.pids):
        return f"was not killed: {codes}\n{killed.tail()}"
    again = ForkedRun(request, folder)
    codes = again.wait(limit)
    if codes is None or any(codes):
        return f"could not be resumed: {codes or f'nothing after {limit:g} s'}\n{again.tail()}"
    if f"from step {step}\n" not in again.log.read_text():
        return f"did not go on from step {step}:\n{again.tail()}"
    return first_difference(request.directory(folder), reference)


def main(arguments: list[str] | None = None) -> int:
    p = parser(__doc__, folder=True)
    p.add_argument("--quick", action="store_true", help="four steps, no loader workers")
    p.add_argument("--tasks", nargs="+", default=["text", "series"], choices=("text", "series"))
    p.add_argument("--workers", nargs="+", type=int, help="loader workers (default: 0 2)")
    p.add_argument("--ranks", nargs="+", type=int, default=[1, 2], help="processes of a run (default: 1 2)")
    p.add_argument("--steps", nargs="+", type=int, metavar="N", help=f"default: all of 1 to {STEPS}")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases at a time (default: %(default)s)")
    p.add_argument("--limit", type=float, default=60.0, help="seconds of a run (default: %(default)g)")
    options = p.parse_args(arguments)
    steps = options.steps or (QUICK if options.quick else range(1, STEPS + 1))
    workers = options.workers or ([0] if options.quick else [0, 2])
    began, wrong = time.monotonic(), {}
    # forked before this process has a second thread; the runs are forked from those in turn
    with (
        place(options.folder, "resume-") as root,
        ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("fork")) as pool,
    ):
        kinds = [Kind(*what) for what in product(options.tasks, workers, options.ranks)]
        requests = {kind: Request(kind, root / f"kind{n}", (EVERY_STEP,)) for n, kind in enumerate(kinds)}
        folders = {kind: root / f"kind{n}" for n, kind in enumerate(kinds)}
        whole = {
            k: pool.submit(r.undisturbed, folders[k] / "undisturbed", options.limit)
            for k, r in requests.items()
        }
        cases = {}
        for kind, step in product(kinds, steps):
            given = requests[kind], step, folders[kind] / f"step{step}", whole[kind].result(), options.limit
            cases[pool.submit(try_case, *given)] = (kind, step)
        bar = tqdm(as_completed(cases), total=len(cases), desc="cases", file=sys.stderr, disable=None)
        for case in bar:
            wrong[cases[case]] = case.result()
    tried, exact = (
        Counter(kind for kind, _ in wrong),
        Counter(kind for (kind, _), w in wrong.items() if not w),
    )
    rows = [{**vars(kind), "tried": number, "exact": exact[kind]} for kind, number in sorted(tried.items())]
    show("runs killed after a step and resumed", rows)
    bad = {case: difference for case, difference in sorted(wrong.items()) if difference}
    for (kind, step), difference in bad.items():
        print(f"{kind}, step {step}: {difference}")
    print(f"{len(wrong)} tried, {exact.total()} exact, {len(bad)} not, {time.monotonic() - began:.0f} s")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
