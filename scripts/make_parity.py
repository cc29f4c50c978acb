"""Write the record experiments/001-from-scratch-equals-nn-gru: parity tables, speed, versions, README.

It compares gatelab's GRU with torch.nn.GRU given the same weights: outputs, final state and every gradient. It exits
with 1 when a bar is missed. It is not the test (tests/core/test_parity.py holds the same bars on every run).

example:
  python scripts/make_parity.py
"""

import argparse
import csv
import platform
import statistics
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gatelab
from gatelab.core.backends import fused
from gatelab.core.gru import GRU

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "001-from-scratch-equals-nn-gru"
BAR = 1e-12
QUANTITIES = ("output", "h_n", "dx", "dh0", "parameters")
BACKENDS: tuple[Any, ...] = ("reference", "torch")
SHAPES = ((35, 20, 200, 200, 2), (35, 20, 256, 256, 1), (96, 32, 128, 128, 1), (336, 32, 7, 64, 1))


def run(layer: Any, x: Tensor, h0: Tensor, lengths: Tensor | None) -> dict[str, list[Tensor]]:
    """Outputs and gradients of one layer under a loss that weighs every output and state differently."""
    x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
    if lengths is None:
        y, h = layer(x, h0)
    elif isinstance(layer, GRU):
        y, h = layer(x, h0, lengths=lengths)
    else:
        packed = pack_padded_sequence(x, lengths, layer.batch_first, enforce_sorted=False)
        y, h = layer(packed, h0)
        y = pad_packed_sequence(y, layer.batch_first)[0]
    dy = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    dh = torch.linspace(-2, 1, h.numel(), dtype=h.dtype).view(h.shape)
    dx, dh0, *rest = torch.autograd.grad((y, h), (x, h0, *layer.parameters()), (dy, dh))
    return dict(zip(QUANTITIES, ([y], [h], [dx], [dh0], rest), strict=True))


def errors(got: dict[str, list[Tensor]], want: dict[str, list[Tensor]]) -> dict[str, float]:
    """The largest deviation of each quantity, relative to its largest value."""
    return {
        name: max(
            ((a.double() - b.double()).abs().max() / b.abs().max()).item()
            for a, b in zip(got[name], want[name], strict=True)
        )
        for name in QUANTITIES
    }


def parity_rows() -> list[dict[str, Any]]:
    """float64: every combination of layers, directions, layout and lengths, both backends."""
    rows = []
    for layers, both, first, ragged in product((1, 2, 3), (False, True), (False, True), (False, True)):
        torch.manual_seed(0)
        options: dict[str, Any] = {"num_layers": layers, "bidirectional": both, "batch_first": first}
        theirs = nn.GRU(16, 32, **options, dtype=torch.float64)
        x = torch.randn((8, 20, 16) if first else (20, 8, 16), dtype=torch.float64)
        h0 = torch.randn(layers * (1 + both), 8, 32, dtype=torch.float64)
        lengths = torch.tensor([3, 20, 1, 5, 17, 20, 2, 9]) if ragged else None
        want = run(theirs, x, h0, lengths)
        for backend in BACKENDS:
            ours = GRU(16, 32, **options, dtype=torch.float64, backend=backend)
            ours.load_state_dict(theirs.state_dict())
            row = {"dtype": "float64", "layer": f"GRU {backend}", "layers": layers, "directions": 1 + both}
            row |= {"batch_first": first, "lengths": "ragged" if ragged else "whole"}
            rows.append(row | errors(run(ours, x, h0, lengths), want))
    return rows


def float32_rows() -> list[dict[str, Any]]:
    """float32, against the float64 result: ours and nn.GRU's own error."""
    torch.manual_seed(0)
    exact = nn.GRU(64, 128, 2, dtype=torch.float64)
    x, h0 = torch.randn(100, 16, 64, dtype=torch.float64), torch.randn(2, 16, 128, dtype=torch.float64)
    single = {name: value.float() for name, value in exact.state_dict().items()}
    exact.load_state_dict(single)
    want = run(exact, x.float().double(), h0.float().double(), None)
    layers = {"nn.GRU": nn.GRU(64, 128, 2)}
    layers |= {f"GRU {backend}": GRU(64, 128, 2, backend=backend) for backend in BACKENDS}
    rows = []
    for name, layer in layers.items():
        layer.load_state_dict(single)
        row = {"dtype": "float32", "layer": name, "layers": 2, "directions": 1}
        row |= {"batch_first": False, "lengths": "whole"}
        rows.append(row | errors(run(layer, x.float(), h0.float(), None), want))
    return rows


