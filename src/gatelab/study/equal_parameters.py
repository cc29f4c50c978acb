"""Cells of equal size: the hidden size that a study's budget gives to a point, and how it is found.

`parameters:1e6` is the largest hidden size within so many parameters; `parameters:match(gru)` is the one whose
parameters are nearest to those of model=gru at the point's own hidden size. Networks are constructed on torch's meta
device, which allocates nothing, and their parameters counted.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from gatelab.run import RequestError
from gatelab.study.settings import BUDGET

HIDDEN = "model.hidden_size"
WITHOUT_EFFECT = ("fold", "folds", "seed", "mirror", "cache", "num_workers")
"""Keys of `data` that do not change the size of a network."""


def parse_budget(budget: str) -> tuple[int | None, str | None]:
    """(number of parameters, None), or (None, the model whose size is to be met)."""
    match = BUDGET.fullmatch(budget)
    assert match is not None
    return (None, match[1]) if match[1] else (int(float(match[2])), None)


def cell_of(
    config: Mapping[str, Any], budget: int | None, reference: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Everything that the size of a point depends on, as plain data.

    Args:
        config: resolved, of the point.
        budget: parameters; None with a reference.
        reference: the resolved configuration whose parameters are to be met; None with a budget.

    Returns:
        `model` and `net` without the hidden size, `task`, `data`, and either `budget` or `reference`.
    """
    model = {key: value for key, value in config["model"].items() if key != "hidden_size"}
    data = {key: value for key, value in config["data"].items() if key not in WITHOUT_EFFECT}
    wanted = {"budget": budget} if reference is None else {"reference": dict(reference["model"])}
    task = config["task"]
    return {"model": model, "net": task["net"], "task": task["_target_"], "data": data, **wanted}


def size_key(cell: Mapping[str, Any]) -> str:
    """The name of a cell in `study.json`."""
    return hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:12]


def solve(cell: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, int]:
    """The hidden size of a cell and its parameters: {"hidden", "parameters"}.

    Args:
        cell: of `cell_of`; data: the whole `data` node, which is read for the vocabulary or the channels.

    Raises:
        RequestError: a budget that is too small, a network that cannot be constructed, data that cannot be read.
    """
    from gatelab.core.budget import hidden_size_for

    try:
        count = _counter(cell, cell["model"], data)
        if "budget" in cell:
            hidden = hidden_size_for(cell["budget"], count)
        else:
            reference = cell["reference"]
            target = _counter(cell, reference, data)(int(reference["hidden_size"]))
            hidden = hidden_size_for(max(target, count(1)), count)
            if abs(count(hidden + 1) - target) < abs(count(hidden) - target):
                hidden += 1
        return {"hidden": hidden, "parameters": count(hidden)}
    except (ValueError, TypeError, RequestError) as error:
        raise RequestError(f"study.budget: {cell['model'].get('_target_')}: {error}") from None


def _counter(
    cell: Mapping[str, Any], model: Mapping[str, Any], data: Mapping[str, Any]
) -> Callable[[int], int]:
    """Parameters as a function of the hidden size."""
    from gatelab.core.budget import parameter_count
    from gatelab.run.build import make
    from gatelab.run.config.signatures import locate

    task, spec = locate(cell["task"]), _spec_of(json.dumps(data, sort_keys=True))
    net_factory = make(cell["net"], "task.net")

    def count(hidden: int) -> int:
        core_factory = make({**model, "hidden_size": hidden, "_partial_": True}, "model")
        return parameter_count(lambda: task.build_net(net_factory, core_factory, spec))

    return functools.cache(count)


@functools.cache
def _spec_of(data: str) -> Any:
    from gatelab.run.build import build_data

    return build_data({"data": json.loads(data)}).spec
