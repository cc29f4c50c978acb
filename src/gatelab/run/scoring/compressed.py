"""What smaller weights cost: a run's metrics with its own weights, and with those that were exported."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gatelab.core.weights.compression import round_matrices
from gatelab.run import RequestError
from gatelab.run.load import LoadedRun
from gatelab.run.scoring.evaluate import Device, device_of, score

Scores = dict[str, dict[str, float]]
"""Split -> metric -> value."""


def scores(loaded: LoadedRun, test: bool, device: Device | None = None) -> Scores:
    """The metrics of the task as it is now on the validation split and, if asked for, on the test split.

    device: None: the one that the run was trained on.

    Raises:
        RequestError: the data are gone, have changed, or have no such split.
    """
    data, device = loaded.data, device or device_of(loaded.config)
    if test and "test" not in data.splits:
        raise RequestError("--test: this data has no test split.")
    found = {split: score(loaded.task, data, split, device=device) for split in ("valid", *["test"] * test)}
    loaded.task.cpu()
    return found


def scores_of_export(
    loaded: LoadedRun,
    test: bool,
    graph: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]] | None,
    steps: int,
) -> tuple[str, Scores]:
    """What was scored, "graph" or "weights", and the scores; the task has the exported weights, as float32.

    Args:
        graph: an exported graph that computes in int8, of `steps` steps; where the task cannot be scored through it,
            the rounded weights are, and the rounding of what they multiply is not in the figures.
    """
    if graph is None:
        return "weights", scores(loaded, test)
    with torch.inference_mode():
        through = loaded.task.use_graph(graph, steps)
        if not through:
            round_matrices(loaded.task.net)
    return ("graph", scores(loaded, test, ("cpu", 1))) if through else ("weights", scores(loaded, test))


def cost(before: Scores, after: Scores) -> dict[str, dict[str, dict[str, float]]]:
    """Split -> metric -> its value of the run, of what was exported, and the difference."""
    return {
        split: {
            name: {"run": value, "exported": (now := after[split][name]), "difference": now - value}
            for name, value in metrics.items()
            if name in after[split]
        }
        for split, metrics in before.items()
    }
