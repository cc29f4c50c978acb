"""Pictures of runs: learning curves beside the trivial baselines, and forecasts beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.metrics import read_metrics
from gatelab.tasks.contract import SeriesSample, metric_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, VALID, TRUTH = "#9aa5b1", "#1f6fb2", "#333333"


def curve(path: str | Path, metric: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric of a `metrics.csv`."""
    rows = [row for row in read_metrics(path) if row.get(metric)]
    return [int(row["step"]) for row in rows], [float(row[metric]) for row in rows]


def draw_curves(
    axes: Axes,
    run: RunDirectory,
    metric: str,
    baselines: Mapping[str, Mapping[str, float]],
    scale: float = 1.0,
) -> None:
    """Training loss and validation metric over steps, with the baselines as dashed lines.

    Args:
        metric: without its prefix, e.g. "bpc".
        baselines: name -> metrics on the validation split.
        scale: what the training loss is multiplied by to be in the metric's unit.
    """
    steps, losses = curve(run.metrics_file, "train/loss")
    axes.plot(steps, [loss * scale for loss in losses], color=TRAIN, lw=1, label="training")
    steps, values = curve(run.metrics_file, f"val/{metric}")
    axes.plot(steps, values, color=VALID, marker="o", ms=4, label="validation")
    for index, (name, scores) in enumerate(baselines.items()):
        if metric in scores:
            axes.axhline(scores[metric], color=f"C{index + 1}", ls="--", lw=1.2, label=name.replace("_", " "))
    axes.set(xlabel="optimiser step", ylabel=metric_of(run.read(), metric).label)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)


def draw_series(axes: Axes, sample: SeriesSample) -> None:
    """Forecasts beside the truth."""
    for number, window in enumerate(sample.windows):
        before = range(window.start - len(window.past), window.start)
        after = range(window.start, window.start + len(window.future))
        first = number == 0
        axes.plot(before, window.past, color=TRUTH, lw=1.2)
        axes.plot(after, window.future, color=TRUTH, lw=1.2, label="truth" if first else None)
        axes.plot(after, window.forecast, color=VALID, lw=1.8, label="forecast" if first else None)
        axes.axvline(window.start - 0.5, color=TRAIN, lw=1)
    axes.set(xlabel=sample.steps, ylabel=sample.label)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)


def new_figure(panels: int) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * panels, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)
    return figure, list(axes[0])
