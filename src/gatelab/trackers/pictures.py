"""Pictures of a finished run for Weights & Biases: learning curves, and the sample that its task shows.

Files in `<run directory>/wandb`, made once after training by what reports and `gatelab generate` use too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gatelab.run.record.directory import RunDirectory
from gatelab.tasks.contract import SeriesSample, as_text


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
    """What the task shows of the best checkpoint: a picture, a text or a table; nothing where it shows nothing."""
    from gatelab.run.load import load_task
    from gatelab.run.plots import draw_series, new_figure

    if run.result() is None or not run.best.is_file():
        return []
    loaded = load_task(run.path, trust=True)
    sample = loaded.task.sample(loaded)
    if isinstance(sample, SeriesSample):
        figure, (axes,) = new_figure(1)
        draw_series(axes, sample)
        return [_saved(figure, run, "sample")]
    if sample is None:
        return []
    path = _folder(run) / "sample.txt"
    path.write_text(as_text(sample), "utf-8")
    return [path]


def _saved(figure: Any, run: RunDirectory, name: str) -> Path:
    path = _folder(run) / f"{name}.png"
    figure.savefig(path, dpi=120)
    return path


def _folder(run: RunDirectory) -> Path:
    folder = run.path / "wandb"
    folder.mkdir(exist_ok=True)
    return folder
