"""Measure experiments/001-from-scratch-equals-nn-gru again: gatelab's GRU beside torch.nn.GRU with the same weights.

Outputs, final state and every gradient are compared; the error of a quantity is max|a - b| / max|b|, the worst of its
tensors. It writes results.csv and parity.png and prints the tables of the record's page. It exits with 1 when a bar is
missed: float64 1e-12; float32 twice nn.GRU's own error plus 1e-6. tests/core/test_parity.py holds the same bars on
every test run; tests/test_records.py keeps the page and results.csv equal.

examples:
  python -m scripts.checks.parity            # measure again, write results.csv and parity.png
  python -m scripts.checks.parity --check    # write nothing, one depth of three
"""

import csv
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gatelab.core.gru import GRU
from scripts.checks.gpu.parity import errors, outcome
from scripts.harness import ROOT, parser

Row = dict[str, Any]
FOLDER = ROOT / "experiments/001-from-scratch-equals-nn-gru"
BAR = 1e-12
QUANTITIES = ("output", "h_n", "dx", "dh0", "dweight_ih", "dweight_hh", "dbias_ih", "dbias_hh")
BACKENDS: tuple[Any, ...] = ("reference", "torch")
LENGTHS = [3, 20, 1, 5, 17, 20, 2, 9]


def rows_of(case: Row, got: dict[str, Tensor], want: dict[str, Tensor]) -> list[Row]:
    """One row per quantity, which is the worst of all layers' and directions' tensors."""
    found = errors(got, want)
    worst = {kind: max(e for name, e in found.items() if name.split("_l")[0] == kind) for kind in QUANTITIES}
    return [{**case, "quantity": kind, "error": error} for kind, error in worst.items()]


def float64_rows(depths: list[int]) -> list[Row]:
    """Every combination of layers, directions, layout and lengths, both backends."""
    rows: list[Row] = []
    for layers, both, first, ragged in product(depths, *[(False, True)] * 3):
        torch.manual_seed(0)
        options: Row = {"num_layers": layers, "bidirectional": both, "batch_first": first}
        theirs = nn.GRU(16, 32, **options, dtype=torch.float64)
        x = torch.randn((8, 20, 16) if first else (20, 8, 16), dtype=torch.float64)
        h0 = torch.randn(layers * (1 + both), 8, 32, dtype=torch.float64)
        given = {"lengths": torch.tensor(LENGTHS)} if ragged else {}
        want = outcome(theirs, x, h0, given)
        for backend in BACKENDS:
            ours = GRU(16, 32, **options, dtype=torch.float64, backend=backend)
            ours.load_state_dict(theirs.state_dict())
            case: Row = {"dtype": "float64", "layer": f"GRU {backend}", "layers": layers}
            case |= {"directions": 1 + both, "batch_first": first, "lengths": "ragged" if ragged else "whole"}
            rows += rows_of(case, outcome(ours, x, h0, given), want)
    return rows


def float32_rows() -> list[Row]:
    """float32, against the float64 result: ours and nn.GRU's own error."""
    torch.manual_seed(0)
    exact = nn.GRU(64, 128, 2, dtype=torch.float64)
    x, h0 = torch.randn(100, 16, 64), torch.randn(2, 16, 128)
    single = {name: value.float() for name, value in exact.state_dict().items()}
    exact.load_state_dict(single)
    want = outcome(exact, x.double(), h0.double(), {})
    layers: dict[str, nn.Module] = {"nn.GRU": nn.GRU(64, 128, 2)}
    layers |= {f"GRU {backend}": GRU(64, 128, 2, backend=backend) for backend in BACKENDS}
    rows = []
    for name, layer in layers.items():
        layer.load_state_dict(single)
        case: Row = {"dtype": "float32", "layer": name, "layers": 2, "directions": 1}
        case |= {"batch_first": False, "lengths": "whole"}
        rows += rows_of(case, outcome(layer, x, h0, {}), want)
    return rows


def worst_of(rows: list[Row], dtype: str) -> dict[str, dict[str, float]]:
    """The largest error of all cases of a dtype, by layer and quantity."""
    worst: dict[str, dict[str, float]] = {}
    for row in (row for row in rows if row["dtype"] == dtype):
        mine = worst.setdefault(row["layer"], {})
        mine[row["quantity"]] = max(mine.get(row["quantity"], 0.0), row["error"])
    return worst


def draw(rows: list[Row], file: Path) -> None:
    """Every float64 error, one column per quantity, on a log axis below the bar."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for side, (backend, colour) in enumerate(zip(BACKENDS, ("tab:blue", "tab:orange"), strict=True)):
        mine = [r for r in rows if r["dtype"] == "float64" and r["layer"] == f"GRU {backend}"]
        places = [QUANTITIES.index(r["quantity"]) + 0.3 * side - 0.15 for r in mine]
        # an exact match has no place on a log axis: it is drawn at the axis' lower end
        heights = [max(r["error"], 2e-17) for r in mine]
        axes.scatter(places, heights, s=14, alpha=0.5, color=colour, label=f"backend {backend}")
    axes.axhline(BAR, color="tab:red", label=f"bar {BAR:.0e}")
    axes.axhline(torch.finfo(torch.float64).eps, color="grey", ls=":", label="float64 epsilon")
    title = "gatelab.GRU against nn.GRU, float64"
    axes.set(yscale="log", ylim=(1e-17, 1e-11), ylabel="relative error", title=title)
    axes.set_xticks(range(len(QUANTITIES)), QUANTITIES, rotation=20)
    axes.legend(ncols=2, fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.82))
    figure.savefig(file, dpi=110, metadata={"Software": None})


def main() -> int:
    p = parser(__doc__)
    p.add_argument("--check", action="store_true", help="write nothing, and measure one depth only")
    check = p.parse_args().check
    torch.set_num_threads(1)
    rows = float64_rows([1] if check else [1, 2, 3]) + float32_rows()
    double, single = worst_of(rows, "float64"), worst_of(rows, "float32")
    for table in (double, single):
        print("\n".join([f"| layer | {' | '.join(QUANTITIES)} |", "|---" * (1 + len(QUANTITIES)) + "|"]))
        for layer, worst in table.items():
            print(f"| {layer} | {' | '.join(f'{error:.1e}' for error in worst.values())} |")
        print()
    if not check:
        with (FOLDER / "results.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "error": f"{row['error']:.1e}"} for row in rows)
        draw(rows, FOLDER / "parity.png")
    peer = single["nn.GRU"]
    claims = {
        f"float64: every error is at most {BAR:.0e}": max(e for w in double.values() for e in w.values())
        <= BAR
    }
    claims["float32: at most twice nn.GRU's own error, plus 1e-6"] = all(
        error <= 2 * peer[kind] + 1e-6 for worst in single.values() for kind, error in worst.items()
    )
    for claim, holds in claims.items():
        print(f"{'ok    ' if holds else 'FAILED'} {claim}")
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
