"""Milliseconds of one training step of the layer alone: nn.GRU and both variants of gatelab's, in turns in one process.

Forward and backward on the CPU in float32, with the gradient of the input. The quickest turn of each layer stands for
it: on a shared machine a median measures the neighbours. Only the ratios carry over to another machine.

example:
  python -m scripts.bench.layer --output experiments/001-from-scratch-equals-nn-gru/speed.csv
"""

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from gatelab.core.gru import GRU

SHAPES = ((35, 20, 200, 200, 2), (35, 20, 256, 256, 1), (96, 32, 128, 128, 1), (336, 32, 7, 64, 1))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40, help="turns of each layer (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="CSV file (default: standard output)")
    # one thread: several wait for each other as soon as the machine has other work, a hundredfold at worst
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = [row for shape in tqdm(SHAPES, file=sys.stderr) for row in measure(*shape, rounds=given.rounds)]
    target = given.output.open("w", newline="") if given.output else sys.stdout
    with target:
        writer = csv.DictWriter(target, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return 0


def measure(steps: int, batch: int, width: int, hidden: int, depth: int, rounds: int) -> list[dict[str, Any]]:
    """One row per layer at one shape: milliseconds, and how many times faster than nn.GRU."""
    layers = {
        "nn.GRU": nn.GRU(width, hidden, depth),
        "GRU torch": GRU(width, hidden, depth, backend="torch"),
        "GRU torch, reset_after=False": GRU(width, hidden, depth, reset_after=False, backend="torch"),
    }
    x, dy = torch.randn(steps, batch, width, requires_grad=True), torch.randn(steps, batch, hidden)
    best = dict.fromkeys(layers, float("inf"))
    for _ in range(rounds):
        for name, layer in layers.items():
            begin = time.perf_counter()
            layer(x)[0].backward(dy)
            best[name] = min(best[name], 1e3 * (time.perf_counter() - begin))
    shape = {
        "T": steps,
        "B": batch,
        "D": width,
        "H": hidden,
        "layers": depth,
        "threads": torch.get_num_threads(),
    }
    ratio = {name: best["nn.GRU"] / ms for name, ms in best.items()}
    return [
        {**shape, "layer": n, "ms": f"{ms:.2f}", "times_nn_gru": f"{ratio[n]:.2f}"} for n, ms in best.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
