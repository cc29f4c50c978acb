"""What a study costs beside the training itself: the queue's latency, the start of a run, slots that stand idle.

`--queue`: worker processes claim, propose and tell a study's trials as fast as they can, which is the worst case:
a latency is the time of one claim + propose + tell while all the others do the same.
`--isolation`: seconds that a sweep of one slot needs for one more run of its tiny trial, in a forked process and in a
fresh interpreter, less those of the same run in a process that has imported everything.
`--utilisation`: a sweep of 16 trials of 20 to 400 steps in 2 slots; a slot is busy from the claim of a trial until it
is told. Shares of the time from the first claim to the last tell, and of the whole command.

examples:
  python -m scripts.bench.study --queue --trials 1000 --workers 8 --strategies random grid tpe --think 0.1
  python -m scripts.bench.study --isolation --rounds 9 --other ../before
  python -m scripts.bench.study --utilisation --other ../before
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts.harness import ROOT, Checkout, checkouts, environment, in_turns, parser, place, read_json, show

RUN = [
    *(
        "experiment=quickstart",
        "trainer.max_epochs=1",
        "trainer.max_steps=20",
        "trainer.val_check_interval=null",
    ),
    *("model.hidden_size=16", "data.max_characters=50000", "callbacks=none", "test=false", "threads=1"),
]
UNEVEN = [
    *("experiment=quickstart", "trainer.val_check_interval=null", "callbacks=none", "model.hidden_size=64"),
    *("study=uneven", "study.slots=2", "study.threads=1"),
]
STEPS = (40, 320, 20, 180, 400, 60, 260, 100, 360, 140, 80, 300, 220, 240, 120, 160)
"""Of each trial, in their order: long and short ones mixed, as a random study has them."""
WARM = """
import sys, time
from gatelab.cli.main import run_command
file, count, root, *request = sys.argv[1:]
for seed in range(int(count) + 1):
    began = time.perf_counter()
    assert run_command("train", [*request, f"seed={seed}", f"paths.root={root}"]) == 0
    open(file, "a").write(f"{time.perf_counter() - began}\\n")
