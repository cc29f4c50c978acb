"""Every backend of gatelab.GRU against torch.nn.GRU, side by side in one process on the CPU.

The contenders take turns in short bursts and a ratio is a median over the turns, so it means something on a
shared machine; seconds do not. `training` is forward and backward with the gradient of x, `inference` is forward
without gradients. `ragged` has lengths uniform in 1 ... T: everyone gets the padded batch and the lengths and
gives the padded outputs back (nn.GRU packs and unpacks). "% of peak" is the share of the float32 matrix product's
best speed, measured in the same run, that the call's own products reach. On a GPU: `scripts.checks.gpu`.

examples:
  python -m scripts.bench.gru --quick                      a minute: is the machine like the documented one?
  python -m scripts.bench.gru --output docs/bench_gru.json --picture docs/bench_gru.png
  python -m scripts.bench.gru --isa avx2 --threads 2       the AVX2 build of the native backend
  python -m scripts.bench.gru --table                      measure the grid and write what "auto" reads
  python -m scripts.bench.gru --check-table                is "auto" the fastest everywhere on that grid?
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby, product
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from scripts.harness import ROOT, parser, processor, show, write_json

Record = dict[str, Any]
DISPATCH = ROOT / "src/gatelab/core/backends/dispatch.json"
PICTURE = ROOT / "docs/bench_gru.png"
ISA_VARIABLE = "GATELAB_NATIVE_ISA"  # read when the kernel is loaded: set before gatelab is imported
QUICK = ("A", "C", "S", "one")
MEAN_OF = "ABCDEF"
COLOURS = {"native": "#1f6f8b", "torch": "#99a8b2", "reference": "#d9c5a0"}
HIDDEN, BATCH, STEPS = (16, 64, 128, 256, 512, 1024), (1, 4, 20, 64, 256), (1, 4, 35, 256)
MOST = 2e10  # operations of a training call: beyond it a point takes seconds and says what its neighbours say
LOOP = 4  # more steps than this and `reference` has no chance


def main() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = [1, 2] if cores >= 2 else [1]
    p = parser(__doc__)
    p.add_argument("--shapes", nargs="+", metavar="NAME", help="A B C D E F S L M one (default: all)")
    p.add_argument("--threads", nargs="+", type=int, default=threads, metavar="N", help="default: 1 and 2")
    p.add_argument("--backends", nargs="+", metavar="NAME", help="besides nn.GRU (default: all)")
    p.add_argument(
        "--isa", choices=("avx512", "avx2", "portable"), help="force a build of the native backend"
    )
    p.add_argument("--rounds", type=int, default=7, help="turns of each contender (default: %(default)s)")
    p.add_argument("--burst", type=float, default=0.06, metavar="S", help="seconds of a turn (%(default)s)")
    p.add_argument("--quick", action="store_true", help="few shapes, few turns")
    p.add_argument("--output", type=Path, metavar="FILE", help="write the results as JSON")
    p.add_argument("--picture", type=Path, nargs="?", const=PICTURE, metavar="FILE", help="draw them")
    p.add_argument(
        "--table", type=Path, nargs="?", const=DISPATCH, metavar="FILE", help="write the dispatch table"
    )
    p.add_argument("--check-table", action="store_true", help="is backend='auto' ever behind on its grid?")
    options = p.parse_args()
    if options.isa:
        os.environ[ISA_VARIABLE] = options.isa
    if options.quick:
        options.rounds, options.burst = 3, 0.03
    if options.table:
        return write_table(options)
    if options.check_table:
        return check_table(options)
    try:
        document = measured(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    tables(document)
    if options.output:
        write_json(options.output, document)
    if options.picture:
        picture(document, options.picture)
    return 0


def machine(threads: list[int] | int) -> Record:
    """What the numbers depend on."""
    import torch

    from gatelab.core.backends.native import kernel

    return {
        "device": "cpu",
        "processor": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "native": kernel.unavailable() or kernel.load().isa,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": threads,
        "date": datetime.now(UTC).date().isoformat(),
    }


def measured(options: argparse.Namespace) -> Record:
    """Time the shapes; the peak is probed before each case.

    Raises:
        ValueError: a shape or a backend that does not exist here.
    """
    from scripts.bench.gru_cases import REFERENCE, SHAPES, Case, Pace, Peak, contenders, measure, records

    names, able = options.shapes or (QUICK if options.quick else list(SHAPES)), contenders("cpu")
    backends = [REFERENCE, *(n for n in options.backends or able if n != REFERENCE)]
    for kind, given, known in (("shape", names, list(SHAPES)), ("backend", backends, able)):
        if unknown := [name for name in given if name not in known]:
            raise ValueError(f"unknown {kind} {unknown[0]!r}; there are {', '.join(known)}")
    cases = [
        Case(SHAPES[name], training, ragged, threads)
        for threads, training, ragged, name in product(options.threads, (True, False), (False, True), names)
        if not ragged or SHAPES[name].batch > 1
    ]
    peak, pace, timings = Peak(), Pace(options.rounds, options.burst), []
    for case in tqdm(cases, desc="cases", file=sys.stderr, disable=None):
        peak.probe(case.threads)
        timings.append(measure(case, backends, pace))
    speeds = {str(threads): round(flops / 1e9, 1) for threads, flops in peak.flops.items()}
    results = [record for of_case in timings for record in records(of_case, peak)]
    return machine(options.threads) | {"peak_gflops": speeds, "results": results}


def tables(document: Record) -> None:
    """One table for each number of threads, mode and kind of batch; a shape a row."""
    print(f"{document['processor']}, {document['capability']}, torch {document['torch']}")
    for threads, gflops in document["peak_gflops"].items():
        print(f"peak of torch.mm, float32, {threads} threads: {gflops} GFLOP/s")
    results = document["results"]
    for threads, mode, ragged in dict.fromkeys((r["threads"], r["mode"], r["ragged"]) for r in results):
        rows = [r for r in results if (r["threads"], r["mode"], r["ragged"]) == (threads, mode, ragged)]
        names = [n for n in dict.fromkeys(r["backend"] for r in rows) if n != "nn.GRU"]
        lines = []
        for key in dict.fromkeys(map(shape_of, rows)):
            of_shape = {r["backend"]: r for r in rows if shape_of(r) == key}
            line: Record = {"shape T,B,D,H": key, "nn.GRU": f"{of_shape['nn.GRU']['microseconds']:.0f} us"}
            for name in names:
                record = of_shape.get(name)
                line[name] = f"{record['ratio']:.2f}x" if record else "-"
                line[f"{name} % of peak"] = f"{record['peak_percent']:.0f}" if record else "-"
            lines.append(line)
        means = {name: f"{m:.2f}x" for name in names if (m := mean(rows, name)) is not None}
        if means:
            lines.append({**dict.fromkeys(lines[0]), "shape T,B,D,H": "geometric mean A-F", **means})
        kind = "ragged, per valid token" if ragged else "padded"
        show(f"{mode}, {kind}, {threads} thread{'s' * (threads != 1)}, float32: ratio to nn.GRU", lines)


def mean(rows: list[Record], name: str) -> float | None:
    """Geometric mean of a backend's ratios on shapes A to F, or None if one is missing."""
    ratios = {r["shape"]: r["ratio"] for r in rows if r["backend"] == name}
    if not set(MEAN_OF) <= set(ratios):
        return None
    return math.exp(sum(math.log(ratios[s]) for s in MEAN_OF) / len(MEAN_OF))


