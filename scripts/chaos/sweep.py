"""Kill a sweep again and again, and see whether anything is lost: `kill -9` to a run, a worker, a fork server, or all.

A small study of short runs is started with `gatelab sweep`. At random moments one process, or the whole group, is
killed, by its pid, and only if it belongs to that study. Where the sweep itself has ended, the same command is given
again. When a study is finished the next round begins with a fresh one, until there were enough kills. Each round is
compared with an undisturbed study: no trial lost, none run twice, everything equal bit for bit. Linux only.

examples:
  python -m scripts.chaos.sweep                                  100 kills, launcher=local, at most 15 minutes
  python -m scripts.chaos.sweep --launcher submitit_local --kills 20 --seed 3
  python -m scripts.chaos.sweep --folder chaos                   keep everything

Exit code 0 only if nothing was lost, nothing run twice and everything equal; else 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

from scripts.chaos.processes import Processes
from scripts.chaos.verdict import Verdict, judge
from scripts.harness import Command, gatelab, parser, place, tail

COMMON = ["data=adding", "data.steps=24", "data.train_items=4096", "data.eval_items=64", "model=gru"]
COMMON += ["trainer.max_epochs=2", "trainer.val_check_interval=32", "trainer.log_every_n_steps=8"]
COMMON += ["callbacks.checkpoints.every_n_steps=8", "callbacks.progress=null", "study.threads=1"]
COMMON += [
    "callbacks.throughput=null",
    "callbacks.memory=null",
]  # what the machine does is not the same twice
COMMON += ["study.retries=100000"]  # every kill counts as an attempt
STUDIES = {
    "grid": ["study=grid", "model.hidden_size=8,12,16", "optim.lr=1e-3,4e-3", "study.seeds=[0,1]"],
    "random": [
        *("study=random", "study.strategy=random", "study.n_trials=10", "model.hidden_size=8,12,16"),
        "optim.lr=tag(log, interval(1e-3, 1e-2))",
    ],
}
WEIGHTS = {"run": 0.52, "worker": 0.16, "server": 0.16, "sweep": 0.06, "all": 0.10}
"""How often each kind of victim is chosen; `sweep` is the submitting process alone."""
GAP_SECONDS = 3.0
"""The longest wait for a kill."""
WAIT_SECONDS = 20.0
"""How long to wait for a victim of the chosen kind before another kind is chosen."""
LEAVE_SECONDS = 10.0
"""How long processes may outlive their sweep."""
GRACE_SECONDS = 240.0
"""How long the last study may take to finish when the time for kills is over."""


def sweep_command(root: Path, kind: str, launcher: str, workers: int, slots: int) -> list[str]:
    """The command line of one of the `STUDIES` below `root`."""
    means = [f"launcher={launcher}", f"study.workers={workers}", f"study.slots={slots}", f"paths.root={root}"]
    return gatelab("sweep", *COMMON, *STUDIES[kind], *means)


class Round:
    """One study, from its first start until it is finished; `verdict` has the starts, and what was left behind."""

    def __init__(self, root: Path, kind: str, options: argparse.Namespace, kills: Counter[str]) -> None:
        self.root, self.kind, self.options, self.kills = root, kind, options, kills
        self.processes = Processes(root / "studies" / kind)
        self.sweep: Command | None = None
        self.verdict = Verdict()

    def run(self, rng: random.Random, deadline: float) -> None:
        """Start the sweep, kill while kills are left, start it again whenever it has ended too early."""
        try:
            while not self.finished():
                if time.monotonic() > deadline + GRACE_SECONDS:
                    return
                if self.kills.total() < self.options.kills and time.monotonic() < deadline:
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
            arguments = sweep_command(self.root, self.kind, self.options.launcher, 2, 1)
            self.sweep = Command(arguments, self.root / "sweep.log")
            self.processes.adopt(self.sweep.pid)
            self.verdict.counts["starts"] += 1
        return False

    def strike(self, rng: random.Random) -> None:
        """Choose a kind of victim, wait for one, and kill it at a random moment."""
        assert self.sweep is not None
        kind = rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
        delay = rng.uniform(0.0, GAP_SECONDS * (3.0 if kind in ("all", "sweep") else 1.0))
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
        self.kills[kind] += 1
        where = f"{self.root.name} ({self.kind}), start {self.verdict.counts['starts']}"
        print(f"kill {self.kills.total():3}  {kind:6} {whom:14} {where}", file=sys.stderr, flush=True)

    def look_behind(self) -> None:
        """Note processes of the study that outlive it."""
        end = time.monotonic() + LEAVE_SECONDS
        ours = ("worker", "server", "run")
        while left := [f"{what} {m.pid}" for m, what in self.processes.living().items() if what in ours]:
            if time.monotonic() > end:
                self.verdict.left_behind += [f"{self.root.name}: {name}" for name in left]
                return
            time.sleep(0.1)


def undisturbed(folder: Path, kind: str) -> Path:
    """The root of a study of this kind that nobody disturbs."""
    root = folder / f"undisturbed-{kind}"
    command = Command(sweep_command(root, kind, "local", 1, 2), root / "sweep.log")
    if (code := command.wait(GRACE_SECONDS)) != 0:
        raise SystemExit(f"the undisturbed study ended with exit code {code}:\n{command.tail()}")
    return root


def chaos(folder: Path, options: argparse.Namespace, kills: Counter[str]) -> Verdict:
    """Rounds until there were enough kills, or the time is over."""
    rng, kinds, total = random.Random(options.seed), list(STUDIES), Verdict()
    references = {kind: undisturbed(folder, kind) for kind in kinds}
    deadline = time.monotonic() + options.minutes * 60
    while kills.total() < options.kills and time.monotonic() < deadline:
        number = total.counts["studies"]
        kind, root = kinds[number % len(kinds)], folder / f"round-{number:03}"
        current = Round(root, kind, options, kills)
        current.run(rng, deadline)
        found = judge(root, references[kind], kind)
        found.add(current.verdict)
        found.counts["studies"] = 1
        total.add(found)
        print(f"{'BAD' if found.wrong else 'ok'}: {root.name}", file=sys.stderr, flush=True)
        if found.wrong:
            print("\n".join([*found.wrong, tail(root / "sweep.log", 15)]), file=sys.stderr)
    return total


def main() -> int:
    p = parser(__doc__, folder=True)
    p.add_argument("--kills", type=int, default=100, metavar="N", help="default: %(default)s")
    p.add_argument("--launcher", default="local", choices=("local", "submitit_local", "ray"))
    p.add_argument("--seed", type=int, default=0, help="of moments and victims (default: %(default)s)")
    p.add_argument("--minutes", type=float, default=15.0, help="no kill after that (default: %(default)s)")
    options = p.parse_args()
    kills: Counter[str] = Counter()
    began = time.monotonic()
    with place(options.folder, "chaos-", memory=False) as folder:
        found = chaos(folder, options, kills)
    kinds = ", ".join(f"{kind} {number}" for kind, number in kills.most_common())
    seconds = time.monotonic() - began
    print(f"launcher={options.launcher}: {kills.total()} of {options.kills} kills ({kinds}), {seconds:.0f} s")
    print(", ".join(f"{name} {number}" for name, number in found.counts.items()))
    print(f"trials lost: {len(found.lost)}   run twice: {len(found.twice)}", end="   ")
    print(f"different: {len(found.different)}   processes left behind: {len(found.left_behind)}")
    print("\n".join(found.wrong), end="")
    return 0 if found.counts["studies"] and not found.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
