"""What pruning and rounding cost a run: the size of its export and its metric, for shares of pruned weights.

The metric is that of the validation split, by which the run's best epoch was chosen too. Nothing is trained.

example:
  python -m scripts.checks.compression runs/tinyshakespeare_small/90001ef2-s0
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

from gatelab.run.export import export
from scripts.harness import parser

SHARES = (None, 0.3, 0.5, 0.7, 0.9)
HEAD = ("format", "pruned", "int8", "bytes", "of", "metric", "run", "exported", "difference")


def rows(run: Path, folder: Path) -> list[dict[str, Any]]:
    """A row for each export of the run."""
    ways = [("safetensors", share, int8) for int8 in (False, True) for share in SHARES if share or int8]
    found = []
    for kind, share, int8 in [*ways, *(("onnx", share, True) for share in SHARES)]:
        done = export(run, kind, folder / "model", prune=share, int8=int8, force=True)
        cost = done.cost["valid"][done.monitor]
        sizes = {"bytes": done.bytes, "of": done.bytes_before}
        found.append(
            {"format": kind, "pruned": share or 0, "int8": int8, **sizes, "metric": done.monitor, **cost}
        )
        (folder / "model").unlink()
        print(line(found[-1]), flush=True)
    return found


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    share, times = row["of"] / row["bytes"], f"{row['pruned']:.0%}"
    return (
        f"| {row['format']} | {times} | {'int8' if row['int8'] else 'float32'} | {row['bytes']:,} | {share:.1f} | "
        f"{row['exported']:.4f} | {row['difference']:+.4f} |"
    )


def write_record(found: list[dict[str, Any]], folder: Path) -> None:
    """compression.csv and compression.png: the metric over the size of the file."""
    import matplotlib.pyplot as plt

    with (folder / "compression.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, HEAD, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    whole = next(row for row in found if row["format"] == "safetensors")
    axes.plot(whole["of"] / 1e3, whole["run"], "k*", ms=10, label="the run")
    for int8, name, colour in ((False, "float32", "#4e79a7"), (True, "int8", "#f28e2b")):
        own = [row for row in found if row["format"] == "safetensors" and row["int8"] == int8]
        x, y = [row["bytes"] / 1e3 for row in own], [row["exported"] for row in own]
        axes.plot(x, y, "o-", color=colour, label=name)
        for place, value, row in zip(x, y, own, strict=True):
            axes.annotate(
                f"{row['pruned']:.0%}", (place, value), (3, 4), textcoords="offset points", fontsize=7
            )
    axes.set_xlabel("kilobytes of the .safetensors file")
    axes.set_ylabel(f"{whole['metric']} on validation")
    axes.legend()
    figure.savefig(folder / "compression.png", dpi=130)
    plt.close(figure)


def main() -> int:
    """Print the table."""
    options = parser(__doc__)
    options.add_argument("run", type=Path, metavar="RUN_DIR")
    options.add_argument("--record", type=Path, metavar="DIR", help="write compression.csv and .png there")
    given = options.parse_args()
    print("| format | pruned | values | bytes | times smaller | metric | difference |\n|" + "---|" * 7)
    with tempfile.TemporaryDirectory() as folder:
        found = rows(given.run, Path(folder))
    if given.record:
        write_record(found, given.record)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