def shape_of(r: Record) -> str:
    """`A   35,20,256,256`."""
    return f"{r['shape']:3} {r['T']},{r['B']},{r['D']},{r['H']}"


def picture(document: Record, path: Path) -> None:
    """Bars: ratios to `nn.GRU` in training with the most threads, padded and ragged side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    threads = max(document["threads"])
    rows = [r for r in document["results"] if (r["threads"], r["mode"]) == (threads, "training")]
    names = [n for n in ("native", "torch") if any(r["backend"] == n for r in rows)]
    figure, axes = plt.subplots(1, 2, figsize=(10.4, 3.6), sharey=True)
    for ragged, axis in zip((False, True), axes, strict=True):
        mine = [r for r in rows if r["ragged"] is ragged and r["shape"] != "one"]
        shapes = {shape_of(r): f"{r['shape']}\n{r['T']},{r['B']}\n{r['D']},{r['H']}" for r in mine}
        for i, name in enumerate(names):
            found = {shape_of(r): r["ratio"] for r in mine if r["backend"] == name}
            at = [n + (i - (len(names) - 1) / 2) * 0.4 for n in range(len(shapes))]
            bars = axis.bar(at, [found.get(s, 0) for s in shapes], 0.38, color=COLOURS[name], label=name)
            axis.bar_label(bars, fmt="%.1f", fontsize=7)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_xticks(range(len(shapes)), shapes.values())
        axis.tick_params(axis="x", labelsize=6)
        axis.set_yscale("log")
        axis.set_yticks([1, 2, 4, 8, 16], ["1x", "2x", "4x", "8x", "16x"])
        axis.minorticks_off()
        axis.set_title("ragged batches (per valid token)" if ragged else "full batches", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("times faster than nn.GRU")
    axes[0].legend(frameon=False, fontsize=8)
    machine = f"{document['processor']} ({document['capability']}), torch {document['torch']}"
    title = f"Training, float32, {threads} threads, {machine}; shapes are T,B,D,H"
    figure.suptitle(title, fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def grid(options: argparse.Namespace, auto: bool) -> Iterator[tuple[Record, dict[str, Any]]]:
    """Every point of the dispatch table's grid and the timings on it; one step or one row is never ragged."""
    from scripts.bench.gru_cases import Case, Pace, Shape, contenders, measure

    names, points = ("training", "ragged", "hidden", "batch", "steps"), []
    for training, ragged, hidden, batch, steps in product((False, True), (False, True), HIDDEN, BATCH, STEPS):
        shape = Shape("grid", steps, batch, hidden, hidden)
        case = Case(shape, training, ragged, max(options.threads))
        if not (ragged and 1 in (steps, batch)) and case.flops <= MOST:
            points.append((dict(zip(names, (training, ragged, hidden, batch, steps), strict=True)), case))
    for point, case in tqdm(points[:: 10 if options.quick else 1], file=sys.stderr, disable=None):
        ways = [n for n in contenders("cpu") if n != "reference" or case.shape.steps <= LOOP]
        timings = measure(case, [*ways, *(["auto"] if auto else [])], Pace(5, 0.02))
        yield point, {t.backend: t for t in timings}


