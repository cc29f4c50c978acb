"""Write or check the record experiments/001-from-scratch-equals-nn-gru: parity with torch.nn.GRU, figure, README.

It gives gatelab's GRU and torch.nn.GRU the same weights and compares outputs, final state and every gradient; the
error of a quantity is max|a - b| / max|b|. It exits with 1 when a bar is missed. It is not the test
(tests/core/test_parity.py holds the same bars on every run), and it times nothing: scripts/bench/layer.py writes the
speed.csv that the page shows.

examples:
  python -m scripts.checks.parity                      # measure again, write results.csv, parity.png and README.md
  python -m scripts.checks.parity --check              # write nothing: do the record's claims still hold here?
  python -m scripts.checks.parity --check --layers 1   # the same on a third of the cases
"""

import argparse
import csv
import platform
import sys
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from tqdm import tqdm

import gatelab
from gatelab.core.backends import torch_gru
from gatelab.core.gru import GRU

mpl.use("Agg")
from matplotlib.figure import Figure

Row = dict[str, Any]
FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "001-from-scratch-equals-nn-gru"
BAR = 1e-12
PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
QUANTITIES = ("output", "h_n", "dx", "dh0", *(f"d{name}" for name in PARAMETERS))
BACKENDS: tuple[Any, ...] = ("reference", "torch")


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
    names, parameters = zip(*layer.named_parameters(), strict=True)
    dx, dh0, *rest = torch.autograd.grad((y, h), (x, h0, *parameters), (dy, dh))
    found = {"output": [y], "h_n": [h], "dx": [dx], "dh0": [dh0]}
    for kind in PARAMETERS:
        found[f"d{kind}"] = [g for n, g in zip(names, rest, strict=True) if n.startswith(kind)]
    return found


def rows_of(case: Row, got: dict[str, list[Tensor]], want: dict[str, list[Tensor]]) -> list[Row]:
    """One row per quantity: its largest deviation relative to its largest value, the worst of its tensors."""
    rows = []
    for name in QUANTITIES:
        pairs = zip(got[name], want[name], strict=True)
        error = max(((a.double() - b.double()).abs().max() / b.abs().max()).item() for a, b in pairs)
        rows.append(case | {"quantity": name, "error": error})
    return rows


def float64_rows(depths: list[int]) -> list[Row]:
    """Every combination of layers, directions, layout and lengths, both backends."""
    rows: list[Row] = []
    for layers, both, first, ragged in tqdm(
        list(product(depths, *[(False, True)] * 3)), desc="float64", file=sys.stderr
    ):
        torch.manual_seed(0)
        options: Row = {"num_layers": layers, "bidirectional": both, "batch_first": first}
        theirs = nn.GRU(16, 32, **options, dtype=torch.float64)
        x = torch.randn((8, 20, 16) if first else (20, 8, 16), dtype=torch.float64)
        h0 = torch.randn(layers * (1 + both), 8, 32, dtype=torch.float64)
        lengths = torch.tensor([3, 20, 1, 5, 17, 20, 2, 9]) if ragged else None
        want = run(theirs, x, h0, lengths)
        for backend in BACKENDS:
            ours = GRU(16, 32, **options, dtype=torch.float64, backend=backend)
            ours.load_state_dict(theirs.state_dict())
            case: Row = {"dtype": "float64", "layer": f"GRU {backend}", "layers": layers}
            case |= {"directions": 1 + both, "batch_first": first, "lengths": "ragged" if ragged else "whole"}
            rows += rows_of(case, run(ours, x, h0, lengths), want)
    return rows


def float32_rows() -> list[Row]:
    """float32, against the float64 result: ours and nn.GRU's own error."""
    torch.manual_seed(0)
    exact = nn.GRU(64, 128, 2, dtype=torch.float64)
    x, h0 = torch.randn(100, 16, 64), torch.randn(2, 16, 128)
    single = {name: value.float() for name, value in exact.state_dict().items()}
    exact.load_state_dict(single)
    want = run(exact, x.double(), h0.double(), None)
    layers: dict[str, nn.Module] = {"nn.GRU": nn.GRU(64, 128, 2)}
    layers |= {f"GRU {backend}": GRU(64, 128, 2, backend=backend) for backend in BACKENDS}
    rows = []
    for name, layer in tqdm(layers.items(), desc="float32", file=sys.stderr):
        layer.load_state_dict(single)
        case: Row = {"dtype": "float32", "layer": name, "layers": 2, "directions": 1}
        case |= {"batch_first": False, "lengths": "whole"}
        rows += rows_of(case, run(layer, x, h0, None), want)
    return rows


def worst_rows(rows: list[Row]) -> list[Row]:
    """For each dtype, layer and quantity the largest error of all cases, as rows whose case is 'worst'."""
    largest: dict[tuple[str, ...], float] = {}
    for row in rows:
        key = (row["dtype"], row["layer"], row["quantity"])
        largest[key] = max(largest.get(key, 0.0), float(row["error"]))
    case = dict.fromkeys(("layers", "directions", "batch_first", "lengths"), "worst")
    return [{"dtype": d, "layer": l_, **case, "quantity": q, "error": e} for (d, l_, q), e in largest.items()]


