"""Cells of equal size: the hidden size that a study's budget gives to each point, and how it is found.

`parameters:1e6` is the largest hidden size within so many parameters; `parameters:match(gru)` is the one whose
parameters are nearest to what model=gru has at the point's own hidden size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from gatelab.study.settings import BUDGET

HIDDEN = "model.hidden_size"
FOLDS = ("fold", "folds", "seed", "mirror", "cache", "num_workers")
"""Keys of `data` that do not change what a model is."""


def parse_budget(budget: str) -> tuple[int | None, str | None]:
    """(number of parameters, None), or (None, the model whose size is to be met)."""
    match = BUDGET.fullmatch(budget)
    assert match is not None
    return (None, match[1]) if match[1] else (int(float(match[2])), None)


def cell_of(
    config: Mapping[str, Any], budget: int | None, reference: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the size of a point depends on, as plain data.

    Args:
        config: resolved, of the point.
        budget: parameters; reference: the configuration of which the parameters are to be met, if there is none.

    Returns:
        `model` and `net` without the hidden size, `task`, `data`, and either `budget` or `reference`.
    """
    cell = _described(config)
    cell["model"].pop("hidden_size", None)
    if reference is None:
        return {**cell, "budget": budget}
    return {**cell, "reference": dict(reference["model"])}


def _described(config: Mapping[str, Any]) -> dict[str, Any]:
    data = {key: value for key, value in config["data"].items() if key not in FOLDS}
    return {
        "model": dict(config["model"]),
        "net": config["task"]["net"],
        "task": config["task"]["_target_"],
        "data": data,
    }


def size_key(cell: Mapping[str, Any]) -> str:
    """The name of a cell in `study.json`."""
    return hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:12]
