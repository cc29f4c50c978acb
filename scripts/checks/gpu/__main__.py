"""Everything that has to be seen on a GPU, in one command of at most six minutes, without a network.

Every part runs in a process of its own with a limit of its own, so that one that fails or hangs hides no other. Those
that are timed run alone and first, the others at the same time as one another:
  layers    microseconds a step of nn.GRU, nn.LSTM and our backends
  epochs    seconds an epoch of word language models of Penn Treebank's size
  parity    every backend of this device against `reference` in float64: for each precision, and for the variant that
            resets before the product (`-before`)
  graphs    a gradient of a gradient, and torch.compile, of every backend
  training  every task in 32-true, bf16-mixed and 16-mixed
  compiled  compile=default and compile=cudagraphs beside a run that is not compiled
  large     900 units with zoneout, and a batch of several launches, beside the plain loop
  resume    a run that is killed and started again, compared bit for bit with an undisturbed one
  sweep     four slots on the one device
  scoring   finished runs scored again: the same numbers
  export    safetensors, ONNX and torch.export of a run that was trained here

examples:
  python -m scripts.checks.gpu --output docs/bench_gpu.json
  python -m scripts.checks.gpu --parts parity-float32 layers
  python -m scripts.checks.gpu --device cpu --quick          the same on a small scale, in about a minute
  python -m scripts.bench.gru --table-from docs/bench_gpu.json       what `auto` reads, from what was measured

`parity`, `graphs` and `layers` need only torch. The packages for the others come to a machine without a network as
wheels:
  pip wheel -c constraints.txt -w .whl antlr4-python3-runtime
  pip download -c constraints.txt --python-version 3.12 --only-binary=:all: --find-links .whl -d .whl NAMES
  pip install --no-index --no-deps --target /tmp/site .whl/*.whl && export PYTHONPATH=/tmp/site       (there)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from scripts import harness
from scripts.harness import Command, place, show

sys.path.insert(0, str(harness.ROOT / "src"))  # a machine where the package is not installed

from scripts.checks.gpu import beside, runs
from scripts.checks.gpu.parity import PRECISIONS, graphs, parity, parity_table
from scripts.checks.gpu.setup import Row, Setup, machine

TOTAL_SECONDS = 330.0
LIMITS = {"layers": 95.0, "epochs": 70.0}
"""Seconds of a part at most."""
LIMIT, GRACE = 150.0, 20.0
"""Seconds of the others; those that a part that watches its time may take longer."""
TIMED = ("layers", "epochs")


def layers(at: Setup) -> Iterator[Row]:
    """Microseconds a step, a contender a row."""
    from scripts.checks.gpu.layers import layers

    return layers(at)


PARTS: dict[str, Callable[[Setup], Iterator[Row]]] = {
    "layers": layers,
    "epochs": runs.epochs,
    **{f"parity-{name}": partial(parity, precision=name, after=True) for name in PRECISIONS},
    **{f"parity-{name}-before": partial(parity, precision=name, after=False) for name in PRECISIONS},
    "graphs": graphs,
    **runs.PARTS,
    **beside.PARTS,
}
NOT_QUICK = {name for name in PARTS if name.startswith("parity")} - {
    "parity-float32",
    "parity-bfloat16-before",
}


def table(name: str, rows: list[Row]) -> list[Row]:
    """What of a part is looked at."""
    if name == "layers":
        from scripts.checks.gpu.layers import layers_table

        return layers_table(rows)
    if name == "training":
        return runs.training_table(rows)
    return parity_table(rows) if name.startswith("parity") else rows


def do_part(name: str, at: Setup, limit: float) -> Row:
    """Run one part in its own process: its rows, and how it ended."""
    rows, began = at.folder / f"{name}.jsonl", time.monotonic()
    rows.touch()
    arguments = [sys.executable, "-m", "scripts.checks.gpu", "--part", name, "--rows", str(rows)]
    arguments += ["--device", at.device, "--folder", str(at.folder), "--seconds", str(at.seconds)]
    arguments += ["--quick"] if at.quick else []
    code = (command := Command(arguments, at.folder / f"{name}.part.log")).wait(limit)
    written = rows.read_text().splitlines(keepends=True)  # the last line may be cut
    found = [json.loads(line) for line in written if line.endswith("\n")]
    bad = [row for row in found if row["ok"] is False]
    ended = "ok" if code == 0 and not bad else f"{len(bad)} failed" if code == 0 else "stopped by an error"
    if code is None:
        ended = f"not finished in {limit:.0f} s" + (f", {len(bad)} failed" if bad else "")
    log = command.tail(20) if code else ""
    return {"ended": ended, "seconds": round(time.monotonic() - began, 1), "rows": found, "log": log}


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    if options.part:
        at = Setup(options.device, options.quick, options.folder, options.seconds)
        with options.rows.open("a", buffering=1) as file:
            for row in PARTS[options.part](at):
                file.write(json.dumps(row) + "\n")
        return 0
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --quick runs a small part of it", file=sys.stderr)
        return 2
    deadline = time.monotonic() + TOTAL_SECONDS
    document: Row = {"machine": machine(options.device), "parts": {}}
    print(json.dumps(document["machine"]), flush=True)
    with place(options.folder, "gpu-") as folder:
        runs.make_data(folder / "data")

        def done(name: str) -> Row:
            left = deadline - time.monotonic()
            if left < 5:
                return {"ended": "skipped: no time left", "seconds": 0.0, "rows": [], "log": ""}
            seconds = LIMITS.get(name, LIMIT)
            at = Setup(options.device, options.quick, folder, seconds)
            return do_part(name, at, min(seconds + GRACE, left))

        def tell(name: str, part: Row) -> None:
            document["parts"][name] = part | {"table": table(name, part["rows"])}
            show(f"{name}: {part['ended']}, {part['seconds']} s", document["parts"][name]["table"])
            print(part["log"], flush=True)
            if options.output:
                harness.write_json(options.output, document)

        for name in (name for name in options.parts if name in TIMED):
            tell(name, done(name))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            started = {pool.submit(done, name): name for name in options.parts if name not in TIMED}
            for future in as_completed(started):
                tell(started[future], future.result())
    ends = {name: part["ended"] for name, part in document["parts"].items()}
    show("", [{"part": name, "ended": ended} for name, ended in ends.items()])
    return int(any(ended != "ok" for ended in ends.values()))


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """What was asked for."""
    p = harness.parser(__doc__, folder=True)
    p.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: %(default)s")
    p.add_argument("--quick", action="store_true", help="few small cases")
    p.add_argument("--parts", nargs="+", choices=list(PARTS), metavar="PART", help="default: all")
    p.add_argument("--output", type=Path, metavar="FILE", help="write everything as JSON, after each part")
    for hidden, kind in (("part", str), ("rows", Path), ("seconds", float)):
        p.add_argument(f"--{hidden}", type=kind, help=argparse.SUPPRESS)
    options = p.parse_args(arguments)
    if options.parts is None:
        options.parts = [name for name in PARTS if not options.quick or name not in NOT_QUICK]
    return options


if __name__ == "__main__":
    sys.exit(main())
