"""What a finished run shows of itself at Weights & Biases: learning curves, and a forecast or a text that it writes.

Files in `<run directory>/wandb`, made once after training by what reports and `gatelab generate` use too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gatelab.run.record.directory import RunDirectory

TOKENS = 200
"""Of a text: about a second with a vocabulary of 10,000 words, less with characters."""


def draw_run(run: RunDirectory) -> list[Path]:
    """The learning curves beside the baselines; nothing of a run that has no scores."""
    from gatelab.run.plots import draw_curves, new_figure

    result = run.result()
    if result is None or not result.get("splits"):
        return []
    metric = str(result["monitor"]).rpartition("/")[2]
    figure, (axes,) = new_figure(1)
    valid = result["splits"].get("valid", {})
    draw_curves(axes, run, metric, valid.get("baselines", {}))
    return [_saved(figure, run, "curves")]


def draw_sample(run: RunDirectory) -> list[Path]:
    """The first window of the validation split with its forecast, or a text; nothing for other tasks."""
    from gatelab.data import SeriesSpec
    from gatelab.run.generate import generate
    from gatelab.run.load import load_data, load_task
    from gatelab.run.plots import draw_forecast, new_figure, window_forecast

    if run.result() is None or not run.best.is_file():
        return []
    if run.tokenizer_file.is_file():
        path = _folder(run) / "sample.txt"
        path.write_text(generate(run.path, "", tokens=TOKENS, trust=True), "utf-8")
        return [path]
    loaded = load_task(run.path, trust=True)
    spec = loaded.task.spec
    if not isinstance(spec, SeriesSpec) or spec.horizon < 2:
        return []
    figure, (axes,) = new_figure(1)
    past, future, forecast = window_forecast(loaded.task, load_data(loaded.record), 0, 0, "valid")
    draw_forecast(axes, past, future, forecast, spec.targets[0])
    return [_saved(figure, run, "forecast")]


def _saved(figure: Any, run: RunDirectory, name: str) -> Path:
    path = _folder(run) / f"{name}.png"
    figure.savefig(path, dpi=120)
    return path


def _folder(run: RunDirectory) -> Path:
    folder = run.path / "wandb"
    folder.mkdir(exist_ok=True)
    return folder
