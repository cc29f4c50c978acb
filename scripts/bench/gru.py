"""Every backend of gatelab.GRU against torch.nn.GRU, side by side in one process.

The contenders take turns in short bursts and a ratio is a median over the turns, so it means something on a
shared machine; seconds do not. `training` is forward and backward with the gradient of x, `inference` is forward
without gradients. `ragged` has lengths uniform in 1 ... T: everyone gets the padded batch and the lengths and
gives the padded outputs back (nn.GRU packs and unpacks). "% of peak" is the share of the float32 matrix product's
best speed, measured in the same run, that the call's own products reach.

examples:
  python -m scripts.bench.gru --quick                      a minute: is the machine like the README's?
  python -m scripts.bench.gru --output docs/bench_gru.json --picture docs/bench_gru.png
  python -m scripts.bench.gru --isa avx2 --threads 2       the AVX2 build of the native backend
  python -m scripts.bench.gru --table                      measure the grid and write what "auto" reads
  python -m scripts.bench.gru --check-table                is "auto" the fastest everywhere on that grid?
  python -m scripts.bench.gru --device cuda                cudnn, torch and reference on a GPU
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
DISPATCH = ROOT / "src" / "gatelab" / "core" / "backends" / "dispatch.json"
ISA_VARIABLE = "GATELAB_NATIVE_ISA"  # read when the kernel is loaded: set before gatelab is imported
CUDA_STEPS = 50
CUDA_HIDDEN, CUDA_BATCH = (64, 128, 256, 512, 1024), (1, 16, 64, 256)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    p.add_argument("--shapes", nargs="+", metavar="NAME", help="A B C D E F S L M one (default: all)")
    p.add_argument(
        "--threads", nargs="+", type=int, metavar="N", help="default: 1, and 2 if there are two cores"
    )
    p.add_argument("--modes", nargs="+", choices=("training", "inference"), default=["training", "inference"])
    p.add_argument("--batches", nargs="+", choices=("padded", "ragged"), default=["padded", "ragged"])
    p.add_argument(
        "--backends", nargs="+", metavar="NAME", help="besides nn.GRU (default: all that there are)"
    )
    p.add_argument(
        "--isa", choices=("avx512", "avx2", "portable"), help="build of the native backend to force"
    )
    p.add_argument("--rounds", type=int, default=7, help="turns of each contender (default: %(default)s)")
    p.add_argument(
        "--burst", type=float, default=0.06, metavar="S", help="seconds of a turn (default: %(default)s)"
    )
    p.add_argument("--quick", action="store_true", help="few shapes, few turns")
    p.add_argument("--output", type=Path, metavar="FILE", help="write the results as JSON")
    p.add_argument("--picture", type=Path, nargs="?", const=ROOT / "docs" / "bench_gru.png", metavar="FILE")
    p.add_argument(
        "--table",
        type=Path,
        nargs="?",
        const=DISPATCH,
        metavar="FILE",
        help="measure the grid over hidden, batch, steps and ragged instead, with the most --threads, and write "
        "the table that backend='auto' reads (default file: the package's own)",
    )
    p.add_argument(
        "--check-table",
        action="store_true",
        help="measure backend='auto' on that grid, and say where it is behind",
    )
    return p


def main() -> int:
    options = parser().parse_args()
    if options.isa:
        os.environ[ISA_VARIABLE] = options.isa
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options.threads = options.threads or ([1, 2] if cores >= 2 else [1])
    if options.quick:
        options.rounds, options.burst = 3, 0.03
    if options.device == "cuda" and not torch.cuda.is_available():
        print("not run: no CUDA device", file=sys.stderr)
        return 0
    if options.table:
        return write_table(options)
    if options.check_table:
        return check_table(options)
    from rich.console import Console

    from scripts.bench.gru_show import picture, tables

    document = machine(options) | {"results": []}
    try:
        for found in run_cuda(options) if options.device == "cuda" else run_cpu(options, document):
            document["results"] += found
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(width=110)
    console.print(f"{document['processor']}, {document['capability']}, torch {document['torch']}")
    for threads, gflops in document.get("peak_gflops", {}).items():
        console.print(f"peak of torch.mm, float32, {threads} threads: {gflops} GFLOP/s")
    for table in tables(document["results"]):
        console.print(table)
    if options.output:
        write_json(options.output, document)
    if options.picture:
        picture(document, options.picture)
    return 0


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers depend on."""
    import torch

    from gatelab.core import native

    why = native.unavailable()
    return {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "processor": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "native": why or native.load().isa,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": options.threads,
        "date": datetime.now(UTC).date().isoformat(),
    }


