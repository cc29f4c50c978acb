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
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from tqdm import tqdm

from scripts.chaos.sweep import sweep_command, undisturbed
from scripts.chaos.verdict import judge
from scripts.compare import first_difference
from scripts.forked import ForkedRun, Kind, Request, forked_cases
from scripts.harness import Command, gatelab, parser, place, run, show

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


def strike(
    request: Request, root: Path, reference: Path, moment: Moment, number: int, limit: float
) -> Outcome:
    """Send the signal to a run, wait, start again, compare."""
    what, folder = f"{moment.phase}, {moment.kind.ranks} ranks", root / f"{number}"
    folder.mkdir()
    phases = folder / "phases"
    phases.touch()
    run, end = ForkedRun(request, folder, tell_phases(phases)), time.monotonic() + limit
    while phases.read_text().split().count(moment.phase) < moment.nth and run.poll() is None:
        if time.monotonic() > end:
            run.kill()
            return Outcome(what, "hung", limit, f"{moment}: did not come to it:\n{run.tail()}")
        time.sleep(0.001)
    time.sleep(moment.delay)
    name, sent = getattr(signal, moment.signal), time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        if run.poll() is None:
            os.killpg(run.group, name) if moment.rank is None else os.kill(run.pids[moment.rank], name)
    codes = run.wait(limit)
    seconds = time.monotonic() - sent
    if codes is None:
        return Outcome(what, "hung", seconds, f"{moment}: nothing for {limit:g} s:\n{run.tail()}")
    if codes[0] not in (0, 75) or any(codes[1:]):
        return Outcome(what, "failed", seconds, f"{moment}: exit codes {codes}:\n{run.tail(25)}")
    again = ForkedRun(request, folder)
    if (ended := again.wait(limit)) is None or any(ended):
        return Outcome(what, "failed", seconds, f"{moment}: not resumed, {ended}:\n{again.tail(25)}")
    wrong = first_difference(request.directory(folder), reference)
    return Outcome(what, "stopped" if codes[0] == 75 else "finished", seconds, wrong and f"{moment}: {wrong}")


@dataclass
class Stop:
    """A command that is sent a signal once it is ready, must exit with 75, is given again, and compared."""

    what: str
    arguments: list[str]
    folder: Path
    signal: str
    ready: Callable[[Command], bool]
    compare: Callable[[], str | None]

    def __call__(self, limit: float) -> Outcome:
        command = Command(self.arguments, self.folder / "log")
        reached = command.until(lambda: self.ready(command), limit)
        sent = time.monotonic()
        command.signal(getattr(signal, self.signal))
        code = command.wait(limit)
        seconds = time.monotonic() - sent
        if not reached or code != 75:
            end, when = "hung" if code is None else "failed", "" if reached else " too early"
            wrong = f"{self.signal}: exit code {code}{when}:\n{command.tail()}"
            return Outcome(self.what, end, seconds, wrong)
        again = Command(self.arguments, self.folder / "log")
        if (code := again.finish(2 * limit)) != 0:
            wrong = f"{self.signal}: then exit code {code}:\n{again.tail()}"
            return Outcome(self.what, "failed", seconds, wrong)
        return Outcome(self.what, "stopped", seconds, self.compare())


def imports(request: Request, folder: Path, reference: Path, seen: list[str], rng: random.Random) -> Stop:
    """A run that is stopped while it imports its libraries: `-X importtime` writes a line for each module, `seen`."""
    python, *rest = gatelab("train", *request.overrides, f"paths.runs={folder}")
    first = next(i for i, line in enumerate(seen) if line.split("|")[-1].strip().startswith("torch."))
    wanted = rng.randrange(first, len(seen))

    def ready(command: Command) -> bool:
        return command.log.read_bytes().count(b"import time") >= wanted

    def compare() -> str | None:
        return first_difference(request.directory(folder), reference)

    return Stop("imports", [python, "-X", "importtime", *rest], folder, rng.choice(SIGNALS), ready, compare)


