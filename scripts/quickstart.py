"""The studies of `make run`: two small ones on data that every machine has, and their results.

Which hidden size, and does the from-scratch GRU do what nn.GRU does? Three sizes, three seeds each, as a language model
on the source text of Python's standard library and as a forecaster of a series that is made from a seed. Ends with
the leaderboards, the test scores of the best configurations beside the trivial baselines, a sample of generated text
and a picture. Asked for again, it reports what is there; stopped half-way, it continues.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import time
from pathlib import Path
from typing import Any

from scripts.harness import parser, show

STUDIES = {"language model": "quickstart", "forecaster": "quickstart_series"}
OBJECTIVES = {"language model": "val/bpc", "forecaster": "val/mse"}
SIZES = {"language model": "32,64,128", "forecaster": "16,32,64"}
PROMPT = "def "


def main() -> int:
    p = parser(__doc__)
    text = "for both studies, e.g. trainer.max_steps=50"
    p.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=text)
    p.add_argument("--force", action="store_true", help="begin anew; earlier studies and runs are kept")
    options = p.parse_args()
    started = time.perf_counter()

    from gatelab.run import Interrupted, RequestError, RunFailed

    try:
        directories = {name: study(name, options) for name in STUDIES}
        results = {name: best(directory) for name, directory in directories.items()}
        report(directories, results)
    except (RequestError, RunFailed, Interrupted) as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{time.perf_counter() - started:.0f} s in all")
    return 0


def study(name: str, options: argparse.Namespace) -> Path:
    """Run a study, or what is missing of it; its folder."""
    from gatelab.report.files import write_report
    from gatelab.report.text import following
    from gatelab.study.sweep import sweep

    experiment = STUDIES[name]
    asked = [f"experiment={experiment}", "search=quickstart", f"model.hidden_size={SIZES[name]}"]
    asked += [f"study={experiment}", f"study.objectives={OBJECTIVES[name]}", *options.overrides]
    print(f"-- {name}: gatelab sweep {' '.join(asked)}", file=sys.stderr)
    report = functools.partial(write_report, trust=True)
    return Path(sweep(asked, force=options.force, watch=following, report=report)["directory"])


def best(directory: Path) -> dict[str, Any]:
    """The finished run of a study's best configuration with its first seed, now scored on the test split, too."""
    from gatelab.run.train import train

    return train(["experiment=best", f"paths.root={directory.parents[1]}"], config_dirs=[directory])


def report(directories: dict[str, Path], results: dict[str, dict[str, Any]]) -> None:
    """Print the leaderboards, the scores and the sample; draw the picture."""
    from gatelab.cli.common import print_table
    from gatelab.report.text import cost
    from gatelab.run.scoring.evaluate import generate
    from gatelab.study.analysis.leaderboard import answer, leaderboard, table, verdict
    from gatelab.study.analysis.read import read_study

    states = {name: read_study(directory) for name, directory in directories.items()}
    for state in states.values():
        rows = leaderboard(state)
        print_table(table(state, rows))
        print(f"{answer(state, rows)} {verdict(state, rows)}\n{cost(state)}\n")
    show("test split, the best configuration's run of seed 0", scores(results))
    text = generate(results["language model"]["run_dir"], PROMPT, tokens=400, temperature=0.6)
    print(f"\ngenerated text (temperature 0.6):\n{text}\n")
    print(f"picture: {draw(states, results)}")
    for name, directory in directories.items():
        print(f"{name}: {directory}, best run {results[name]['run_dir']}")


def scores(results: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """One row a model or baseline, scored on the test split."""
    from gatelab.cli.common import number

    rows = []
    metrics = (("bpc", "bits per character", "tokens"), ("mse", "MSE, standardised", "windows"))
    for (name, result), (metric, label, unit) in zip(results.items(), metrics, strict=True):
        split = result["splits"]["test"]
        about = {"parameters": number(result["parameters"]), "seconds": f"{result['seconds']['fit']:.1f}"}
        for row, figures in {name: split["metrics"], **split["baselines"]}.items():
            line = {"model": row.replace("_", " "), "metric": label, "value": f"{figures[metric]:.3f}"}
            line["scored"] = f"{number(figures[unit])} {unit}"
            rows.append(line | (about if row == name else dict.fromkeys(about, "")))
    return rows


def draw(states: dict[str, Any], results: dict[str, dict[str, Any]]) -> Path:
    """The metric over hidden size of both studies, and one forecast against the truth; the picture's path."""
    from matplotlib.figure import Figure

    from gatelab.report import picture
    from gatelab.run.load import load_data, load_task

    figure = Figure((19.0, 4.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, (name, state) in zip(axes, states.items(), strict=False):
        picture.draw(axis, dataclasses.replace(state, name=name), x="model.hidden_size", by="model")
    loaded = load_task(results["forecaster"]["run_dir"])
    data = load_data(loaded.record)
    target = len(data.spec.targets) // 2
    window = data.spec.windows["test"] // 2
    shown = loaded.task.window(data, "test", window, target)
    known = [*shown.past, *shown.future]
    axes[2].plot(range(-len(shown.past), len(shown.future)), known, color="#333333", label="truth")
    axes[2].plot(shown.forecast, color="#1f6fb2", lw=1.8, label="forecast")
    axes[2].axvline(-0.5, color="#9aa5b1")
    label = f"{data.spec.targets[target]} (original units)"
    axes[2].set(xlabel="steps from the forecast's start", ylabel=label)
    axes[2].legend(frameon=False, fontsize=8)
    picture.finish(axes[2], "forecast", f"test window {window}, by the best forecaster")
    path = states["language model"].root / "quickstart.png"
    figure.savefig(path, dpi=120)
    return path


if __name__ == "__main__":
    sys.exit(main())