def processor() -> str:
    """The processor's name, as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def chosen(options: argparse.Namespace) -> list[str]:
    """The contenders. Raises ValueError for one that does not exist here."""
    from scripts.bench.gru_cases import REFERENCE, contenders

    able = contenders(options.device)
    wanted = options.backends or able
    for name in wanted:
        if name not in able:
            raise ValueError(f"unknown backend {name!r} on {options.device}; there are {', '.join(able[1:])}")
    return [REFERENCE, *(n for n in wanted if n != REFERENCE)]


def run_cpu(options: argparse.Namespace, document: dict[str, Any]) -> Iterator[list[dict[str, object]]]:
    """Measure the named shapes; the peak is probed before each of them and goes into the document."""
    from scripts.bench.gru_cases import SHAPES, Case
    from scripts.bench.gru_clock import Pace, Peak, measure, records

    names = options.shapes or (["A", "C", "S", "one"] if options.quick else list(SHAPES))
    for name in names:
        if name not in SHAPES:
            raise ValueError(f"unknown shape {name!r}; there are {', '.join(SHAPES)}")
    cases = [
        Case(SHAPES[name], mode == "training", batch == "ragged", threads)
        for threads in options.threads
        for mode in options.modes
        for batch in options.batches
        for name in names
        if batch == "padded" or (SHAPES[name].batch > 1)
    ]
    peak, pace, backends = Peak(), Pace(options.rounds, options.burst), chosen(options)
    timings = []
    for case in progress(cases):
        peak.probe(case.threads)
        timings.append(measure(case, backends, pace))
    document["peak_gflops"] = {str(n): round(flops / 1e9, 1) for n, flops in peak.flops.items()}
    for of_case in timings:
        yield records(of_case, peak)


def run_cuda(options: argparse.Namespace) -> Iterator[list[dict[str, object]]]:
    """Measure a grid of H and B in float32 and bfloat16 on the GPU."""
    import torch

    from scripts.bench.gru_cases import Case, Shape
    from scripts.bench.gru_clock import Pace, measure, records

    pace, backends = Pace(options.rounds, options.burst), chosen(options)
    hidden, batch = (CUDA_HIDDEN[::2], CUDA_BATCH[::2]) if options.quick else (CUDA_HIDDEN, CUDA_BATCH)
    cases = [
        Case(Shape("grid", CUDA_STEPS, b, h, h), mode == "training", kind == "ragged", 0, "cuda", dtype)
        for dtype in (torch.float32, torch.bfloat16)
        for mode in options.modes
        for kind in options.batches
        for h in hidden
        for b in batch
        if kind == "padded" or b > 1
    ]
    for case in progress(cases):
        yield records(measure(case, backends, pace))


def write_table(options: argparse.Namespace) -> int:
    """Measure the grid and write the dispatch table."""
    from scripts.bench.gru_clock import Pace
    from scripts.bench.gru_grid import blocks, points, table

    threads = max(options.threads)
    rows = list(progress(table(options.quick, Pace(5, 0.02), threads), total=len(points(options.quick))))
    about = machine(options) | {"threads": threads}
    lines = ",\n".join(f"      {json.dumps(block)}" for block in blocks(rows))
    options.table.write_text(
        f'{{\n  "about": {json.dumps(about)},\n  "cpu": {{\n    "float32": [\n{lines}\n    ]\n  }}\n}}\n'
    )
    print(f"{len(rows)} points -> {options.table}")
    return 0


def check_table(options: argparse.Namespace) -> int:
    """Measure backend="auto" on the grid; says where it is behind by more than a tenth."""
    from statistics import median

    from scripts.bench.gru_clock import Pace
    from scripts.bench.gru_grid import check, points

    pace = Pace(5, 0.02)
    rows = list(progress(check(options.quick, pace, max(options.threads)), total=len(points(options.quick))))
    for key, other in (("to_fastest", "the fastest backend"), ("to_nn_gru", "nn.GRU")):
        behind = sorted((row for row in rows if row[key] < 0.9), key=lambda row: row[key])
        print(
            f"auto beside {other}: median {median(row[key] for row in rows):.2f}x, worst "
            f"{min(row[key] for row in rows):.2f}x, more than 10 % behind at {len(behind)} of {len(rows)} points"
        )
        for row in behind:
            print(f"  {row}")
    return 0


def progress(items: Iterable[Any], total: int | None = None) -> Iterable[Any]:
    """A bar on stderr, if that is a terminal."""
    return tqdm(items, total=total, desc="cases", file=sys.stderr, disable=None)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """One record a line, so that two runs can be compared by eye."""
    head = {k: v for k, v in document.items() if k != "results"}
    lines = ",\n".join(f"    {json.dumps(record)}" for record in document["results"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{json.dumps(head, indent=2)[:-2]},\n  "results": [\n{lines}\n  ]\n}}\n')


if __name__ == "__main__":
    sys.exit(main())