def gradchecks() -> dict[str, bool]:
    """Finite differences against the written gradient, first and second derivatives, both variants."""
    done = {}
    for after in (True, False):
        torch.manual_seed(0)
        shapes = [(4, 3, 2), (3, 2), (6, 2), (6, 2), (6,), *([(6,)] if after else [])]
        tensors = [torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes]

        def call(*given: Tensor, after: bool = after) -> Any:
            full = given if after else (*given, None)
            return fused.run(*full, reset_after=after, lengths=None, reset_mask=None)

        first = torch.autograd.gradcheck(call, tensors, raise_exception=False)
        done[f"reset_after={after}"] = first and torch.autograd.gradgradcheck(
            call, tensors, raise_exception=False
        )
    return done


def speed_rows(rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of forward and backward in float32, the layers in turns, the median over the rounds."""
    rows = []
    for steps, batch, width, hidden, depth in SHAPES:
        layers = {
            "nn.GRU": nn.GRU(width, hidden, depth),
            "GRU torch": GRU(width, hidden, depth, backend="torch"),
            "GRU torch, reset_after=False": GRU(width, hidden, depth, reset_after=False, backend="torch"),
        }
        x, dy = torch.randn(steps, batch, width, requires_grad=True), torch.randn(steps, batch, hidden)
        taken: dict[str, list[float]] = {name: [] for name in layers}
        for _ in range(rounds):
            for name, layer in layers.items():
                begin = time.perf_counter()
                layer(x)[0].backward(dy)
                taken[name].append(1e3 * (time.perf_counter() - begin))
        middle = {name: statistics.median(times[rounds // 4 :]) for name, times in taken.items()}
        shape = {"T": steps, "B": batch, "D": width, "H": hidden, "layers": depth}
        for name, value in middle.items():
            times = {"ms": f"{value:.2f}", "times_nn_gru": f"{middle['nn.GRU'] / value:.2f}"}
            rows.append(shape | {"layer": name} | times)
    return rows


def write(name: str, rows: list[dict[str, Any]]) -> None:
    """Write rows as a CSV file of the record, errors with two digits."""
    with (FOLDER / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.1e}" if isinstance(v, float) else v for k, v in row.items()})


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = (f"{row[k]:.1e}" if isinstance(row[k], float) else str(row[k]) for k in head)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=24, help="rounds of the speed measurement")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(2)
    FOLDER.mkdir(parents=True, exist_ok=True)
    parity, single, checks, speed = parity_rows(), float32_rows(), gradchecks(), speed_rows(rounds)
    write("results.csv", [*parity, *single])
    write("speed.csv", speed)
    worst = [
        {"layer": f"GRU {b}"}
        | {q: max(row[q] for row in parity if row["layer"] == f"GRU {b}") for q in QUANTITIES}
        for b in BACKENDS
    ]
    peer = single[0]
    good = max(row[q] for row in worst for q in QUANTITIES) <= BAR and all(checks.values())
    good = good and all(row[q] <= 2 * peer[q] + 1e-6 for row in single for q in QUANTITIES)
    shown = [{k: row[k] for k in ("layer", *QUANTITIES)} for row in single]
    text = (FOLDER / "README.template.md").read_text()
    for key, value in {
        "cases": str(len(parity)),
        "parity": table(worst),
        "float32": table(shown),
        "gradcheck": ", ".join(f"{k}: {'passes' if v else 'FAILS'}" for k, v in checks.items()),
        "speed": table(speed),
        "verdict": "Every bar is held." if good else "A BAR IS MISSED.",
        "versions": f"gatelab {gatelab.__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} threads",
    }.items():
        text = text.replace("{{" + key + "}}", value)
    (FOLDER / "README.md").write_text(text)
    print(table(worst), table(shown), table(speed), sep="\n\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
