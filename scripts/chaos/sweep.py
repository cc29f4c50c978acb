"""Kill a sweep again and again, and see whether anything is lost: `kill -9` to a run, a worker, a fork server, or all.

A small study of short runs is started with `gatelab sweep`. At random moments one process, or the whole group, is
killed, by its pid, and only if it belongs to that study. Where the sweep itself has ended, the same command is given
again. When a study is finished the next round begins with a fresh one, until there were enough kills. Each round is
compared with an undisturbed study: no trial lost, none run twice, everything equal bit for bit. Linux only.

examples:
  python -m scripts.chaos.sweep                                  100 kills, launcher=local, at most 15 minutes
  python -m scripts.chaos.sweep --launcher submitit_local --kills 20 --seed 3
  python -m scripts.chaos.sweep --folder chaos --json            keep everything; the summary as JSON on stdout

Exit code 0 only if nothing was lost, nothing run twice and everything equal; else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.chaos.processes import Herd
from scripts.chaos.verdict import Verdict, judge

COMMON = [
    "data=adding",
    "data.steps=24",
    "data.train_items=4096",
    "data.eval_items=64",
    "model=gru",
    "trainer.max_epochs=2",
    "trainer.val_check_interval=32",
    "trainer.log_every_n_steps=8",
    "callbacks.checkpoints.every_n_steps=8",
    "callbacks.progress=null",
    "callbacks.throughput=null",  # what the machine does is not the same twice
    "callbacks.memory=null",
    "study.threads=1",
    "study.retries=100000",  # every kill counts as an attempt
]
STUDIES = {
    "grid": ["study=grid", "model.hidden_size=8,12,16", "optim.lr=1e-3,4e-3", "study.seeds=[0,1]"],
    "random": [
        "study=random",
        "model.hidden_size=8,12,16",
        "optim.lr=tag(log, interval(1e-3, 1e-2))",
        "study.strategy=random",
        "study.n_trials=10",
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
    rounds: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    left_behind: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Kills so far."""
        return sum(self.kills.values())

    @property
    def good(self) -> bool:
        """Whether everything holds."""
        return self.verdict.good and not self.left_behind and self.rounds > 0

    def summary(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "launcher": self.launcher,
            "seed": self.seed,
            "kills_wanted": self.wanted,
            "kills_done": self.done,
            "kills": dict(self.kills),
            "starts": self.starts,
            "studies": self.rounds,
            **asdict(self.verdict),
            "left_behind": self.left_behind,
            "seconds": round(time.monotonic() - self.began, 1),
            "good": self.good,
        }


class Round:
    """One study, from its first start until it is finished and judged."""

    def __init__(self, root: Path, kind: str, options: argparse.Namespace, tally: Tally) -> None:
        self.root, self.kind, self.options, self.tally = root, kind, options, tally
        self.herd = Herd(root / "studies" / kind)
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, rng: random.Random, deadline: float) -> None:
        """Start the sweep, kill while kills are left, start it again whenever it has ended too early."""
        try:
            while not self.finished():
                if time.monotonic() > deadline + GRACE_SECONDS:
                    return
                if self.tally.done < self.tally.wanted and time.monotonic() < deadline:
                    self.strike(rng)
                else:
                    time.sleep(0.1)
            self.look_behind()
        finally:
            self.herd.slaughter(rng)
            if self.process is not None:
                self.process.wait()

    def finished(self) -> bool:
        """Whether the sweep has ended with everything done; one that ended otherwise is started again."""
        code = None if self.process is None else self.process.poll()
        if code == 0:
            return True
        if self.process is None or code is not None:
            self.process = start(self.root, self.kind, self.options)
            self.herd.adopt(self.process.pid)
            self.tally.starts += 1
        return False

    def strike(self, rng: random.Random) -> None:
        """Choose a kind of victim, wait for one, and kill it at a random moment."""
        assert self.process is not None
        kind = rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
        delay = rng.uniform(0.0, self.options.gap * (3.0 if kind in ("all", "sweep") else 1.0))
        end = time.monotonic() + WAIT_SECONDS
        while kind not in ("all", "sweep") and not self.herd.of(kind):
            if self.process.poll() is not None or time.monotonic() > end:
                return
            time.sleep(0.05)
        time.sleep(delay)
        if kind == "all":
            if self.process.poll() is not None:
                return
            count = self.herd.slaughter(rng)
            self.tell(kind, f"{count} processes")
            return
        victims = self.herd.of(kind)
        if victims and (victim := rng.choice(victims)).kill():
            self.tell(kind, f"pid {victim.pid}")

    def tell(self, kind: str, whom: str) -> None:
        """One line a kill."""
        tally = self.tally
        tally.kills[kind] += 1
        seconds = time.monotonic() - tally.began
        print(
            f"{seconds:6.1f} s  kill {tally.done:3}/{tally.wanted}  {kind:6} {whom:14} "
            f"round {tally.rounds} ({self.kind}), start {tally.starts}",
            file=sys.stderr,
            flush=True,
        )

    def look_behind(self) -> None:
        """Note processes of the study that outlive it."""
        end = time.monotonic() + LEAVE_SECONDS
        ours = ("worker", "server", "run")
        while left := [f"{what} {m.pid}" for m, what in self.herd.living().items() if what in ours]:
            if time.monotonic() > end:
                self.tally.left_behind += [f"round {self.tally.rounds}: {name}" for name in left]
                return
            time.sleep(0.1)