def gradchecks() -> dict[str, bool]:
    """Finite differences against the written gradient, first and second derivatives, both variants."""
    done = {}
    for after in (True, False):
        torch.manual_seed(0)
        shapes = [(4, 3, 2), (3, 2), (6, 2), (6, 2), (6,), *([(6,)] if after else [])]
        tensors = [torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes]

        def call(*given: Tensor, after: bool = after) -> Any:
            full: tuple[Any, ...] = given if after else (*given, None)
            return torch_gru.run(*full, reset_after=after, lengths=None, reset_mask=None)

        first = torch.autograd.gradcheck(call, tensors, raise_exception=False)
        second = torch.autograd.gradgradcheck(call, tensors, raise_exception=False)
        done[f"reset_after={after}"] = first and second
    return done


def claims(worst: list[Row]) -> dict[str, bool]:
    """The record's claims about errors, in words, and whether these rows hold them."""
    error = {(row["dtype"], row["layer"], row["quantity"]): float(row["error"]) for row in worst}
    float64 = [e for (dtype, *_), e in error.items() if dtype == "float64"]
    peers = {key: error["float32", "nn.GRU", key[2]] for key in error if key[0] == "float32"}
    return {
        f"float64: the worst error is at most {BAR:.0e} (it is {max(float64):.1e})": max(float64) <= BAR,
        "float32: at most twice nn.GRU's own error, plus 1e-6": all(
            error[key] <= 2 * peer + 1e-6 for key, peer in peers.items()
        ),
    }


def draw(rows: list[Row], file: Path) -> None:
    """Every float64 error, one column per quantity, on a log axis below the bar."""
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
    axes.set(
        yscale="log",
        ylim=(1e-17, 1e-11),
        ylabel="relative error",
        title="gatelab.GRU against nn.GRU, float64",
    )
    axes.set_xticks(range(len(QUANTITIES)), QUANTITIES, rotation=20)
    axes.legend(ncols=2, fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.82))
    figure.savefig(file, dpi=110, metadata={"Software": None})


def read(file: Path) -> list[Row]:
    """The rows of a CSV file of the record, as text."""
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def write(file: Path, rows: list[Row]) -> None:
    """Write rows as a CSV file of the record, errors with two digits."""
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.1e}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return "\n".join(lines + ["| " + " | ".join(map(str, row.values())) + " |" for row in rows])


def worst_table(recorded: list[Row], dtype: str) -> str:
    """The worst errors of one dtype as the record has them: a line per layer, a column per quantity."""
    lines: dict[str, Row] = {}
    for row in recorded:
        if row["dtype"] == dtype and row["lengths"] == "worst":
            lines.setdefault(row["layer"], {"layer": row["layer"]})[row["quantity"]] = row["error"]
    return table(list(lines.values()))


def check(folder: Path, measured: dict[str, bool]) -> dict[str, bool]:
    """What was measured now, and whether the committed files agree with themselves and with the bars."""
    recorded, page = read(folder / "results.csv"), (folder / "README.md").read_text()
    cases = [row for row in recorded if row["lengths"] != "worst"]
    stated = [row for row in recorded if row["lengths"] == "worst"]
    same = [row | {"error": f"{row['error']:.1e}"} for row in worst_rows(cases)] == stated
    tables = [worst_table(recorded, "float64"), worst_table(recorded, "float32")]
    tables.append(table(read(folder / "speed.csv")))
    return (
        {f"now: {claim}": held for claim, held in measured.items()}
        | {f"results.csv: {claim}": held for claim, held in claims(stated).items()}
        | {"results.csv: its worst rows are the worst of its cases": same}
        | {"README.md: its tables are those of the CSV files": all(t in page for t in tables)}
    )


def write_record(folder: Path, rows: list[Row], checks: dict[str, bool], good: bool) -> None:
    """Write results.csv, parity.png and README.md; the speed is read from speed.csv."""
    write(folder / "results.csv", rows + worst_rows(rows))
    draw(rows, folder / "parity.png")
    recorded = read(folder / "results.csv")
    text = (folder / "README.template.md").read_text()
    for key, value in {
        "cases": str(len({tuple(r.values())[:-2] for r in rows if r["dtype"] == "float64"})),
        "parity": worst_table(recorded, "float64"),
        "float32": worst_table(recorded, "float32"),
        "gradcheck": ", ".join(f"{k}: {'passes' if v else 'FAILS'}" for k, v in checks.items()),
        "speed": table(read(folder / "speed.csv")),
        "verdict": "Every bar is held." if good else "A BAR IS MISSED.",
        "versions": f"gatelab {gatelab.__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} thread",
    }.items():
        text = text.replace("{{" + key + "}}", value)
    (folder / "README.md").write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit with 1 unless all claims hold, here and in the record",
    )
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="L",
        choices=(1, 2, 3),
        help="depths to check (default: 1 2 3)",
    )
    parser.add_argument(
        "--record",
        type=Path,
        default=FOLDER,
        metavar="DIR",
        help="folder of the record (default: the repository's)",
    )
    given = parser.parse_args()
    if not given.check and given.layers:
        parser.error("--layers needs --check: a record has all depths")
    torch.set_num_threads(1)
    rows = float64_rows(given.layers or [1, 2, 3]) + float32_rows()
    checks = gradchecks()
    held = claims(worst_rows(rows)) | {f"gradcheck, gradgradcheck: {k}": v for k, v in checks.items()}
    if given.check:
        held = check(given.record, held)
    else:
        write_record(given.record, rows, checks, all(held.values()))
    for claim, holds in held.items():
        print(f"{'ok    ' if holds else 'FAILED'} {claim}")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