def blocks(rows: list[Record]) -> Iterator[Record]:
    """The rows in the form of dispatch.json: a block for each kind of call and H, with a column for each backend."""
    kinds = ("training", "ragged", "hidden")
    for kind, group in groupby(rows, key=lambda row: [row[name] for name in kinds]):
        same = list(group)
        names = dict.fromkeys(name for row in same for name in row["microseconds"])
        yield {
            **dict(zip(kinds, kind, strict=True)),
            "batch": [row["batch"] for row in same],
            "steps": [row["steps"] for row in same],
            "microseconds": {name: [row["microseconds"].get(name) for row in same] for name in names},
        }


def write_table(options: argparse.Namespace) -> int:
    """Measure the grid and write the dispatch table, which `gatelab.core.backends.dispatch` reads."""
    rows = [
        {**point, "microseconds": {name: round(t.median * 1e6, 1) for name, t in timings.items()}}
        for point, timings in grid(options, auto=False)
    ]
    about, lines = machine(max(options.threads)), ",\n".join(f"      {json.dumps(b)}" for b in blocks(rows))
    text = f'{{\n  "about": {json.dumps(about)},\n  "cpu": {{\n    "float32": [\n{lines}\n    ]\n  }}\n}}\n'
    options.table.write_text(text)
    print(f"{len(rows)} points -> {options.table}")
    return 0


def check_table(options: argparse.Namespace) -> int:
    """Measure backend="auto" on the grid; says where it is behind by more than a tenth."""
    rows = []
    for point, timings in grid(options, auto=True):
        auto, peer = timings.pop("auto"), timings.pop("nn.GRU")
        best = min(timings.values(), key=lambda t: t.median)
        row = {**point, "fastest": best.backend, "the fastest backend": round(auto.ratio_to(best), 3)}
        rows.append({**row, "nn.GRU": round(auto.ratio_to(peer), 3)})
    for other in ("the fastest backend", "nn.GRU"):
        behind = sorted((row for row in rows if row[other] < 0.9), key=lambda row: row[other])
        figures = [row[other] for row in rows]
        print(f"auto beside {other}: median {median(figures):.2f}x, worst {min(figures):.2f}x", end=", ")
        print(f"more than 10 % behind at {len(behind)} of {len(rows)} points")
        for row in behind:
            print(f"  {row}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
