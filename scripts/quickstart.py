"""What `make run` does: train a language model and a forecaster on data that every machine has, and show them.

The corpus is the source text of Python's standard library, the series is made from a seed. Ends with a table of
test scores beside the trivial baselines, a sample of generated text, and a picture.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

EXPERIMENTS = {"language model": "quickstart", "forecaster": "quickstart_series"}
PROMPT = "def "


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="for both runs, e.g. trainer.max_steps=50"
    )
    parser.add_argument("--force", action="store_true", help="train again what is already trained")
    options = parser.parse_args()
    started = time.perf_counter()

    from gatelab.cli.common import print_table
    from gatelab.lab.errors import Interrupted, RequestError, RunFailed
    from gatelab.lab.train import train

    results = {}
    for name, experiment in EXPERIMENTS.items():
        print(f"-- {name}: gatelab train experiment={experiment}", file=sys.stderr)
        try:
            results[name] = train([f"experiment={experiment}", *options.overrides], force=options.force)
        except (RequestError, RunFailed, Interrupted) as error:
            print(error, file=sys.stderr)
            return error.exit_code
    from gatelab.lab.generate import generate

    text = generate(results["language model"]["run_dir"], PROMPT, tokens=400, temperature=0.6)
    picture = draw(results)
    print_table(scores(results))
    print(f"\ngenerated text (temperature 0.6):\n{text}\n")
    print(f"picture: {picture}")
    print(f"runs:    {', '.join(r['run_dir'] for r in results.values())}")
    print(f"{time.perf_counter() - started:.0f} s in all")
    return 0


def scores(results: dict[str, dict[str, Any]]) -> Any:
    """One row a model or baseline, scored on the test split."""
    from rich.table import Table

    from gatelab.cli.common import number

    table = Table(title="test split", title_justify="left")
    for column in ("model", "metric", "value", "scored", "parameters", "seconds"):
        table.add_column(column, justify="left" if column in ("model", "metric") else "right")
    for (name, result), metric, unit in zip(
        results.items(), ("bpc", "mse"), ("tokens", "windows"), strict=True
    ):
        report = result["splits"]["test"]
        size, seconds = number(result["parameters"]), f"{result['seconds']['fit']:.1f}"
        rows = {f"GRU {name}": report["metrics"], **report["baselines"]}
        label = {"bpc": "bits per character", "mse": "MSE, standardised"}[metric]
        for index, (row, figures) in enumerate(rows.items()):
            mine = (size, seconds) if index == 0 else ("", "")
            scored = f"{number(figures[unit])} {unit}"
            table.add_row(row.replace("_", " "), label, f"{figures[metric]:.3f}", scored, *mine)
        table.add_section()
    return table


def draw(results: dict[str, dict[str, Any]]) -> Path:
    """Learning curves of both runs and one forecast against the truth; the picture's path."""
    from gatelab.lab import plots
    from gatelab.lab.load import load_data, load_task
    from gatelab.lab.record import RunDirectory

    figure, axes = plots.new_figure(3)
    text, series = (RunDirectory(result["run_dir"]) for result in results.values())
    baselines = [result["splits"]["valid"]["baselines"] for result in results.values()]
    plots.draw_curves(axes[0], text, "bpc", baselines[0], scale=1 / math.log(2))
    axes[0].set_title("language model: Python's standard library")
    plots.draw_curves(axes[1], series, "mse", baselines[1])
    axes[1].set_title("forecaster: embedded hourly series")
    loaded = load_task(series.path)
    data = load_data(loaded.record)
    target = len(data.spec.targets) // 2
    window = data.spec.windows["test"] // 2
    plots.draw_forecast(
        axes[2], *plots.window_forecast(loaded.task, data, window, target), data.spec.targets[target]
    )
    axes[2].set_title(f"forecast of test window {window}")
    path = Path(series.path).parents[1] / "quickstart.png"
    figure.savefig(path, dpi=120)
    return path


if __name__ == "__main__":
    sys.exit(main())
