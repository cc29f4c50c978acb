"""Milliseconds of one training step of the layer alone: nn.GRU and both variants of gatelab's, in turns in one process.

Forward and backward on the CPU in float32, with the gradient of the input. The quickest turn of each layer stands for
it: on a shared machine a median measures the neighbours. Only the ratios carry over to another machine.

example:
  python -m scripts.bench.layer --output experiments/001-from-scratch-equals-nn-gru/speed.csv
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from gatelab.core.gru import GRU
from scripts.harness import in_turns, parser

SHAPES = ((35, 20, 200, 200, 2), (35, 20, 256, 256, 1), (96, 32, 128, 128, 1), (336, 32, 7, 64, 1))


def main() -> int:
    p = parser(__doc__)
    p.add_argument("--rounds", type=int, default=40, help="turns of each layer (default: %(default)s)")
    p.add_argument("--output", type=Path, metavar="FILE", help="CSV file (default: standard output)")
    # one thread: several wait for each other as soon as the machine has other work, a hundredfold at worst
    p.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    options = p.parse_args()
    torch.set_num_threads(options.threads)
    rows = [row for shape in tqdm(SHAPES, file=sys.stderr) for row in measure(*shape, rounds=options.rounds)]
    with options.output.open("w", newline="") if options.output else sys.stdout as target:
        writer = csv.DictWriter(target, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return 0


def measure(
    steps: int, batch: int, width: int, hidden: int, depth: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """One row per layer at one shape: milliseconds, and how many times faster than nn.GRU."""
    before = GRU(width, hidden, depth, reset_after=False, backend="torch")
    layers = {"nn.GRU": nn.GRU(width, hidden, depth), "GRU torch": GRU(width, hidden, depth, backend="torch")}
    layers["GRU torch, reset_after=False"] = before
    x, dy = torch.randn(steps, batch, width, requires_grad=True), torch.randn(steps, batch, hidden)

    def step(layer: Any) -> Callable[[], float]:
        def call() -> float:
            begin = time.perf_counter()
            layer(x)[0].backward(dy)
            return 1e3 * (time.perf_counter() - begin)

        return call

    found = in_turns({name: step(layer) for name, layer in layers.items()}, rounds, warm_up=0)
    best = {name: min(values) for name, values in found.items()}
    shape = {
        "T": steps,
        "B": batch,
        "D": width,
        "H": hidden,
        "layers": depth,
        "threads": torch.get_num_threads(),
    }
    for name, ms in best.items():
        yield {**shape, "layer": name, "ms": f"{ms:.2f}", "times_nn_gru": f"{best['nn.GRU'] / ms:.2f}"}


if __name__ == "__main__":
    sys.exit(main())
