"""Pictures of runs: learning curves beside the trivial baselines, and a forecast against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gatelab.run.messages import LABELS
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.metrics import read_metrics

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
    axes.set(xlabel="optimiser step", ylabel=LABELS.get(metric, metric))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)


def draw_forecast(
    axes: Axes, past: torch.Tensor, future: torch.Tensor, forecast: torch.Tensor, name: str
) -> None:
    """One window of one channel in original units: `past` [Lb], `future` [P] and `forecast` [P]."""
    before = range(-len(past), 0)
    after = range(len(future))
    axes.plot(before, past, color=TRUTH, lw=1.2)
    axes.plot(after, future, color=TRUTH, lw=1.2, label="truth")
    axes.plot(after, forecast, color=VALID, lw=1.8, label="forecast")
    axes.axvline(-0.5, color=TRAIN, lw=1)
    axes.set(xlabel="steps from the forecast's start", ylabel=f"{name} (original units)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)


def window_forecast(
    task: Any, data: Any, window: int, target: int, split: str = "test"
) -> tuple[torch.Tensor, ...]:
    """`past` [Lb], `future` [P] and `forecast` [P] of one target on one window of a split, in original units."""
    spec = data.spec
    batch = next(b for i, b in enumerate(data.dataloader(split)) if i == window // data.eval_batch_size)
    row = window % data.eval_batch_size
    with torch.inference_mode():
        forecast = task.net(batch.past[row : row + 1])[0]
    channel = spec.target_index[target]
    mean, std = spec.mean[channel], spec.std[channel]
    return tuple(
        values * std + mean
        for values in (batch.past[row, :, channel], batch.future[row, :, target], forecast[:, target])
    )


def new_figure(panels: int) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * panels, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)
    return figure, list(axes[0])