def sweeps(root: Path, whole: Path, name: str, rng: random.Random) -> Stop:
    """A sweep that is stopped at some moment after its first trial has begun."""
    delay, begun = rng.uniform(0.0, 6.0), [0.0]

    def ready(command: Command) -> bool:
        if not begun[0] and any(root.glob("runs/*/*/run.json")):
            begun[0] = time.monotonic()
        return bool(begun[0]) and time.monotonic() > begun[0] + delay

    def compare() -> str | None:
        return "; ".join(judge(root, whole, "grid").wrong) or None

    return Stop(f"sweep, {name}", sweep_command(root, "grid", "local", 1, 2), root, name, ready, compare)


def check_runs(options: Any, root: Path, rng: random.Random) -> list[Outcome]:
    """Every moment of a run, several at a time, in forked processes."""
    wanted = [moment for ranks in options.ranks for moment in moments(ranks, options.moments, rng)]
    kinds = sorted({moment.kind for moment in wanted})
    with forked_cases(kinds, root, options.jobs, options.limit) as (pool, runs):
        cases = [pool.submit(strike, *runs[m.kind], m, n, options.limit) for n, m in enumerate(wanted)]
        return collect("moments", cases)


def check_commands(options: Any, root: Path, rng: random.Random) -> list[Outcome]:
    """Imports and sweeps: whole commands, several at a time."""
    jobs: list[Stop] = []
    if options.imports:
        request, whole = Request(Kind("series", 0, 1), root / "imports"), root / "imports/whole"
        python, *rest = gatelab("train", *request.overrides, f"paths.runs={whole}")
        run([python, "-X", "importtime", *rest], log := whole / "log", 2 * options.limit)
        seen = [line for line in log.read_text().splitlines() if "import time" in line]
        folders = [root / f"imports/{n}" for n in range(options.imports)]
        jobs += [imports(request, folder, request.directory(whole), seen, rng) for folder in folders]
    if options.sweeps:
        calm = undisturbed(root, "grid")
        names = [TO_SWEEPS[n % len(TO_SWEEPS)] for n in range(options.sweeps)]
        jobs += [sweeps(root / f"sweep{n}", calm, name, rng) for n, name in enumerate(names)]
    with ThreadPoolExecutor(options.jobs) as pool:
        return collect("commands", [pool.submit(job, options.limit) for job in jobs])


def collect(title: str, cases: list[Any]) -> list[Outcome]:
    bar = tqdm(as_completed(cases), total=len(cases), desc=title, file=sys.stderr, disable=None)
    return [case.result() for case in bar]


def summary(what: str, rows: list[Outcome]) -> dict[str, Any]:
    """One line of the table."""
    ends = Counter(o.end for o in rows)
    line: dict[str, Any] = {"signal in": what, "tried": len(rows), "exit 75": ends["stopped"]}
    line |= {end: ends[end] for end in ("finished", "hung", "failed")}
    line["inexact"] = sum(o.wrong is not None and o.end in ("stopped", "finished") for o in rows)
    return line | {"longest": f"{max(o.seconds for o in rows):.1f} s"}


def main() -> int:
    p = parser(__doc__, folder=True)
    p.add_argument("--moments", type=int, default=50, help="for each number of processes (%(default)s)")
    p.add_argument("--ranks", nargs="+", type=int, default=[1, 2], help="processes of a run (default: 1 2)")
    p.add_argument("--imports", type=int, default=60, help="signals during imports (default: %(default)s)")
    p.add_argument("--sweeps", type=int, default=8, help="sweeps that are stopped (default: %(default)s)")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: %(default)s)")
    p.add_argument(
        "--limit", type=float, default=60.0, help="seconds, or silence, that count as hung (%(default)g)"
    )
    options = p.parse_args()
    began, rng = time.monotonic(), random.Random(0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and what is started here would too
    torch.set_num_threads(1)  # a process with more than one thread must not fork
    with place(options.folder, "signals-") as root:
        outcomes = check_runs(options, root, rng) if options.moments else []
        outcomes += check_commands(options, root, rng)
    kinds = sorted({o.what for o in outcomes})
    show("", [summary(what, [o for o in outcomes if o.what == what]) for what in kinds])
    bad = [o for o in outcomes if o.wrong]
    for o in bad:
        print(f"{o.what}, {o.wrong}")
    seconds = time.monotonic() - began
    print(f"{len(outcomes)} moments, {len(outcomes) - len(bad)} right, {len(bad)} wrong, {seconds:.0f} s")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
