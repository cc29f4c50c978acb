"""Dry construction: what the constructors of a configuration refuse, found without data and without training.

Networks are constructed on torch's meta device, which allocates nothing; of a DataModule only the constructor runs.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

SIZES = {"vocab_size": 64, "channels": 7, "horizon": 24}
"""Sizes that a data set decides, for a network that is only tried."""


def refusal(config: Mapping[str, Any]) -> str | None:
    """What a constructor refuses, with its key; None where all of them accept.

    Nodes that occur in several configurations are tried once.
    """
    net = config["task"]["net"]
    tries = (
        (_try_data, config["data"], None),
        (_try_model, config["model"], net),
        (_try_optimizer, config["optim"], None),
    )
    found = (attempt(json.dumps(node, sort_keys=True), json.dumps(more)) for attempt, node, more in tries)
    return next((text for text in found if text is not None), None)


@functools.cache
def _try_data(node: str, _: str) -> str | None:
    from gatelab.run.build import instantiate

    return _refused("data", json.loads(node), lambda: instantiate(json.loads(node)))


@functools.cache
def _try_model(node: str, net_node: str) -> str | None:
    import torch

    from gatelab.run.build import instantiate

    model, net = json.loads(node), json.loads(net_node)
    with torch.device("meta"):
        core, factory = instantiate(model), instantiate(net)
        if not callable(core) or "input_size" not in inspect.signature(core).parameters:
            return None
        text = _refused("model", model, lambda: core(input_size=8))
        needed = {name for name, p in inspect.signature(factory).parameters.items() if p.default is p.empty}
        if text is not None or not needed <= {*SIZES, "core"}:
            return text
        given = {name: SIZES[name] for name in needed - {"core"}}
        return _refused("task.net", net, lambda: factory(**given, core=core))


@functools.cache
def _try_optimizer(node: str, _: str) -> str | None:
    import torch

    from gatelab.run.build import instantiate

    parameters = [torch.nn.Parameter(torch.zeros(2, 2))]
    return _refused("optim", json.loads(node), lambda: instantiate(json.loads(node))(parameters))


def _refused(group: str, node: Mapping[str, Any], construct: Callable[[], object]) -> str | None:
    """The message of a constructor's ValueError or TypeError, after the key that it names."""
    try:
        construct()
    except (ValueError, TypeError) as error:
        text = str(error).splitlines()[0]
        if text.startswith(group):
            return text
        named = max((k for k in node if not k.startswith("_") and k in text), key=len, default="")
        return f"{group}.{named}: {text}" if named else f"{group}: {text}"
    except Exception:  # a limit of this machine or of the meta device says nothing about the run
        return None
    return None
