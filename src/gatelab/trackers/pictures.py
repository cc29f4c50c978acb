"""Pictures of runs: learning curves beside the trivial baselines, and forecasts beside the truth.

`draw_run` and `draw_sample` make those for Weights & Biases, in `<run directory>/wandb`, once after training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gatelab.run.record.directory import RunDirectory, read_metrics
from gatelab.tasks.contract import SeriesSample, as_text, metric_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, VALID, TRUTH = "#9aa5b1", "#1f6fb2", "#333333"


def draw_run(run: RunDirectory) -> list[Path]:
    """The learning curves beside the baselines; nothing of a run that has no scores."""
    result = run.result()
    if result is None or not result.get("splits"):
        return []
    metric = str(result["monitor"]).rpartition("/")[2]
    figure = new_figure()
    axes = figure.subplots()
    rows = read_metrics(run.metrics_file)
    for name, colour, marker in (("train/loss", TRAIN, ""), (f"val/{metric}", VALID, "o")):
        known = [row for row in rows if row.get(name)]
        steps, values = [int(row["step"]) for row in known], [float(row[name]) for row in known]
        axes.plot(steps, values, color=colour, marker=marker, label=name)
    baselines = result["splits"].get("valid", {}).get("baselines", {})
    for index, (name, scores) in enumerate(baselines.items()):
        if metric in scores:
            axes.axhline(scores[metric], color=f"C{index + 1}", ls="--", label=name.replace("_", " "))
    axes.set(xlabel="optimiser step", ylabel=metric_of(run.read(), metric).label)
    axes.legend(frameon=False, fontsize=8)
    return [_saved(figure, run, "curves")]


def draw_sample(run: RunDirectory) -> list[Path]:
    """What the task shows of the best checkpoint: a picture, a text or a table; nothing where it shows nothing."""
    from gatelab.run.load import load_task

    if run.result() is None or not run.best.is_file():
        return []
    loaded = load_task(run.path, trust=True)
    sample = loaded.task.sample(loaded)
    if isinstance(sample, SeriesSample):
        figure = new_figure()
        draw_series(figure.subplots(), sample)
        return [_saved(figure, run, "sample")]
    if sample is None:
        return []
    path = _folder(run) / "sample.txt"
    path.write_text(as_text(sample), "utf-8")
    return [path]


def draw_series(axes: Axes, sample: SeriesSample) -> None:
    """Forecasts beside the truth."""
    for number, window in enumerate(sample.windows):
        steps = range(window.start - len(window.past), window.start + len(window.future))
        after = range(window.start, window.start + len(window.future))
        truth, forecast = (None, None) if number else ("truth", "forecast")
        axes.plot(steps, [*window.past, *window.future], color=TRUTH, lw=1.2, label=truth)
        axes.plot(after, window.forecast, color=VALID, lw=1.8, label=forecast)
        axes.axvline(window.start - 0.5, color=TRAIN, lw=1)
    axes.set(xlabel=sample.steps, ylabel=sample.label)
    axes.legend(frameon=False, fontsize=8)


def new_figure(width: float = 4.6, height: float = 3.6) -> Figure:
    """An empty figure, drawn without a display; its size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _saved(figure: Figure, run: RunDirectory, name: str) -> Path:
    path = _folder(run) / f"{name}.png"
    figure.savefig(path, dpi=120)
    return path


def _folder(run: RunDirectory) -> Path:
    folder = run.path / "wandb"
    folder.mkdir(exist_ok=True)
    return folder
