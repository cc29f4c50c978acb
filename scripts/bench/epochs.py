"""Seconds per epoch of real training, for several models side by side in one run, and where they go.

Each model trains a slice of an epoch through the whole path of `gatelab train` (data, Lightning, default callbacks,
metrics.csv, checkpoints) and validates a slice, in turns, several rounds. Both are scaled to an epoch; a ratio is the
median over the rounds. All models get the sizes that the experiment gives its own, the same data, seed and batches.
Checkpoints are written once an epoch and stand in the profile only. On a shared machine only the ratios mean something.

examples:
  python -m scripts.bench.epochs experiment=etth1_gru --threads 2 --profile
  python -m scripts.bench.epochs experiment=ptb_gru --batches 20 --rounds 3 --models model=gru model=lstm model=nn_lstm
  python -m scripts.bench.epochs --profile --output docs/bench_epochs.json       what the README quotes
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

EXPERIMENTS = ("ptb_gru", "etth1_gru")
MODELS = ("model=gru model.backend=native", "model=gru model.backend=torch", "model=nn_gru")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help=f"as for `gatelab train`; without experiment=NAME: {' and '.join(EXPERIMENTS)}, one after the other",
    )
    p.add_argument(
        "--models",
        nargs="+",
        default=list(MODELS),
        metavar="OVERRIDES",
        help="the contenders, each one argument of one or more overrides; ratios are to the last "
        f"(default: {', '.join(map(repr, MODELS))})",
    )
    p.add_argument(
        "--batches", type=int, default=60, help="training batches of a turn (default: %(default)s)"
    )
    p.add_argument("--val-batches", type=int, default=5, help="validation batches (default: %(default)s)")
    p.add_argument(
        "--warmup", type=int, default=5, help="batches before the clock starts (default: %(default)s)"
    )
    p.add_argument("--rounds", type=int, default=5, help="turns of each model (default: %(default)s)")
    p.add_argument("--threads", nargs="+", type=int, metavar="N", help="default: one for each core, then 1")
    p.add_argument(
        "--profile",
        action="store_true",
        help="one more turn of each model under a profiler; print the seconds of each part of an epoch",
    )
    p.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    p.add_argument("--output", type=Path, metavar="FILE", help="write the JSON document to a file")
    return p


def main() -> int:
    options = parser().parse_intermixed_args()
    from gatelab.run.errors import RequestError
    from gatelab.run.train import say

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options.threads = options.threads or sorted({cores, 1}, reverse=True)
    if min(options.batches, options.val_batches, options.rounds, *options.threads) < 1 or options.warmup < 0:
        say("--batches, --val-batches, --rounds and --threads must be at least 1, --warmup at least 0")
        return 2
    try:
        results = [
            measure(overrides, threads, options)
            for overrides in experiments(options.overrides)
            for threads in options.threads
        ]
    except (RequestError, ValueError) as error:
        say(str(error))
        return 2
    document = machine(options) | {"results": results}
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(document, indent=2) + "\n")
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        show(document)
    return 0


def experiments(overrides: list[str]) -> list[list[str]]:
    """The overrides of each experiment that is measured."""
    if any(o.startswith("experiment=") for o in overrides):
        return [overrides]
    return [[f"experiment={name}", *overrides] for name in EXPERIMENTS]


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers depend on."""
    from gatelab.core import native
    from gatelab.run.record.environment import describe

    about = describe()
    return {
        "processor": about["cpu"],
        "capability": about["cpu_capability"],
        "native": native.unavailable() or native.load().isa,
        "versions": about["versions"],
        "python": about["python"],
        "date": datetime.now(UTC).date().isoformat(),
        "slice": {
            "warmup": options.warmup,
            "batches": options.batches,
            "validation_batches": options.val_batches,
            "rounds": options.rounds,
        },
    }


def measure(overrides: list[str], threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """One experiment with one number of threads: the turns, then the profile."""
    from scripts.bench.epoch_parts import profile
    from scripts.bench.epoch_turn import Slice, contenders

    part = Slice(options.warmup, options.batches, options.val_batches)
    racers = contenders([*overrides, f"threads={threads}"], options.models, part)
    title = f"{' '.join(overrides)}, {threads} threads"
    for turn in tqdm(range(options.rounds), desc=title, file=sys.stderr, disable=None):
        at = turn % len(racers)
        for racer in racers[at:] + racers[:at]:
            racer.take_turn(part)
    last = racers[-1].epochs()
    return {
        "overrides": overrides,
        "threads": threads,
        "batches_per_epoch": racers[0].batches,
        "validation_batches": racers[0].validation_batches,
        "models": [
            {
                "model": racer.name,
                "seconds_per_epoch": round(statistics.median(racer.epochs()), 3),
                "training": round(statistics.median(racer.training), 3),
                "validation": round(statistics.median(racer.validation), 3),
                "ratio": round(
                    statistics.median(b / a for a, b in zip(racer.epochs(), last, strict=True)), 3
                ),
                "rounds": [round(s, 3) for s in racer.epochs()],
                **({"profile": _rounded(profile(racer, part))} if options.profile else {}),
            }
            for racer in racers
        ],
    }


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in seconds.items()}


def show(document: dict[str, Any]) -> None:
    """The results as tables, on stdout."""
    from rich.console import Console

    from scripts.bench.epoch_show import tables

    console = Console(width=110)
    console.print(
        f"{document['processor']}, {document['capability']}, torch {document['versions']['torch']}, "
        f"native: {document['native']}"
    )
    for result in document["results"]:
        for table in tables(result):
            console.print(table)


if __name__ == "__main__":
    sys.exit(main())
