"""Ask a run to stop at many moments: does it ever hang, does it exit with 75, is the resumed run exact?

A small run is sent SIGTERM, SIGINT, SIGUSR1 or SIGUSR2 while it sets up, trains, validates, saves or tests, on one
process and on two (gloo), to the whole process group (as Ctrl-C or a scheduler does, loader workers included) or to one
of the processes alone. Then it is started again and compared bit for bit with a run that nobody disturbed.

examples:
  python -m scripts.checks.signals                        50 moments on one process and 50 on two
  python -m scripts.checks.signals --ranks 2 --moments 10

Exit code 0 if nothing hung, every run that was stopped exited with 75 (the other processes of a run with 0), and all
are exact. Not for Windows.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from tqdm import tqdm

from scripts.checks.resume_cases import Kind, Request
from scripts.checks.resume_forked import ForkedRun
from scripts.checks.resume_undisturbed import add_folder, place, undisturbed
from scripts.compare import first_difference

PHASES = ("setup", "training", "validation", "saving", "testing")
SIGNALS = ("SIGTERM", "SIGUSR1", "SIGTERM", "SIGUSR2", "SIGTERM", "SIGINT")
DELAYS = {"setup": 0.1, "training": 0.1, "validation": 0.02, "saving": 0.01, "testing": 0.1}
"""The longest wait, in seconds, from the beginning of a phase to the signal."""


@dataclass(frozen=True)
class Moment:
    """When, to whom, and what: `nth` time that the phase begins; `rank` None for the whole group."""

    kind: Kind
    phase: str
    nth: int
    delay: float
    signal: str
    rank: int | None


@dataclass
class Outcome:
    """What came of it: `stopped`, or `finished` before the signal mattered; `wrong` says what is not right."""

    moment: Moment
    end: str
    seconds: float
    wrong: str | None


def tell_phases(path: Path) -> Callable[[int], list[Any]]:
    """For `ForkedRun`: the first process writes a line to `path` whenever a phase begins."""

    def say(phase: str) -> None:
        with path.open("a") as file:
            file.write(f"{phase}\n")

    class Tell(pl.Callback):
        def on_train_start(self, *args: Any) -> None:
            say("training")

        def on_validation_start(self, *args: Any) -> None:
            say("validation")

    def prepare(rank: int) -> list[Any]:
        from gatelab.run import train
        from gatelab.tasks import AtomicCheckpointIO

        if rank > 0:
            return []
        save, evaluate = AtomicCheckpointIO.save_checkpoint, train.evaluate_splits
        AtomicCheckpointIO.save_checkpoint = lambda *args, **kw: (say("saving"), save(*args, **kw))[1]  # type: ignore
        train.evaluate_splits = lambda *args: (say("testing"), evaluate(*args))[1]  # type: ignore[assignment]
        say("setup")
        return [Tell()]

    return prepare


def moments(ranks: int, number: int, rng: random.Random) -> list[Moment]:
    """Every phase in turn, with the signals and victims in turn too."""
    chosen = []
    for i in range(number):
        phase = PHASES[i % len(PHASES)]
        nth = rng.randint(1, {"validation": 4, "saving": 6}.get(phase, 1))
        victims = [None, *range(ranks)] if ranks > 1 else [None]
        task, workers = ("text", "series")[i // 5 % 2], (0, 2)[i // 10 % 2]
        chosen.append(
            Moment(
                Kind(task, workers, ranks),
                phase,
                nth,
                rng.uniform(0.0, DELAYS[phase]),
                SIGNALS[i % len(SIGNALS)],
                victims[i // 5 % len(victims)],
            )
        )
    return chosen


def strike(request: Request, moment: Moment, folder: Path, reference: Path, limit: float) -> Outcome:
    """Send the signal, wait, start again, compare."""
    folder.mkdir()
    phases = folder / "phases"
    phases.touch()
    run = ForkedRun(request, folder, tell_phases(phases))
    end = time.monotonic() + limit
    while phases.read_text().split().count(moment.phase) < moment.nth and run.poll() is None:
        if time.monotonic() > end:
            run.kill()
            return Outcome(moment, "hung", limit, f"did not come to its {moment.phase}:\n{run.tail()}")
        time.sleep(0.001)
    time.sleep(moment.delay)
    number, sent = getattr(signal, moment.signal), time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        if run.poll() is None:
            os.killpg(run.group, number) if moment.rank is None else os.kill(run.pids[moment.rank], number)
    codes = run.wait(limit)
    seconds = time.monotonic() - sent
    if codes is None:
        return Outcome(moment, "hung", seconds, f"nothing for {limit:g} s:\n{run.tail()}")
    if codes[0] not in (0, 75) or any(codes[1:]):
        return Outcome(moment, "failed", seconds, f"exit codes {codes}:\n{run.tail(25)}")
    again = ForkedRun(request, folder)
    if (ended := again.wait(limit)) is None or any(ended):
        return Outcome(moment, "failed", seconds, f"could not be resumed, {ended}:\n{again.tail(25)}")
    wrong = first_difference(request.directory(folder), reference)
    return Outcome(moment, "stopped" if codes[0] == 75 else "finished", seconds, wrong)


def check(options: argparse.Namespace, root: Path) -> list[Outcome]:
    """Try every moment, several at a time."""
    rng, outcomes = random.Random(options.seed), []
    wanted = [moment for ranks in options.ranks for moment in moments(ranks, options.moments, rng)]
    kinds = sorted({moment.kind for moment in wanted})
    requests = {}
    for number, kind in enumerate(kinds):
        (folder := root / f"kind{number}").mkdir()
        requests[kind] = (Request(kind, folder), folder)
    # forked before this process has a second thread; the runs are forked from those in turn
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        whole = {
            k: pool.submit(undisturbed, r, f / "undisturbed", options.limit) for k, (r, f) in requests.items()
        }
        cases = []
        for number, moment in enumerate(wanted):
            request, folder = requests[moment.kind]
            reference = whole[moment.kind].result()
            cases.append(pool.submit(strike, request, moment, folder / f"{number}", reference, options.limit))
        for case in (
            bar := tqdm(as_completed(cases), total=len(cases), desc="moments", file=sys.stderr, disable=None)
        ):
            outcomes.append(case.result())
            if outcomes[-1].wrong:
                bar.write(f"{outcomes[-1].moment}: {outcomes[-1].wrong}", file=sys.stderr)
    return outcomes


def show(outcomes: list[Outcome], seconds: float) -> str:
    """The table, and what went wrong."""
    head = {"tried": 6, "exit 75": 9, "finished": 10, "hung": 6, "failed": 8, "inexact": 9, "longest": 9}
    lines = [f"{'ranks':>5} {'phase':12}" + "".join(f"{name:>{width}}" for name, width in head.items())]
    for ranks, phase in sorted({(o.moment.kind.ranks, PHASES.index(o.moment.phase)) for o in outcomes}):
        rows = [o for o in outcomes if (o.moment.kind.ranks, o.moment.phase) == (ranks, PHASES[phase])]
        ends = [o.end for o in rows]
        inexact = sum(1 for o in rows if o.wrong and o.end in ("stopped", "finished"))
        lines.append(
            f"{ranks:5} {PHASES[phase]:12}{len(rows):6}{ends.count('stopped'):9}{ends.count('finished'):10}"
            f"{ends.count('hung'):6}{ends.count('failed'):8}{inexact:9}{max(o.seconds for o in rows):7.1f} s"
        )
    bad = [o for o in outcomes if o.wrong]
    lines.append(
        f"{len(outcomes)} moments, {len(outcomes) - len(bad)} right, {len(bad)} wrong, {seconds:.0f} s"
    )
    return "\n".join([*lines, *(f"{o.moment}: {o.wrong}" for o in bad)])


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--moments", type=int, default=50, help="for each number of processes (default: %(default)s)"
    )
    p.add_argument("--ranks", nargs="+", type=int, default=[1, 2], help="processes of a run (default: 1 2)")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: %(default)s)")
    p.add_argument(
        "--limit", type=float, default=60.0, help="seconds until it counts as hung (default: %(default)g)"
    )
    p.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    add_folder(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    began = time.monotonic()
    torch.set_num_threads(1)  # a process with more than one thread must not fork
    with place(options.folder, "signals-") as root:
        outcomes = check(options, root)
    print(show(outcomes, time.monotonic() - began))
    return int(any(outcome.wrong for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