def start(
    root: Path, kind: str, options: argparse.Namespace, *, calm: bool = False
) -> subprocess.Popen[bytes]:
    """Begin `gatelab sweep`; what it says goes to `<root>/sweep.log`."""
    root.mkdir(parents=True, exist_ok=True)
    means = ["launcher=local", "study.slots=2"]
    if not calm:
        means = [
            f"launcher={options.launcher}",
            f"study.workers={options.workers}",
            f"study.slots={options.slots}",
        ]
    command = [
        sys.executable,
        "-m",
        "gatelab",
        "sweep",
        *COMMON,
        *STUDIES[kind],
        *means,
        f"paths.root={root}",
    ]
    with (root / "sweep.log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


def undisturbed(folder: Path, kind: str, options: argparse.Namespace) -> Path:
    """The root of a study of this kind that nobody disturbs; made the first time."""
    root = folder / f"undisturbed-{kind}"
    if not root.exists():
        code = start(root, kind, options, calm=True).wait()
        if code != 0:
            raise SystemExit(f"the undisturbed study ended with exit code {code}:\n{tail(root)}")
    return root


def tail(root: Path) -> str:
    """The end of what a sweep said."""
    return "\n".join((root / "sweep.log").read_text(errors="replace").splitlines()[-15:])


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kills", type=int, default=100, metavar="N", help="default: %(default)s")
    p.add_argument("--launcher", default="local", choices=("local", "submitit_local", "ray"))
    p.add_argument("--seed", type=int, default=0, help="of moments and victims (default: %(default)s)")
    p.add_argument("--minutes", type=float, default=15.0, help="no kill after that (default: %(default)s)")
    p.add_argument("--gap", type=float, default=3.0, help="longest wait, in seconds (default: %(default)s)")
    p.add_argument("--workers", type=int, default=2, help="default: %(default)s")
    p.add_argument("--slots", type=int, default=1, help="of each worker (default: %(default)s)")
    p.add_argument("--folder", type=Path, help="keep everything there; it must not exist")
    p.add_argument("--json", action="store_true", help="the summary as JSON on stdout")
    return p


def chaos(folder: Path, options: argparse.Namespace) -> Tally:
    """Rounds until there were enough kills, or the time is over."""
    rng = random.Random(options.seed)
    kinds = list(STUDIES)
    references = {kind: undisturbed(folder, kind, options) for kind in kinds}
    tally = Tally(options.launcher, options.seed, options.kills)
    deadline = tally.began + options.minutes * 60
    while tally.done < tally.wanted and time.monotonic() < deadline:
        kind, root = kinds[tally.rounds % len(kinds)], folder / f"round-{tally.rounds:03}"
        this = Round(root, kind, options, tally)
        this.run(rng, deadline)
        found = judge(root, references[kind], kind)
        tally.verdict.add(found)
        tally.rounds += 1
        print(f"{'ok' if found.good else 'BAD'}: {root.name}", file=sys.stderr, flush=True)
        if not found.good:
            print("\n".join([*found.lost, *found.twice, *found.different, tail(root)]), file=sys.stderr)
    return tally


def show(tally: Tally) -> str:
    """The summary for people."""
    v = tally.verdict
    kinds = ", ".join(f"{kind} {number}" for kind, number in tally.kills.most_common())
    lines = [
        f"launcher={tally.launcher}: {tally.done} of {tally.wanted} kills ({kinds}) in {tally.rounds} studies, "
        f"{tally.starts} starts of a sweep, {time.monotonic() - tally.began:.0f} s",
        f"{v.trials} trials of {v.runs} runs; given to a slot {v.claims} times, runs begun {v.attempts} times, "
        f"{v.resumed} runs more than once",
        f"trials lost: {len(v.lost)}   run twice: {len(v.twice)}   different: {len(v.different)}   "
        f"processes left behind: {len(tally.left_behind)}",
    ]
    return "\n".join([*lines, *v.lost, *v.twice, *v.different, *tally.left_behind])


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.folder is not None and options.folder.exists():
        raise SystemExit(f"--folder {options.folder}: it is there already")
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        tally = chaos(folder, options)
        print(show(tally), file=sys.stderr if options.json else sys.stdout)
        if options.json:
            print(json.dumps(tally.summary(), indent=1))
    return 0 if tally.good else 1


if __name__ == "__main__":
    sys.exit(main())
