"""Every backend of gatelab.GRU against torch.nn.GRU, side by side in one process on the CPU.

The contenders take turns in short bursts and a ratio is a median over the turns, so it means something on a
shared machine; seconds do not. "native, bf16" is the kernel with `matmul_precision=medium`, on processors with
AVX512-BF16; all else is in float32. `training` is forward and backward with the gradient of x, `inference` is forward
without gradients; "% of torch.mm" is the share that the first backend reaches of the speed of a square product,
taken in the same turns. `ragged` has lengths uniform in 1 ... T: everyone gets the padded batch and the lengths and
gives the padded outputs back (nn.GRU packs and unpacks). On a GPU: `scripts.checks.gpu`.

examples:
  python -m scripts.bench.gru --quick                      a minute: is the machine like the documented one?
  python -m scripts.bench.gru --output docs/bench_gru.json --picture
  GATELAB_NATIVE_ISA=avx2 python -m scripts.bench.gru      the AVX2 build of the native backend
  python -m scripts.bench.gru --table                      measure the grid and write what "auto" reads on a CPU
  python -m scripts.bench.gru --table-from docs/bench_gpu.json       write what it reads on a GPU, as measured there
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections import defaultdict
from datetime import UTC, datetime
from itertools import groupby, product
from operator import itemgetter
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import torch
from tqdm import tqdm

from gatelab.core.backends.native import kernel
from gatelab.run.record.environment import cpu_name
from scripts.bench.gru_cases import BF16, PRODUCT, SHAPES, Case, Shape, contenders, measure, records
from scripts.checks.gpu.layers import points
from scripts.harness import ROOT, parser, show, write_json

Record = dict[str, Any]
Point = tuple[Record, dict[str, float]]
"""Kind of call and sizes (training, ragged, hidden, batch, steps), and the microseconds of each backend."""
DISPATCH = ROOT / "src/gatelab/core/backends/dispatch.json"
PICTURE = ROOT / "docs/bench_gru.png"
QUICK = ("A", "C", "S", "one")
MEAN_OF = "ABCDEF"
COLOURS = {"native": "#1f6f8b", "torch": "#99a8b2"}
HIDDEN, BATCH, STEPS = (16, 64, 128, 256, 512, 1024), (1, 4, 20, 64, 256), (1, 4, 35, 256)
MOST = 2e10  # operations of a training call: beyond it a point takes seconds and says what its neighbours say
LOOP = 4  # more steps than this and `reference` has no chance


def main() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    p = parser(__doc__)
    p.add_argument("--threads", nargs="+", type=int, metavar="N", help="default: 1 and 2")
    p.add_argument("--quick", action="store_true", help="few shapes, few turns")
    p.add_argument("--output", type=Path, metavar="FILE", help="write the results as JSON")
    p.add_argument("--picture", action="store_true", help=f"draw them: {PICTURE.relative_to(ROOT)}")
    p.add_argument("--table", action="store_true", help="write the dispatch table instead")
    p.add_argument(
        "--table-from", type=Path, metavar="FILE", help="the GPU's part of it from what was measured there"
    )
    options = p.parse_args()
    if options.table_from:
        measured = json.loads(options.table_from.read_text())
        rows = measured["parts"]["layers"]["rows"]
        write_part(DISPATCH, "cuda", measured["machine"], points(rows))
        return 0
    threads = options.threads or ([1, 2] if cores >= 2 else [1])
    if options.table:
        write_table(max(threads), options.quick)
        return 0
    document = machine(threads) | {"results": compared(threads, options.quick)}
    tables(document)
    if options.output:
        write_json(options.output, document)
    if options.picture:
        picture(document)
    return 0


def machine(threads: list[int] | int) -> Record:
    """What the numbers depend on."""
    return {
        "device": "cpu",
        "processor": cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "native": kernel.unavailable() or kernel.load().isa,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": threads,
        "date": datetime.now(UTC).date().isoformat(),
    }


def compared(threads: list[int], quick: bool) -> list[Record]:
    """Time every contender on the shapes."""
    names, pace = (QUICK, (3, 0.03)) if quick else (tuple(SHAPES), (7, 0.06))
    cases = [
        Case(SHAPES[name], training, ragged, number)
        for number, training, ragged, name in product(threads, (True, False), (False, True), names)
        if not ragged or SHAPES[name].batch > 1
    ]
    bar = tqdm(cases, desc="cases", file=sys.stderr, disable=None)
    rounding = [BF16] if kernel.unavailable() is None and kernel.load().isa == "avx512_bf16" else []
    found = []
    for case in bar:
        names = [*contenders("cpu"), *(rounding if case.training else []), PRODUCT]
        found += records(case, measure(case, names, *pace))
    return found


def tables(document: Record) -> None:
    """One table for each number of threads, mode and kind of batch; a shape a row."""
    print(f"{document['processor']}, {document['capability']}, torch {document['torch']}")
    for key, group in groupby(document["results"], key=itemgetter("threads", "mode", "ragged")):
        lines, ratios = [], defaultdict(list)
        for shape, of_shape in groupby(group, key=itemgetter("shape", "T", "B", "D", "H")):
            peer, *ours = of_shape
            line = {"shape": shape[0], "T,B,D,H": ",".join(map(str, shape[1:]))}
            line["nn.GRU"] = f"{peer['microseconds']:.0f} us"
            line |= {r["backend"]: f"{r['ratio']:.2f}x" for r in ours}
            lines.append(line | {"% of torch.mm": f"{ours[0]['percent_of_mm']:.0f}"})
            for r in ours if shape[0] in MEAN_OF else ():
                ratios[r["backend"]].append(r["ratio"])
        show(
            f"{key[1]}, {'ragged' if key[2] else 'padded'}, {key[0]} threads, float32: ratio to nn.GRU", lines
        )
        means = ", ".join(f"{name} {geometric_mean(values):.2f}x" for name, values in ratios.items())
        print(f"geometric means of those of A to F: {means}")


def picture(document: Record) -> None:
    """Bars: ratios to `nn.GRU` in training with the most threads, padded and ragged side by side."""
    from matplotlib.figure import Figure

    threads = max(document["threads"])
    rows = [r for r in document["results"] if (r["threads"], r["mode"]) == (threads, "training")]
    names = [n for n in COLOURS if any(r["backend"] == n for r in rows)]
    figure = Figure(figsize=(10.4, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ragged, axis in zip((False, True), axes, strict=True):
        mine = [r for r in rows if r["ragged"] is ragged and r["shape"] != "one"]
        shapes = {r["shape"]: f"{r['shape']}\n{r['T']},{r['B']}\n{r['D']},{r['H']}" for r in mine}
        for i, name in enumerate(names):
            found = {r["shape"]: r["ratio"] for r in mine if r["backend"] == name}
            at = [n + (i - (len(names) - 1) / 2) * 0.4 for n in range(len(shapes))]
            bars = axis.bar(at, [found.get(s, 0) for s in shapes], 0.38, color=COLOURS[name], label=name)
            axis.bar_label(bars, fmt="%.1f", fontsize=7)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_xticks(range(len(shapes)), shapes.values(), fontsize=6)
        axis.set_yscale("log")
        axis.set_yticks([1, 2, 4, 8, 16], ["1x", "2x", "4x", "8x", "16x"])
        axis.minorticks_off()
        axis.set_title("ragged batches (per valid token)" if ragged else "full batches", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("times faster than nn.GRU")
    axes[0].legend(frameon=False, fontsize=8)
    about = f"{document['processor']} ({document['capability']}), torch {document['torch']}"
    title = f"Training, float32, {threads} threads, {about}; shapes are T,B,D,H"
    figure.suptitle(title, fontsize=8)
    figure.savefig(PICTURE, dpi=150)


def write_table(threads: int, quick: bool) -> None:
    """Measure a grid on the CPU and write its part of the dispatch table. One step or one row is never ragged."""
    cases = []
    for training, ragged, hidden, batch, steps in product((False, True), (False, True), HIDDEN, BATCH, STEPS):
        case = Case(Shape("grid", steps, batch, hidden, hidden), training, ragged, threads)
        if not (ragged and 1 in (steps, batch)) and case.flops <= MOST:
            cases.append(case)
    points: list[Point] = []
    for case in tqdm(cases[:: 10 if quick else 1], file=sys.stderr, disable=None):
        names = [n for n in contenders("cpu") if n != "reference" or case.shape.steps <= LOOP]
        found = measure(case, names, 5, 0.02)
        s = case.shape
        place = {"training": case.training, "ragged": case.ragged, "hidden": s.hidden}
        place |= {"batch": s.batch, "steps": s.steps}
        points.append((place, {name: round(median(t) * 1e6, 1) for name, t in found.items()}))
    write_part(DISPATCH, "cpu", machine(threads), {"float32": points})


def write_part(path: Path, device: str, about: Record, points: dict[str, list[Point]]) -> None:
    """Write the part of a device in the dispatch table, which `gatelab.core.backends` reads; the others stay."""
    table = json.loads(path.read_text()) if path.is_file() else {"about": {}}
    table["about"][device] = about
    table[device] = {dtype: blocks(of_dtype) for dtype, of_dtype in points.items()}
    lines = [f'  "about": {json.dumps(table.pop("about"))}']
    for name, parts in table.items():
        dtypes = [
            f'    "{dtype}": [\n' + ",\n".join(f"      {json.dumps(block)}" for block in of_dtype) + "\n    ]"
            for dtype, of_dtype in parts.items()
        ]
        lines.append(f'  "{name}": {{\n' + ",\n".join(dtypes) + "\n  }")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{sum(map(len, points.values()))} points -> {path}")


def blocks(points: list[Point]) -> list[Record]:
    """A block for each kind of call and H, with columns of batch, steps and the microseconds of each backend."""
    kind = itemgetter("training", "ragged", "hidden")
    found = []
    for key, group in groupby(points, key=lambda point: kind(point[0])):
        same = list(group)
        block: Record = dict(zip(("training", "ragged", "hidden"), key, strict=True))
        block |= {name: [place[name] for place, _ in same] for name in ("batch", "steps")}
        backends = dict.fromkeys(name for _, times in same for name in times)
        block["microseconds"] = {name: [times.get(name) for _, times in same] for name in backends}
        found.append(block)
    return found


if __name__ == "__main__":
    sys.exit(main())
