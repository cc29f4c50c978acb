"""From Enter to the first training step, and where the time goes: python -m scripts.bench.startup [KEY=VALUE ...]

Every turn is a fresh process of `gatelab train`, ended by force when its first step has begun, and one of
`gatelab --help`, in turn. Medians, in seconds. What follows from the data is in the cache after the turn that is not
counted, as it is for whoever trains on a data set a second time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from typing import Any

REQUEST = ["experiment=etth1_gru"]
PARTS = {
    "configuration": ("gatelab.run.train:compose", "gatelab.run.train:check", "gatelab.run.train:identify"),
    "data": ("gatelab.run.train:build_data",),
    "record (run.json)": (
        "gatelab.run.record.directory:RunDirectory.begin",
        "gatelab.run.record.directory:RunDirectory.update",
    ),
    "model": ("gatelab.run.train:build_task",),
    "trainer": ("gatelab.run.train:build_trainer", "gatelab.run.train:build_callbacks"),
}


class FirstStep(BaseException):
    """The first training step has begun."""


def child(request: list[str], start: float) -> None:
    """Train until the first step and print what each part took."""
    seconds: dict[str, float] = {"interpreter": time.time() - start}
    began = time.perf_counter()
    from gatelab.cli.common import loading

    with loading():  # as `gatelab.cli.train` does
        from gatelab.cli.train import run  # noqa: F401
        from gatelab.run import train as module
    from gatelab.tasks.base import Task

    seconds["imports"] = time.perf_counter() - began
    for label, places in PARTS.items():
        for place in places:
            instrument(place, label, seconds)

    def training_step(*_: Any) -> None:
        raise FirstStep

    Task.training_step = training_step  # type: ignore[method-assign]
    try:
        module.train(request)
    except FirstStep:
        seconds["Enter to the first step"] = time.time() - start
    print(json.dumps(seconds))
    sys.stdout.flush()
    os._exit(0)


def instrument(place: str, label: str, seconds: dict[str, float]) -> None:
    """Wrap a function so that it adds its time to `seconds[label]`."""
    module, _, path = place.partition(":")
    *outer, name = path.split(".")
    owner: Any = import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    function = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[label] = seconds.get(label, 0.0) + time.perf_counter() - began

    setattr(owner, name, call)


def turn(request: list[str], cache: str) -> dict[str, float]:
    """One fresh process of each command."""
    with tempfile.TemporaryDirectory() as root:
        where = [f"paths.root={root}", f"paths.cache={cache}"]
        command = [
            sys.executable,
            "-m",
            "scripts.bench.startup",
            "--child",
            str(time.time()),
            *request,
            *where,
        ]
        output = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    found: dict[str, float] = json.loads(output.stdout.splitlines()[-1])
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "gatelab", "--help"], check=True, stdout=subprocess.DEVNULL)
    return {**found, "gatelab --help": time.perf_counter() - began}


def main() -> None:
    """Print one line for each part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("request", nargs="*", metavar="KEY=VALUE", help="default: experiment=etth1_gru")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    request = options.request or REQUEST
    if options.child is not None:
        child(request, options.child)
    with tempfile.TemporaryDirectory() as cache:
        turn(request, cache)
        turns = [turn(request, cache) for _ in range(options.turns)]
    medians = {key: statistics.median(t.get(key, 0.0) for t in turns) for key in turns[0]}
    total, helped = medians.pop("Enter to the first step"), medians.pop("gatelab --help")
    for label, value in medians.items():
        print(f"  {label:22}{value:6.2f}")
    print(f"  {'the rest of Lightning':22}{total - sum(medians.values()):6.2f}")
    print(
        f"Enter to the first step {total:6.2f}   gatelab --help {helped:.2f}   ({options.turns} turns, medians)"
    )


if __name__ == "__main__":
    main()
