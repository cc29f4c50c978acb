"""What a study costs beside the training itself: the queue's latency, the start of a run, slots that stand idle.

`--queue`: worker processes claim, propose and tell a study's trials as fast as they can, which is the worst case:
a latency is the time of one claim + propose + tell while all the others do the same.
`--isolation`: the same tiny run in a warm process, in a child of the fork server and in a fresh interpreter, in turns;
the overhead is the difference of the medians to the warm process.
`--utilisation`: a sweep of 16 trials of 20 to 400 steps in 2 slots; a slot is busy from the claim of a trial until it
is told. Shares of the time from the first claim to the last tell, and of the whole command; and what was training.

examples:
  python -m scripts.bench.study --queue
  python -m scripts.bench.study --queue --trials 1000 --workers 8 --strategies random grid tpe --think 0.1
  python -m scripts.bench.study --isolation --rounds 9
  python -m scripts.bench.study --utilisation
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.liveness import Owner
from gatelab.study.engine.queue import Queue

RUN = [
    "experiment=quickstart",
    "trainer.max_epochs=1",
    "trainer.max_steps=20",
    "trainer.val_check_interval=null",
    "model.hidden_size=16",
    "data.max_characters=50000",
    "callbacks=none",
]

SLOTS = 2
STEPS = (40, 320, 20, 180, 400, 60, 260, 100, 360, 140, 80, 300, 220, 240, 120, 160)
"""Of each trial, in their order: long and short ones mixed, as a random study has them."""


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--queue", action="store_true", help="latency of claim + propose + tell")
    p.add_argument("--isolation", action="store_true", help="seconds of a run: warm, forked, fresh")
    p.add_argument("--utilisation", action="store_true", help="how busy two slots are with uneven trials")
    p.add_argument("--trials", type=int, default=1000)
    p.add_argument("--workers", type=int, default=8)
    p.add_argument("--strategies", nargs="+", default=["random", "grid"])
    p.add_argument("--storage", help="URL; default: a journal file")
    p.add_argument(
        "--think", type=float, default=0.0, metavar="S", help="seconds between two trials of a worker"
    )
    p.add_argument("--rounds", type=int, default=7, help="runs of each kind (default: %(default)s)")
    p.add_argument("--hammer", metavar="DIR", help=argparse.SUPPRESS)  # one of the worker processes
    options = p.parse_args()
    if options.hammer:
        print(json.dumps(hammer(StudyDirectory(options.hammer), options.think)))
        return
    with tempfile.TemporaryDirectory() as root:
        if options.queue:
            for strategy in options.strategies:
                queue(Path(root), strategy, options)
        if options.isolation:
            isolation(Path(root), options.rounds)
        if options.utilisation:
            utilisation(Path(root))


def queue(root: Path, strategy: str, options: argparse.Namespace) -> None:
    """Measure one strategy and print a line."""
    directory = StudyDirectory(root / strategy)
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
        str(directory.path),
        "--think",
        str(options.think),
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    workers = [subprocess.Popen(command, text=True, **pipes) for _ in range(options.workers)]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()  # it has opened the study
    begun = time.perf_counter()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    said = [json.loads(worker.communicate()[0]) for worker in workers]
    seconds = time.perf_counter() - begun
    counts = rows.counts()
    assert counts["complete"] == options.trials, counts
    parts = {key: sorted(x for one in said for x in one[key]) for key in said[0]}
    shown = "  ".join(f"{key} {1e3 * statistics.median(times):.1f}" for key, times in parts.items())
    total = parts["all"]
    high = [1e3 * total[int(len(total) * q)] for q in (0.95, 0.99)]
    print(
        f"{strategy}, {options.trials} trials, {options.workers} workers, think {options.think} s: "
        f"p95 {high[0]:.1f} ms  p99 {high[1]:.1f} ms  medians in ms: {shown}  ({len(total) / seconds:.0f} trials/s)"
    )


def hammer(directory: StudyDirectory, think: float) -> dict[str, list[float]]:
    """One worker: seconds of each claim, proposal, tell, and of the three together."""
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


def isolation(root: Path, rounds: int) -> None:
    """Run the same run in three ways, in turns, and print the medians."""
    from gatelab.run.frozen_run import child_environment, events_file
    from gatelab.run.record.events import EventWriter
    from gatelab.study.engine.run_trial import run
    from gatelab.study.engine.runner import ForkRunner, FreshRunner

    runners = {"fork": ForkRunner(), "process": FreshRunner()}
    env = {**child_environment(), "OMP_NUM_THREADS": "1"}
    seconds: dict[str, list[float]] = {"inline": [], "fork": [], "process": []}
    stderr = os.dup(2)
    for number in range(rounds + 1):
        for kind in seconds:
            request = request_of(root, f"{kind}-{number}", number)
            begun = time.perf_counter()
            if kind == "inline":
                with request.with_suffix(".log").open("w") as log:
                    os.dup2(log.fileno(), 2)
                    run(json.loads(request.read_text()), EventWriter(events_file(request)))
                    os.dup2(stderr, 2)
            else:
                runner = runners[kind]
                code = runner.start(request, request.with_suffix(".log"), env, root).wait()
                assert code == 0, request.with_suffix(".log").read_text()
            if number:  # the first round warms up
                seconds[kind].append(time.perf_counter() - begun)
    runners["fork"].close()
    report(seconds)


def report(seconds: dict[str, Sequence[float]]) -> None:
    base = statistics.median(seconds["inline"])
    for kind, times in seconds.items():
        median = statistics.median(times)
        beside = "" if kind == "inline" else f", {1e3 * (median - base):+.0f} ms beside the warm process"
        print(
            f"{kind:8} {1e3 * median:.0f} ms a run (median of {len(times)}; {1e3 * min(times):.0f} at best){beside}"
        )


def utilisation(root: Path) -> None:
    """Sweep uneven trials and print how busy the slots were."""
    from gatelab.study.analysis.read import read_study

    run = [
        "experiment=quickstart",
        "trainer.val_check_interval=null",
        "callbacks=none",
        "model.hidden_size=64",
    ]
    study = ["study=uneven", f"study.slots={SLOTS}", "study.threads=1", f"paths.root={root}"]
    steps = f"trainer.max_steps={','.join(map(str, STEPS))}"
    command_line = [sys.executable, "-m", "gatelab", "sweep", *run, steps, *study]
    begun = time.perf_counter()
    subprocess.run(command_line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    command = time.perf_counter() - begun
    trials = read_study(root / "studies" / "uneven").trials
    assert [trial.state for trial in trials] == ["done"] * len(STEPS), trials
    spans = [
        (t.started.timestamp(), t.finished.timestamp(), t.seconds or 0.0)
        for t in trials
        if t.started is not None and t.finished is not None
    ]
    lengths = [end - start for start, end, _ in spans]
    wall = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
    busy, training = sum(lengths), sum(seconds for *_, seconds in spans)
    print(
        f"{len(spans)} trials of {min(lengths):.2f} to {max(lengths):.2f} s in {SLOTS} slots: "
        f"busy {busy / (SLOTS * wall):.1%} of {wall:.1f} s (training alone {training / (SLOTS * wall):.1%}), "
        f"{busy / (SLOTS * command):.1%} of the whole command's {command:.1f} s"
    )


def request_of(root: Path, name: str, seed: int) -> Path:
    """The request of a run of its own."""
    from gatelab.run.config.compose import compose
    from gatelab.run.config.schema import check
    from gatelab.run.frozen_run import write_request
    from gatelab.run.record.identity import identify

    composed = compose([*RUN, f"seed={seed}", f"paths.root={root / name}"])
    identity = identify(composed)
    path = root / f"{name}.json"
    config = {**check(composed), "test": False}
    study = {"study": "bench", "number": 0, "monitor": "val/loss", "reports": True, "prunes": False}
    write_request(path, config, identity, threads=1, **study)
    return path


if __name__ == "__main__":
    main()
