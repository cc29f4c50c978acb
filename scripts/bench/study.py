"""What a study costs beside the training itself: the queue's latency, the start of a run.

`--queue`: worker processes claim, propose and tell a study's trials as fast as they can, which is the worst case:
a latency is the time of one claim + propose + tell while all the others do the same.
`--isolation`: seconds that a sweep of one slot needs for one more run of its tiny trial, in a forked process and in a
fresh interpreter, less those of the same run in a process that has imported everything.

examples:
  python -m scripts.bench.study --queue --trials 1000 --workers 8
  python -m scripts.bench.study --isolation --rounds 9 --other ../before
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.harness import Checkout, checkouts, in_turns, parser, place, show

RUN = ["experiment=quickstart", "data.max_characters=50000", "model.hidden_size=16", "callbacks=none"]
RUN += ["trainer.val_check_interval=null", "trainer.max_epochs=1", "trainer.max_steps=20"]
RUN += ["threads=1", "test=false"]
WARM = """
import sys, time
from gatelab.cli.main import main
file, count, root, *request = sys.argv[1:]
for seed in range(int(count) + 1):
    began = time.perf_counter()
    assert main(["train", *request, f"seed={seed}", f"paths.root={root}"]) == 0
    open(file, "a").write(f"{time.perf_counter() - began}\\n")
"""
"""Trains in one process again and again; the first time has the imports in it."""


def main() -> int:
    p = parser(__doc__, other=True)
    p.add_argument("--queue", action="store_true", help="latency of claim + propose + tell")
    p.add_argument("--isolation", action="store_true", help="seconds of a run: warm, forked, fresh")
    p.add_argument("--trials", type=int, default=1000, help="of the queue (default: %(default)s)")
    p.add_argument("--workers", type=int, default=8, help="of the queue (default: %(default)s)")
    p.add_argument("--rounds", type=int, default=7, help="of isolation (default: %(default)s)")
    options = p.parse_args()
    there = checkouts(options)
    with place(None, "study-", memory=False) as root:
        if options.queue:
            for strategy in ("random", "grid"):
                print(queue(root / strategy, strategy, options.trials, options.workers), flush=True)
            for other in there[1:]:  # measures itself, by its own script
                size = ["--trials", str(options.trials), "--workers", str(options.workers)]
                script = [other.python, "-m", "scripts.bench.study", "--queue", *size]
                other.seconds(script, log := root / "queue.log")
                print(f"{other.name}:\n{log.read_text()}", flush=True)
        if options.isolation:
            isolation(there, root, options.rounds)
    return 0


def queue(folder: Path, strategy: str, trials: int, number: int) -> str:
    """Let worker processes empty a queue; the latencies as a line."""
    from gatelab.study.engine.directory import StudyDirectory
    from gatelab.study.engine.queue import Queue

    directory = StudyDirectory(folder)
    settings = {"name": strategy, "strategy": strategy, "sampler_options": {}, "seed": 0, "storage": None}
    settings |= {"pruner": "none", "pruner_options": {}, "retries": 3, "stale_after": 30.0}
    directory.write({"settings": settings, "objectives": [{"metric": "val/loss", "direction": "minimize"}]})
    rows = Queue(directory)
    grid = [{"a": i % 10, "b": i // 10 % 10, "c": 0.1 * (i // 100)} for i in range(trials)]
    rows.fill(grid if strategy == "grid" else [None] * trials)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(number + 1), context.SimpleQueue()
    workers = [context.Process(target=hammer, args=(folder, barrier, results)) for _ in range(number)]
    for worker in workers:
        worker.start()
    barrier.wait()  # all have opened the study
    begun = time.perf_counter()
    said = [results.get() for _ in workers]
    seconds = time.perf_counter() - begun
    counts = rows.counts()
    assert counts["complete"] == trials, counts
    parts = {key: sorted(x for one in said for x in one[key]) for key in said[0]}
    medians = "  ".join(f"{key} {1e3 * statistics.median(times):.1f}" for key, times in parts.items())
    total = parts["all"]
    high = "  ".join(f"p{q} {1e3 * total[len(total) * q // 100]:.1f} ms" for q in (95, 99))
    what = f"queue, {strategy}, {trials} trials, {number} workers"
    return f"{what}: {high}  medians in ms: {medians}  ({len(total) / seconds:.0f} trials/s)"


def hammer(folder: Path, barrier: Any, results: Any) -> None:
    """One worker: seconds of each claim, proposal, tell, and of the three together."""
    from gatelab.study.engine.directory import Owner, StudyDirectory
    from gatelab.study.engine.queue import Queue

    directory = StudyDirectory(folder)
    rows, owner = Queue(directory), Owner.me()
    owner.register(directory.workers)
    barrier.wait()
    times: dict[str, list[float]] = {"claim": [], "propose": [], "tell": [], "all": []}

    def suggest(trial: Any) -> None:
        trial.suggest_categorical("a", list(range(10)))
        trial.suggest_categorical("b", list(range(10)))
        trial.suggest_float("c", 0.0, 1.0)

    notes = {"runs": ["runs/x/0123456789-s0"], "values": [1.0], "seconds": 1.0, "parameters": 1000}
    while True:
        marks = [time.perf_counter()]
        claim = rows.claim(f"{owner.id}/0")
        if claim is None:
            results.put(times)
            return
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
            study = ["study=iso", "study.threads=1", f"study.isolation={kind}"]
            study.append(f"paths.root={root / str(count[0])}")
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


if __name__ == "__main__":
    sys.exit(main())
