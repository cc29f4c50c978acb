"""Kill a sweep again and again, and see whether anything is lost: `kill -9` to a run, a worker, a fork server, or all.

A small study of short runs is started with `gatelab sweep`. At random moments one process, or the whole group, is
killed, by its pid, and only if it belongs to that study. Where the sweep itself has ended, the same command is given
again. When a study is finished the next round begins with a fresh one, until there were enough kills. Each round is
compared with an undisturbed study: no trial lost, none run twice, everything equal bit for bit. Linux only.

examples:
  python -m scripts.chaos.sweep                                  100 kills, launcher=local, at most 15 minutes
  python -m scripts.chaos.sweep --launcher submitit_local --kills 20 --seed 3
  python -m scripts.chaos.sweep --folder chaos --output chaos.json      keep everything; the summary as JSON

Exit code 0 only if nothing was lost, nothing run twice and everything equal; else 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.chaos.processes import Processes
from scripts.chaos.verdict import Verdict, judge
from scripts.harness import Command, gatelab, parser, place, tail, write_json

COMMON = [
    *("data=adding", "data.steps=24", "data.train_items=4096", "data.eval_items=64", "model=gru"),
    *("trainer.max_epochs=2", "trainer.val_check_interval=32", "trainer.log_every_n_steps=8"),
    *("callbacks.checkpoints.every_n_steps=8", "callbacks.progress=null", "study.threads=1"),
    *("callbacks.throughput=null", "callbacks.memory=null"),  # what the machine does is not the same twice
    "study.retries=100000",  # every kill counts as an attempt
]
STUDIES = {
    "grid": ["study=grid", "model.hidden_size=8,12,16", "optim.lr=1e-3,4e-3", "study.seeds=[0,1]"],
    "random": [
        *("study=random", "study.strategy=random", "study.n_trials=10", "model.hidden_size=8,12,16"),
        "optim.lr=tag(log, interval(1e-3, 1e-2))",
    ],
}
WEIGHTS = {"run": 0.52, "worker": 0.16, "server": 0.16, "sweep": 0.06, "all": 0.10}
"""How often each kind of victim is chosen; `sweep` is the submitting process alone."""
WAIT_SECONDS = 20.0
"""How long to wait for a victim of the chosen kind before another kind is chosen."""
LEAVE_SECONDS = 10.0
"""How long processes may outlive their sweep."""
GRACE_SECONDS = 240.0
"""How long the last study may take to finish when the time for kills is over."""


@dataclass
class Tally:
    """What happened so far."""

    launcher: str
    seed: int
    wanted: int
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    studies: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    left_behind: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def good(self) -> bool:
        """Whether everything holds."""
        return self.verdict.good and not self.left_behind and self.studies > 0

    def summary(self) -> dict[str, Any]:
        """As plain data."""
        counted = {"kills_wanted": self.wanted, "kills_done": self.kills.total(), "kills": dict(self.kills)}
        about = {"launcher": self.launcher, "seed": self.seed, "starts": self.starts, "studies": self.studies}
        seconds = round(time.monotonic() - self.began, 1)
        found = {**asdict(self.verdict), "left_behind": self.left_behind}
        return {**about, **counted, **found, "seconds": seconds, "good": self.good}


def sweep_command(root: Path, kind: str, launcher: str, workers: int, slots: int) -> list[str]:
    """The command line of one of the `STUDIES` below `root`."""
    means = [f"launcher={launcher}", f"study.workers={workers}", f"study.slots={slots}", f"paths.root={root}"]
    return gatelab("sweep", *COMMON, *STUDIES[kind], *means)


class Round:
    """One study, from its first start until it is finished and judged."""

    def __init__(self, root: Path, kind: str, options: argparse.Namespace, tally: Tally) -> None:
        self.root, self.kind, self.options, self.tally = root, kind, options, tally
        self.processes = Processes(root / "studies" / kind)
        self.sweep: Command | None = None

    def run(self, rng: random.Random, deadline: float) -> None:
        """Start the sweep, kill while kills are left, start it again whenever it has ended too early."""
        try:
            while not self.finished():
                if time.monotonic() > deadline + GRACE_SECONDS:
                    return
                if self.tally.kills.total() < self.tally.wanted and time.monotonic() < deadline:
                    self.strike(rng)
                else:
                    time.sleep(0.1)
            self.look_behind()
        finally:
            self.processes.kill_all(rng)
            if self.sweep is not None:
                self.sweep.process.wait()

    def finished(self) -> bool:
        """Whether the sweep has ended with everything done; one that ended otherwise is started again."""
        code = None if self.sweep is None else self.sweep.poll()
        if code == 0:
            return True
        if self.sweep is None or code is not None:
            given = self.options.launcher, self.options.workers, self.options.slots
            self.sweep = Command(sweep_command(self.root, self.kind, *given), self.root / "sweep.log")
            self.processes.adopt(self.sweep.pid)
            self.tally.starts += 1
        return False

    def strike(self, rng: random.Random) -> None:
        """Choose a kind of victim, wait for one, and kill it at a random moment."""
        assert self.sweep is not None
        kind = rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
        delay = rng.uniform(0.0, self.options.gap * (3.0 if kind in ("all", "sweep") else 1.0))
        end = time.monotonic() + WAIT_SECONDS
        while kind not in ("all", "sweep") and not self.processes.of(kind):
            if self.sweep.poll() is not None or time.monotonic() > end:
                return
            time.sleep(0.05)
        time.sleep(delay)
        if kind == "all":
            if self.sweep.poll() is None:
                self.tell(kind, f"{self.processes.kill_all(rng)} processes")
            return
        victims = self.processes.of(kind)
        if victims and (victim := rng.choice(victims)).kill():
            self.tell(kind, f"pid {victim.pid}")

    def tell(self, kind: str, whom: str) -> None:
        """One line a kill."""
        tally = self.tally
        tally.kills[kind] += 1
        when = f"{time.monotonic() - tally.began:6.1f} s  kill {tally.kills.total():3}/{tally.wanted}"
        where = f"study {tally.studies} ({self.kind}), start {tally.starts}"
        print(f"{when}  {kind:6} {whom:14} {where}", file=sys.stderr, flush=True)

    def look_behind(self) -> None:
        """Note processes of the study that outlive it."""
        end = time.monotonic() + LEAVE_SECONDS
        ours = ("worker", "server", "run")
        while left := [f"{what} {m.pid}" for m, what in self.processes.living().items() if what in ours]:
            if time.monotonic() > end:
                self.tally.left_behind += [f"study {self.tally.studies}: {name}" for name in left]
                return
            time.sleep(0.1)


def undisturbed(folder: Path, kind: str) -> Path:
    """The root of a study of this kind that nobody disturbs."""
    root = folder / f"undisturbed-{kind}"
    command = Command(sweep_command(root, kind, "local", 1, 2), root / "sweep.log")
    if (code := command.wait(GRACE_SECONDS)) != 0:
        raise SystemExit(f"the undisturbed study ended with exit code {code}:\n{command.tail()}")
    return root


def chaos(folder: Path, options: argparse.Namespace) -> Tally:
    """Rounds until there were enough kills, or the time is over."""
    rng, kinds = random.Random(options.seed), list(STUDIES)
    references = {kind: undisturbed(folder, kind) for kind in kinds}
    tally = Tally(options.launcher, options.seed, options.kills)
    deadline = tally.began + options.minutes * 60
    while tally.kills.total() < tally.wanted and time.monotonic() < deadline:
        kind, root = kinds[tally.studies % len(kinds)], folder / f"round-{tally.studies:03}"
        Round(root, kind, options, tally).run(rng, deadline)
        found = judge(root, references[kind], kind)
        tally.verdict.add(found)
        tally.studies += 1
        print(f"{'ok' if found.good else 'BAD'}: {root.name}", file=sys.stderr, flush=True)
        if not found.good:
            wrong = [*found.lost, *found.twice, *found.different, tail(root / "sweep.log", 15)]
            print("\n".join(wrong), file=sys.stderr)
    return tally


def main(arguments: list[str] | None = None) -> int:
    p = parser(__doc__, folder=True)
    p.add_argument("--kills", type=int, default=100, metavar="N", help="default: %(default)s")
    p.add_argument("--launcher", default="local", choices=("local", "submitit_local", "ray"))
    p.add_argument("--seed", type=int, default=0, help="of moments and victims (default: %(default)s)")
    p.add_argument("--minutes", type=float, default=15.0, help="no kill after that (default: %(default)s)")
    p.add_argument("--gap", type=float, default=3.0, help="longest wait, in seconds (default: %(default)s)")
    p.add_argument("--workers", type=int, default=2, help="default: %(default)s")
    p.add_argument("--slots", type=int, default=1, help="of each worker (default: %(default)s)")
    p.add_argument("--output", type=Path, metavar="FILE", help="write the summary as JSON")
    options = p.parse_args(arguments)
    with place(options.folder, "chaos-", memory=False) as folder:
        tally = chaos(folder, options)
    v, kinds = tally.verdict, ", ".join(f"{kind} {number}" for kind, number in tally.kills.most_common())
    print(
        f"launcher={tally.launcher}: {tally.kills.total()} of {tally.wanted} kills ({kinds}) in {tally.studies} "
        f"studies, {tally.starts} starts of a sweep, {time.monotonic() - tally.began:.0f} s\n"
        f"{v.trials} trials of {v.runs} runs; given to a slot {v.claims} times, runs begun {v.attempts} times, "
        f"{v.resumed} runs more than once\n"
        f"trials lost: {len(v.lost)}   run twice: {len(v.twice)}   different: {len(v.different)}   "
        f"processes left behind: {len(tally.left_behind)}"
    )
    print("\n".join([*v.lost, *v.twice, *v.different, *tally.left_behind]), end="")
    if options.output:
        write_json(options.output, tally.summary())
    return 0 if tally.good else 1


if __name__ == "__main__":
    sys.exit(main())
