"""Cells of equal size: the hidden size that a study's budget gives to each point, and how it is found.

`parameters:1e6` is the largest hidden size within so many parameters; `parameters:match(gru)` is the one whose
parameters are nearest to what model=gru has at the point's own hidden size. Counts are the models' closed forms
with the data's spec (`core/budget.py`), computed by the helper process (`nets.py`), because they need torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gatelab.run.errors import RequestError
from gatelab.study.plan.settings import BUDGET

if TYPE_CHECKING:
    from gatelab.study.plan.nets import Nets
    from gatelab.study.spec import Frozen

HIDDEN = "model.hidden_size"
FOLDS = ("fold", "folds", "seed", "mirror", "cache", "num_workers")
"""Keys of `data` that do not change what a model is."""


def cell_of(frozen: Frozen, params: Mapping[str, Any]) -> dict[str, Any]:
    """What the size of a point depends on, as plain data.

    Returns:
        `model` and `net` without the hidden size, `task`, `data`, and either `budget` (parameters) or `reference`
        (a model of which the parameters are to be met).
    """
    assert frozen.settings.budget is not None
    match = BUDGET.fullmatch(frozen.settings.budget)
    assert match is not None
    plain, _ = frozen.unsized(params)
    cell = _described(plain)
    if match[1] is None:
        cell["model"].pop("hidden_size", None)
        return {**cell, "budget": int(float(match[2]))}
    try:
        other, _ = frozen.unsized({**params, "model": match[1]})
    except RequestError as error:
        raise RequestError(f"study.budget={frozen.settings.budget}: {error}") from None
    cell["model"].pop("hidden_size", None)
    return {**cell, "reference": _described(other)["model"]}


def _described(plain: Mapping[str, Any]) -> dict[str, Any]:
    data = {key: value for key, value in plain["data"].items() if key not in FOLDS}
    return {
        "model": dict(plain["model"]),
        "net": plain["task"]["net"],
        "task": plain["task"]["_target_"],
        "data": data,
    }


def size_key(cell: Mapping[str, Any]) -> str:
    """The name of a cell in `study.json`."""
    return hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:12]


def size_of(frozen: Frozen, params: Mapping[str, Any]) -> dict[str, int]:
    """The solved size of a point: {"hidden", "parameters"}; from `study.json`, or solved now.

    Raises:
        RequestError: the budget is too small, or the model's parameters cannot be counted.
    """
    from gatelab.study.plan.nets import Nets

    cell = cell_of(frozen, params)
    key = size_key(cell)
    if key not in frozen.sizes:
        with Nets() as nets:
            frozen.sizes[key] = nets.solve([(cell, frozen.unsized(params)[0]["data"])])[0]
    return frozen.sizes[key]


def solve(frozen: Frozen, points: Sequence[Mapping[str, Any]], nets: Nets) -> None:
    """Solve the sizes of all points that are not solved yet, each cell once.

    Raises:
        RequestError: as `size_of`, with the cell.
    """
    wanted: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for params in points:
        cell = cell_of(frozen, params)
        if size_key(cell) not in frozen.sizes:
            wanted.setdefault(size_key(cell), (cell, frozen.unsized(params)[0]["data"]))
    for key, size in zip(wanted, nets.solve(list(wanted.values())), strict=True):
        frozen.sizes[key] = size


def refuse_unsolvable(frozen: Frozen) -> None:
    """What cannot go together with a budget.

    Raises:
        RequestError: a swept hidden size beside a fixed number of parameters; a size that other keys follow.
    """
    match = BUDGET.fullmatch(frozen.settings.budget or "")
    if match is None:
        return
    text = f"study.budget={frozen.settings.budget}"
    swept = frozen.space[HIDDEN]
    if match[1] is None and (swept is not None or any(o.startswith(f"{HIDDEN}=") for o in frozen.overrides)):
        raise RequestError(
            f"{text}: it decides {HIDDEN}, which is given too. Leave one of them out, or take "
            f"study.budget=parameters:match(gru): every model then gets the parameters that model=gru has at each "
            f"{HIDDEN}."
        )
    if match[1] is not None and match[1] not in frozen.templates.options("model"):
        known = ", ".join(frozen.templates.options("model"))
        raise RequestError(f"{text}: there is no model={match[1]}. Choices for model: {known}.")
