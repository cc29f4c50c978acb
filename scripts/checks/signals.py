"""Ask runs and sweeps to stop at many moments: do they exit with 75, never hang, and go on exactly?

`--moments`: a small run is sent SIGTERM, SIGINT, SIGUSR1 or SIGUSR2 while it sets up, trains, validates, saves or
tests, on one process and on two (gloo), to the whole process group (as Ctrl-C or a scheduler does, loader workers
included) or to one of the processes alone. `--imports`: `gatelab train` is sent one while it imports its libraries.
`--sweeps`: a sweep is sent SIGTERM, SIGUSR1, SIGUSR2 or SIGHUP. Each is then started again and compared bit for bit
with one that nobody disturbed.

examples:
  python -m scripts.checks.signals                        50 moments on one process, 50 on two, 60 imports, 8 sweeps
  python -m scripts.checks.signals --ranks 2 --moments 10 --imports 0 --sweeps 0

Exit code 0 if nothing hung, all that was stopped exited with 75 (the other processes of a run with 0), and all are
exact. Not for Windows.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from tqdm import tqdm

from scripts.chaos.sweep import STUDIES, sweep_command
from scripts.chaos.verdict import judge
from scripts.compare import first_difference
from scripts.forked import ForkedRun, Kind, Request
from scripts.harness import Command, gatelab, parser, place, show

PHASES = ("setup", "training", "validation", "saving", "testing")
SIGNALS = ("SIGTERM", "SIGUSR1", "SIGTERM", "SIGUSR2", "SIGTERM", "SIGINT")
TO_SWEEPS = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP")
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

    what: str
    end: str
    seconds: float
    wrong: str | None
    moment: object = None


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
    victims = [None, *range(ranks)] if ranks > 1 else [None]
    for i in range(number):
        phase = PHASES[i % len(PHASES)]
        nth = rng.randint(1, {"validation": 4, "saving": 6}.get(phase, 1))
        kind = Kind(("text", "series")[i // 5 % 2], (0, 2)[i // 10 % 2], ranks)
        delay, name = rng.uniform(0.0, DELAYS[phase]), SIGNALS[i % len(SIGNALS)]
        chosen.append(Moment(kind, phase, nth, delay, name, victims[i // 5 % len(victims)]))
    return chosen


def strike(request: Request, moment: Moment, folder: Path, reference: Path, limit: float) -> Outcome:
    """Send the signal to a run, wait, start again, compare."""
    what = f"{moment.phase}, {moment.kind.ranks} ranks"
    folder.mkdir()
    phases = folder / "phases"
    phases.touch()
    run = ForkedRun(request, folder, tell_phases(phases))
    end = time.monotonic() + limit
    while phases.read_text().split().count(moment.phase) < moment.nth and run.poll() is None:
        if time.monotonic() > end:
            run.kill()
            return Outcome(what, "hung", limit, f"did not come to its {moment.phase}:\n{run.tail()}", moment)
        time.sleep(0.001)
    time.sleep(moment.delay)
    number, sent = getattr(signal, moment.signal), time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        if run.poll() is None:
            os.killpg(run.group, number) if moment.rank is None else os.kill(run.pids[moment.rank], number)
    codes = run.wait(limit)
    seconds = time.monotonic() - sent
    if codes is None:
        return Outcome(what, "hung", seconds, f"nothing for {limit:g} s:\n{run.tail()}", moment)
    if codes[0] not in (0, 75) or any(codes[1:]):
        return Outcome(what, "failed", seconds, f"exit codes {codes}:\n{run.tail(25)}", moment)
    again = ForkedRun(request, folder)
    if (ended := again.wait(limit)) is None or any(ended):
        return Outcome(what, "failed", seconds, f"could not be resumed, {ended}:\n{again.tail(25)}", moment)
    wrong = first_difference(request.directory(folder), reference)
    return Outcome(what, "stopped" if codes[0] == 75 else "finished", seconds, wrong, moment)


def stop_command(
    what: str,
    arguments: list[str],
    folder: Path,
    ready: Callable[[Command], bool],
    name: str,
    compare: Callable[[], str | None],
    limit: float,
) -> Outcome:
    """Send a signal to a command once it is ready; it must exit with 75; give it again, and compare."""
    command = Command(arguments, folder / "log")
    reached = command.until(lambda: ready(command), limit)
    sent = time.monotonic()
    command.signal(getattr(signal, name))
    code = command.wait(limit)
    seconds, moment = time.monotonic() - sent, f"{name} after {sent:.2f}"
    if not reached:
        return Outcome(what, "failed", seconds, f"ended with {code} too early:\n{command.tail()}", moment)
    if code != 75:
        end = "hung" if code is None else "failed"
        return Outcome(what, end, seconds, f"{name}: exit code {code}:\n{command.tail()}", moment)
    again = Command(arguments, folder / "log")
    if (code := again.wait(2 * limit)) != 0:
        return Outcome(what, "failed", seconds, f"{name}: then exit code {code}:\n{again.tail()}", moment)
    return Outcome(what, "stopped", seconds, compare(), moment)


def imports(
    request: Request, folder: Path, reference: Path, rng: random.Random, limit: float
) -> Callable[[], Outcome]:
    """A run that is stopped while it imports its libraries: `-X importtime` writes a line for each module."""
    python, *rest = gatelab("train", *request.overrides, f"paths.runs={folder}")
    arguments, share, name = [python, "-X", "importtime", *rest], rng.random(), rng.choice(SIGNALS)
    lines = [
        line for line in (reference.parents[1] / "imports").read_text().splitlines() if "import time" in line
    ]
    first = next(i for i, line in enumerate(lines) if line.split("|")[-1].strip().startswith("torch."))
    wanted = first + int(share * (len(lines) - first))

    def ready(command: Command) -> bool:
        return command.log.read_bytes().count(b"import time") >= wanted

    def compare() -> str | None:
        return first_difference(request.directory(folder), reference)

    return lambda: stop_command("imports", arguments, folder, ready, name, compare, limit)


def sweeps(root: Path, whole: Path, name: str, rng: random.Random, limit: float) -> Callable[[], Outcome]:
    """A sweep that is stopped at some moment after its first trial has begun."""
    delay, begun = rng.uniform(0.0, 6.0), [0.0]

    def ready(command: Command) -> bool:
        if not begun[0] and any(root.glob("runs/*/*/run.json")):
            begun[0] = time.monotonic()
        return bool(begun[0]) and time.monotonic() > begun[0] + delay

    def compare() -> str | None:
        found = judge(root, whole, "grid")
        return "; ".join([*found.lost, *found.twice, *found.different]) or None

    arguments = sweep_command(root, "grid", "local", 1, 2)
    return lambda: stop_command(f"sweep, {name}", arguments, root, ready, name, compare, limit)


def check_runs(options: Any, root: Path, rng: random.Random) -> list[Outcome]:
    """Every moment of a run, several at a time, in forked processes."""
    wanted = [moment for ranks in options.ranks for moment in moments(ranks, options.moments, rng)]
    requests = {
        kind: Request(kind, root / f"kind{n}") for n, kind in enumerate(sorted({m.kind for m in wanted}))
    }
    folders = {kind: root / f"kind{n}" for n, kind in enumerate(requests)}
    # forked before this process has a second thread; the runs are forked from those in turn
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        whole = {
            k: pool.submit(r.undisturbed, folders[k] / "undisturbed", options.limit)
            for k, r in requests.items()
        }
        cases = []
        for n, moment in enumerate(wanted):
            given = requests[moment.kind], moment, folders[moment.kind] / f"{n}", whole[moment.kind].result()
            cases.append(pool.submit(strike, *given, options.limit))
        return collect("moments", cases)


def check_commands(options: Any, root: Path, rng: random.Random) -> list[Outcome]:
    """Imports and sweeps: whole commands, several at a time."""
    jobs: list[Callable[[], Outcome]] = []
    if options.imports:
        request = Request(Kind("series", 0, 1), root / "imports")
        python, *rest = gatelab("train", *request.overrides, f"paths.runs={root / 'imports/whole'}")
        log = root / "imports/whole/imports"
        if Command([python, "-X", "importtime", *rest], log).wait(2 * options.limit) != 0:
            raise SystemExit(f"the undisturbed run failed; see {log}")
        whole = request.directory(root / "imports/whole")
        folders = [root / f"imports/{n}" for n in range(options.imports)]
        jobs += [imports(request, folder, whole, rng, options.limit) for folder in folders]
    if options.sweeps:
        calm = root / "sweep-whole"
        if Command(sweep_command(calm, "grid", "local", 1, 2), calm / "log").wait(4 * options.limit) != 0:
            raise SystemExit(f"the undisturbed sweep of {STUDIES['grid']} failed; see {calm / 'log'}")
        names = [TO_SWEEPS[n % len(TO_SWEEPS)] for n in range(options.sweeps)]
        jobs += [sweeps(root / f"sweep{n}", calm, name, rng, options.limit) for n, name in enumerate(names)]
    with ThreadPoolExecutor(options.jobs) as pool:
        return collect("commands", [pool.submit(job) for job in jobs])


def collect(title: str, cases: list[Any]) -> list[Outcome]:
    outcomes = []
    bar = tqdm(as_completed(cases), total=len(cases), desc=title, file=sys.stderr, disable=None)
    for case in bar:
        outcomes.append(case.result())
        if outcomes[-1].wrong:
            bar.write(f"{outcomes[-1].what}, {outcomes[-1].moment}: {outcomes[-1].wrong}", file=sys.stderr)
    return outcomes


def summary(what: str, rows: list[Outcome]) -> dict[str, Any]:
    """One line of the table."""
    ends = [o.end for o in rows]
    inexact = sum(1 for o in rows if o.wrong and o.end in ("stopped", "finished"))
    line: dict[str, Any] = {"signal in": what, "tried": len(rows), "exit 75": ends.count("stopped")}
    line |= {end: ends.count(end) for end in ("finished", "hung", "failed")}
    return line | {"inexact": inexact, "longest": f"{max(o.seconds for o in rows):.1f} s"}


def main(arguments: list[str] | None = None) -> int:
    p = parser(__doc__, folder=True)
    p.add_argument(
        "--moments", type=int, default=50, help="for each number of processes (default: %(default)s)"
    )
    p.add_argument("--ranks", nargs="+", type=int, default=[1, 2], help="processes of a run (default: 1 2)")
    p.add_argument(
        "--imports", type=int, default=60, help="signals while libraries are imported (%(default)s)"
    )
    p.add_argument("--sweeps", type=int, default=8, help="sweeps that are stopped (default: %(default)s)")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: %(default)s)")
    p.add_argument("--limit", type=float, default=60.0, help="seconds until it counts as hung (%(default)g)")
    p.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    options = p.parse_args(arguments)
    began, rng = time.monotonic(), random.Random(options.seed)
    torch.set_num_threads(1)  # a process with more than one thread must not fork
    with place(options.folder, "signals-") as root:
        outcomes = check_runs(options, root, rng) if options.moments else []
        outcomes += check_commands(options, root, rng)
    kinds = sorted({o.what for o in outcomes})
    show("", [summary(what, [o for o in outcomes if o.what == what]) for what in kinds])
    bad = [o for o in outcomes if o.wrong]
    for o in bad:
        print(f"{o.what}, {o.moment}: {o.wrong}")
    seconds = time.monotonic() - began
    print(f"{len(outcomes)} moments, {len(outcomes) - len(bad)} right, {len(bad)} wrong, {seconds:.0f} s")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
