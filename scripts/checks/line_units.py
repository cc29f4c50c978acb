"""Find the unit of a language model that counts the place in the line; take it out on text that did not choose it.

The validation split is cut into parts. In the first one the unit is chosen of which the position in the line tells most
beyond the symbol just read. In the others it is held at its mean, and so are others of its layer, drawn at random: the
rise of the loss, over all tokens and at the ends of lines, is compared with theirs.

examples:
  python -m scripts.checks.line_units runs/tinyshakespeare_gru/60b17430-s0 runs/tinyshakespeare_gru/60b17430-s1
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gatelab.core.ablation import ablated
from gatelab.core.gates import layer_runs
from gatelab.run.load import load_task
from gatelab.tasks.explanation.measure import explain
from gatelab.tasks.explanation.reading import Reading, listening
from scripts.harness import parser

PROBE = "position in line"
TITLES = "run | part | unit | R² | beyond | loss | rise | line ends | their loss | rise | others | most"


def read(run: Any, part: int, parts: int, folder: Path) -> Reading:
    """The reading of one part of the validation split, which goes through a text file."""
    ids = run.data.tokens["valid"]
    size = len(ids) // parts
    text = run.data.tokenizer.decode(ids[part * size : (part + 1) * size].long())
    file = folder / f"{part}.txt"
    file.write_text(text)
    reading: Reading = run.task.reading(run, file)
    return reading


def rise(reading: Reading, before: Tensor, unit: str, value: float) -> Tensor:
    """How much each loss rises when the unit is held at `value`."""
    layer, _, number = unit.removeprefix("layer").partition(":")
    with ablated(reading.parts[0].core, int(layer), int(number), value):
        return (reading.losses() - before).double()


def mean_and_error(values: Tensor) -> str:
    """`+0.0058 ± 0.0014`, the positions taken as independent."""
    return f"{float(values.mean()):+.4f} ± {float(values.std()) / math.sqrt(len(values)):.4f}"


@torch.no_grad()
def rows(path: str, parts: int, others: int, folder: Path) -> list[list[str]]:
    """A row for each part; the first one chooses the unit."""
    run, found, unit = load_task(path), [], ""
    for part in range(parts):
        reading = read(run, part, parts, folder)
        asked = [unit] if unit else []
        facts = explain(reading, units=asked, probes=[PROBE], ablations=1, units_only=True)["units"][0]
        unit = facts["unit"]
        before = reading.losses()
        ends = torch.tensor([target == "\n" for target in reading.targets])
        own = rise(reading, before, unit, facts["mean"])
        layer, _, number = unit.partition(":")
        units = unit_means(reading, layer, int(number), others, part)
        control = [float(rise(reading, before, name, value).mean()) for name, value in units.items()]
        name = "/".join(run.run.path.parts[-2:])
        found.append(
            [
                name, f"{part + 1}{' (chosen)' * (part == 0)}", unit, f"{facts['told']:.2f}", f"{facts['beyond']:.2f}",
                f"{float(before.mean()):.3f}", mean_and_error(own), str(int(ends.sum())),
                f"{float(before[ends].mean()):.3f}", mean_and_error(own[ends]),
                f"{sum(control) / len(control):+.4f}", f"{max(control):+.4f}",
            ]
        )  # fmt: skip
        print("| " + " | ".join(found[-1]) + " |", flush=True)
    return found


def unit_means(reading: Reading, layer: str, but: int, count: int, seed: int) -> dict[str, float]:
    """Units of a layer at random, with their means over the sample."""
    core = reading.parts[0].core
    with listening(core) as calls:
        reading.losses()
    (run,) = [one for one in layer_runs(core, calls[0].x, calls[0].state) if one.layer == layer]
    means = run.after.flatten(0, 1).mean(0)
    drawn = torch.randperm(len(means), generator=torch.Generator().manual_seed(seed)).tolist()
    return {f"{layer}:{n}": float(means[n]) for n in [n for n in drawn if n != but][:count]}


def write_record(found: list[list[str]], folder: Path) -> None:
    """results.csv and figure.png of the table: the rise at the ends of lines, on parts that did not choose the unit."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    head = ["run", "part", "unit", "r2", "beyond", "loss", "rise", "rise_error", "line_ends", "line_end_loss"]
    head += ["line_end_rise", "line_end_rise_error", "mean_rise_of_others", "largest_rise_of_others"]
    lines = [",".join(head)]
    lines += [",".join(cell.replace(" ± ", ",").replace("+", "") for cell in row) for row in found]
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    runs = list(dict.fromkeys(row[0] for row in found))
    figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
    for row in (row for row in found if "chosen" not in row[1]):
        value, _, error = row[9].split()
        place = runs.index(row[0]) + (int(row[1]) - 3) * 0.12
        axes.errorbar(place, float(value), 2 * float(error), fmt="o", color="#4e79a7", ms=4)
    axes.axhline(0, color="#999", lw=0.8)
    axes.set_xticks(range(len(runs)), [run.replace("/", "\n") for run in runs], fontsize=7)
    axes.set_ylabel("nats more at a line's\nend without the unit")
    figure.savefig(folder / "figure.png", dpi=160)
    plt.close(figure)


def main() -> int:
    """Print the table; 1 if a unit costs no more at the ends of lines than twice its standard error."""
    options = parser(__doc__)
    options.add_argument("runs", nargs="+", metavar="RUN_DIR", help="runs of language models")
    options.add_argument("--parts", type=int, default=4, help="of the validation split (%(default)s)")
    options.add_argument("--others", type=int, default=10, help="units to compare with (%(default)s)")
    options.add_argument("--record", type=Path, metavar="DIR", help="write results.csv and figure.png there")
    given = options.parse_args()
    print(f"| {TITLES} |\n|" + "---|" * len(TITLES.split("|")))
    found: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for path in given.runs:
            found += rows(path, given.parts, given.others, Path(folder))
    if given.record:
        write_record(found, given.record)
    confirmed = [row for row in found if "chosen" not in row[1]]
    clear = [row for row in confirmed if float(row[9].split()[0]) > 2 * float(row[9].split()[2])]
    print(f"\n{len(clear)} of {len(confirmed)} parts that chose no unit confirm it at the ends of lines")
    return 0 if len(clear) == len(confirmed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
