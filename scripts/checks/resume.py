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

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.checks.resume_cases import STEPS, Kind, Request
from scripts.checks.resume_forked import ForkedRun
from scripts.checks.resume_undisturbed import add_folder, place, undisturbed
from scripts.compare import first_difference

EVERY_STEP = "callbacks.checkpoints.every_n_steps=1"
QUICK = (5, 7, 10, STEPS)  # after a validation, inside an epoch, between two, at the end


@dataclass
class Outcome:
    """What became of a case: `wrong` says what differs, or what went wrong on the way."""

    kind: Kind
    step: int
    wrong: str | None


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


def check(options: argparse.Namespace, root: Path) -> list[Outcome]:
    """Try every case that was asked for, several at a time."""
    requests = {}
    for number, what in enumerate(product(options.tasks, options.workers, options.ranks)):
        (folder := root / f"kind{number}").mkdir()
        requests[folder] = Request(Kind(*what), folder, (EVERY_STEP,))
    outcomes = []
    # forked before this process has a second thread; the runs are forked from those in turn
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        whole = {
            f: pool.submit(undisturbed, r, f / "undisturbed", options.limit) for f, r in requests.items()
        }
        cases = {}
        for folder, request in requests.items():
            reference = whole[folder].result()
            for step in options.steps:
                at = folder / f"step{step}"
                cases[pool.submit(try_case, request, step, at, reference, options.limit)] = (
                    request.kind,
                    step,
                )
        bar = tqdm(as_completed(cases), total=len(cases), desc="cases", file=sys.stderr, disable=None)
        for case in bar:
            outcomes.append(Outcome(*cases[case], case.result()))
            if wrong := outcomes[-1].wrong:
                bar.write(f"{outcomes[-1].kind}, step {outcomes[-1].step}: {wrong}", file=sys.stderr)
    return sorted(outcomes, key=lambda o: (o.kind, o.step))


def show(outcomes: list[Outcome], seconds: float) -> str:
    """The table, and the number tried."""
    tried = Counter(outcome.kind for outcome in outcomes)
    exact = Counter(outcome.kind for outcome in outcomes if not outcome.wrong)
    lines = [f"{'task':8}{'workers':>8}{'ranks':>7}{'tried':>8}{'exact':>8}"]
    lines += [
        f"{kind.task:8}{kind.workers:8}{kind.ranks:7}{number:8}{exact[kind]:8}"
        for kind, number in tried.items()
    ]
    lines.append(
        f"{len(outcomes)} tried, {exact.total()} exact, {len(outcomes) - exact.total()} not, {seconds:.0f} s"
    )
    bad = [outcome for outcome in outcomes if outcome.wrong]
    return "\n".join([*lines, *(f"{o.kind}, step {o.step}: {o.wrong}" for o in bad)])


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--quick", action="store_true", help=f"only the steps {', '.join(map(str, QUICK))}; 0 or 2 workers"
    )
    p.add_argument("--tasks", nargs="+", default=["text", "series"], choices=("text", "series"))
    p.add_argument("--workers", nargs="+", type=int, help="loader workers (default: 0 2)")
    p.add_argument("--ranks", nargs="+", type=int, default=[1, 2], help="processes of a run (default: 1 2)")
    p.add_argument("--steps", nargs="+", type=int, metavar="N", help=f"default: all of 1 to {STEPS}")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases at a time (default: %(default)s)")
    p.add_argument(
        "--limit", type=float, default=60.0, help="seconds that a run may take (default: %(default)g)"
    )
    add_folder(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    options.steps = options.steps or (list(QUICK) if options.quick else list(range(1, STEPS + 1)))
    options.workers = options.workers or ([0] if options.quick else [0, 2])
    began = time.monotonic()
    with place(options.folder, "resume-") as root:
        outcomes = check(options, root)
    print(show(outcomes, time.monotonic() - began))
    return int(any(outcome.wrong for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