"""
"""Trains in one process again and again; the first time has the imports in it."""


def main() -> int:
    p = parser(__doc__, other=True)
    p.add_argument("--queue", action="store_true", help="latency of claim + propose + tell")
    p.add_argument("--isolation", action="store_true", help="seconds of a run: warm, forked, fresh")
    p.add_argument("--utilisation", action="store_true", help="how busy two slots are with uneven trials")
    p.add_argument("--trials", type=int, default=1000, help="of the queue (default: %(default)s)")
    p.add_argument("--workers", type=int, default=8, help="of the queue (default: %(default)s)")
    p.add_argument("--strategies", nargs="+", default=["random", "grid"])
    p.add_argument("--storage", help="URL; default: a journal file")
    p.add_argument(
        "--think", type=float, default=0.0, metavar="S", help="seconds between two trials of a worker"
    )
    p.add_argument(
        "--rounds", type=int, default=7, help="of isolation and utilisation (default: %(default)s)"
    )
    p.add_argument("--hammer", metavar="DIR", help=argparse.SUPPRESS)  # one of the worker processes
    options = p.parse_args()
    if options.hammer:
        print(json.dumps(hammer(options.hammer, options.think)))
        return 0
    there = checkouts(options)
    with place(None, "study-", memory=False) as root:
        if options.queue:
            for strategy in options.strategies:
                for checkout in there:
                    print(f"{checkout.name}: {queue_of(checkout, root, strategy, options)}", flush=True)
        if options.isolation:
            isolation(there, root, options.rounds)
        if options.utilisation:
            calls = {c.name: utilisation(c, root) for c in there}
            for name, shares in in_turns(calls, options.rounds, warm_up=0).items():
                busy = statistics.median(shares)
                print(f"{name}: slots busy {busy:.1%} of the whole command (median of {options.rounds})")
    return 0


def queue_of(checkout: Checkout, root: Path, strategy: str, options: argparse.Namespace) -> str:
    """Measure one strategy; another checkout does so by its own script, as old as it may be."""
    if checkout.root == ROOT:
        return queue(root / strategy, strategy, options)
    old = checkout.root / "scripts/bench_study.py"
    script = [str(old)] if old.is_file() else ["-m", "scripts.bench.study"]
    given = [
        "--queue",
        "--strategies",
        strategy,
        "--trials",
        str(options.trials),
        "--workers",
        str(options.workers),
    ]
    command = [checkout.python, *script, *given, "--think", str(options.think)]
    env, pipe = environment(checkout.root), subprocess.PIPE
    done = subprocess.run(command, env=env, cwd=checkout.root, stdout=pipe, text=True, check=True)
    return done.stdout.strip()


def queue(folder: Path, strategy: str, options: argparse.Namespace) -> str:
    """Let worker processes empty a queue; the latencies as a line."""
    from gatelab.study.engine.directory import StudyDirectory
    from gatelab.study.engine.queue import Queue

    directory = StudyDirectory(folder)
    settings = {
        "name": strategy,
        "strategy": strategy,
        "sampler_options": {},
        "seed": 0,
        "storage": options.storage,
    }
    settings |= {"pruner": "none", "pruner_options": {}, "retries": 3, "stale_after": 30.0}
    directory.write({"settings": settings, "objectives": [{"metric": "val/loss", "direction": "minimize"}]})
    rows = Queue(directory)
    grid = [{"a": i % 10, "b": i // 10 % 10, "c": 0.1 * (i // 100)} for i in range(options.trials)]
    rows.fill(grid if strategy == "grid" else [None] * options.trials)
    command = [
        sys.executable,
        "-m",
        "scripts.bench.study",
        "--hammer",
        str(folder),
        "--think",
        str(options.think),
    ]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    workers = [subprocess.Popen(command, env=environment(), **pipes) for _ in range(options.workers)]
    for worker in workers:
        worker.stdout.readline()  # it has opened the study
    begun = time.perf_counter()
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    said = [json.loads(worker.communicate()[0]) for worker in workers]
    seconds = time.perf_counter() - begun
    counts = rows.counts()
    assert counts["complete"] == options.trials, counts
    parts = {key: sorted(x for one in said for x in one[key]) for key in said[0]}
    medians = "  ".join(f"{key} {1e3 * statistics.median(times):.1f}" for key, times in parts.items())
    total = parts["all"]
    high = "  ".join(f"p{q} {1e3 * total[len(total) * q // 100]:.1f} ms" for q in (95, 99))
    what = f"{strategy}, {options.trials} trials, {options.workers} workers, think {options.think} s"
    return f"{what}: {high}  medians in ms: {medians}  ({len(total) / seconds:.0f} trials/s)"


def hammer(folder: str, think: float) -> dict[str, list[float]]:
    """One worker: seconds of each claim, proposal, tell, and of the three together."""
    from gatelab.study.engine.directory import StudyDirectory
    from gatelab.study.engine.liveness import Owner
    from gatelab.study.engine.queue import Queue

    directory = StudyDirectory(folder)
    rows, owner = Queue(directory), Owner.me()
    owner.register(directory.workers)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    times: dict[str, list[float]] = {"claim": [], "propose": [], "tell": [], "all": []}

    def suggest(trial: Any) -> None:
        trial.suggest_categorical("a", list(range(10)))
        trial.suggest_categorical("b", list(range(10)))
        trial.suggest_float("c", 0.0, 1.0)

    notes = {"runs": ["runs/x/0123456789-s0"], "values": [1.0], "seconds": 1.0, "parameters": 1000}
    while True:
        time.sleep(think)
        marks = [time.perf_counter()]
        claim = rows.claim(f"{owner.id}/0")
        if claim is None:
            return times
        marks.append(time.perf_counter())
        params = rows.propose(claim, suggest)
        marks.append(time.perf_counter())
        rows.tell(claim, [params["a"] + params["c"]], attributes=notes)
        marks.append(time.perf_counter())
        for name, begin, end in zip(("claim", "propose", "tell"), marks, marks[1:], strict=False):
            times[name].append(end - begin)
        times["all"].append(marks[-1] - marks[0])


def isolation(there: list[Checkout], root: Path, rounds: int, runs: int = 8) -> None:
    """Print what a run costs more in a process of its own than in a warm one, for each checkout."""
    count = [0]

    def warm(c: Checkout) -> Callable[[], float]:
        def call() -> float:
            count[0] += 1
            file, folder = root / f"warm{count[0]}", root / f"warm-{count[0]}"
            c.seconds([c.python, "-c", WARM, str(file), str(runs), str(folder), *RUN], root / "log")
            return statistics.median(map(float, file.read_text().split()[1:]))

        return call

    def swept(c: Checkout, kind: str) -> Callable[[], float]:
        def sweep(number: int) -> float:
            count[0] += 1
            study = [
                "study=iso",
                "study.threads=1",
                f"study.isolation={kind}",
                f"paths.root={root / str(count[0])}",
            ]
            rates = ",".join(f"{1e-3 + 1e-5 * i:.5f}" for i in range(number))
            return c.seconds(c.gatelab("sweep", *RUN, f"optim.lr={rates}", *study), root / "log")

        return lambda: (sweep(runs + 2) - sweep(2)) / runs

    calls: dict[str, Callable[[], float]] = {}
    for c in there:
        kinds = {"fork": swept(c, "fork"), "process": swept(c, "process")}
        calls |= {f"{c.name}: {kind}": call for kind, call in {"warm": warm(c), **kinds}.items()}
    found = in_turns(calls, rounds)
    rows = []
    for name, seconds in found.items():
        base = statistics.median(found[f"{name.partition(':')[0]}: warm"])
        median = statistics.median(seconds)
        line = {"a run": name, "ms, median": f"{1e3 * median:.0f}", "best": f"{1e3 * min(seconds):.0f}"}
        rows.append(line | {"beside the warm process": f"{1e3 * (median - base):+.0f} ms"})
    show(f"isolation, {rounds} rounds of {runs} runs", rows)


def utilisation(c: Checkout, root: Path) -> Callable[[], float]:
    """A call that sweeps uneven trials, prints how busy the slots were, and returns the share of the command."""
    count = [0]

    def call() -> float:
        count[0] += 1
        folder = root / f"uneven-{c.name}{count[0]}"
        steps = f"trainer.max_steps={','.join(map(str, STEPS))}"
        command = c.seconds(c.gatelab("sweep", *UNEVEN, steps, f"paths.root={folder}"), root / "log")
        trials = read_json(folder / "studies/uneven/summary.json")["trials"]
        assert [trial["state"] for trial in trials] == ["done"] * len(STEPS), trials
        times = [
            [datetime.fromisoformat(t[key]).timestamp() for key in ("started", "finished")] for t in trials
        ]
        busy, training = sum(end - start for start, end in times), sum(t["seconds"] for t in trials)
        wall = max(end for _, end in times) - min(start for start, _ in times)
        shares = f"busy {busy / (2 * wall):.1%} of {wall:.1f} s (training alone {training / (2 * wall):.1%})"
        print(
            f"{c.name}: {shares}, {busy / (2 * command):.1%} of the whole command's {command:.1f} s",
            flush=True,
        )
        return busy / (2 * command)

    return call


if __name__ == "__main__":
    sys.exit(main())
