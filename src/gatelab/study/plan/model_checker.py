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
    from gatelab.run.build import instantiated

    return _refused("data", json.loads(node), lambda: instantiated(json.loads(node)))


@functools.cache
def _try_model(node: str, net_node: str) -> str | None:
    import torch

    from gatelab.run.build import instantiated

    model, net = json.loads(node), json.loads(net_node)
    with torch.device("meta"):
        core, factory = instantiated(model), instantiated(net)
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

    from gatelab.run.build import instantiated

    parameters = [torch.nn.Parameter(torch.zeros(2, 2))]
    return _refused("optim", json.loads(node), lambda: instantiated(json.loads(node))(parameters))


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
<<<<<<< HEAD


@contextlib.contextmanager
def _only_its_own_checks() -> Iterator[None]:
    """Leave an optimiser when it has checked its arguments: what follows imports torch._dynamo, for 1.6 seconds."""
    import torch

    class _Enough(Exception):
        pass

    def leave(*_: Any, **__: Any) -> None:
        raise _Enough

    original, torch.optim.Optimizer.__init__ = torch.optim.Optimizer.__init__, leave  # type: ignore[method-assign]
    try:
        yield
    except _Enough:
        pass
    finally:
        torch.optim.Optimizer.__init__ = original  # type: ignore[method-assign]


def _needed(target: str) -> set[str]:
    from gatelab.run.config.schema import signature_of

    return set(signature_of(target).required)


def _key(group: str, item: Mapping[str, Any], message: str) -> str:
    """`model.hidden_size` if the message names that argument, else the group."""
    node = item[{"model": "model", "task.net": "net", "optim": "optim"}[group]]
    names = [name for name in node if not name.startswith("_") and name in message]
    named = max(names, key=len, default=None)
    if named is None and group == "model":
        inner = [name for name in item["net"] if not name.startswith("_") and name in message]
        if inner:
            return f"task.net.{max(inner, key=len)}"
    return f"{group}.{named}" if named else group


def _make(node: Any) -> Any:
    """What Hydra's `instantiate` makes of a plain node, without the quarter of a second that Hydra's import takes."""
    if isinstance(node, list):
        return [_make(item) for item in node]
    if not isinstance(node, dict):
        return node
    from gatelab.run.config.schema import locate

    made = {key: _make(value) for key, value in node.items() if key not in MARKS}
    if "_target_" not in node:
        return made
    target, positional = locate(node["_target_"]), _make(node.get("_args_", []))
    return partial(target, *positional, **made) if node.get("_partial_") else target(*positional, **made)


def _solve(item: dict[str, Any]) -> dict[str, int] | str:
    from gatelab.core.budget import hidden_size_for

    try:
        count = _counter(item, item["model"])
        if "budget" in item:
            hidden = hidden_size_for(item["budget"], count)
        else:
            reference = item["reference"]
            target = _counter(item, reference)(int(reference["hidden_size"]))
            hidden = hidden_size_for(max(target, count(1)), count)
            if abs(count(hidden + 1) - target) < abs(count(hidden) - target):
                hidden += 1
        return {"hidden": hidden, "parameters": count(hidden)}
    except (ValueError, TypeError, RequestError) as error:
        return f"{item['model'].get('_target_')}: {error}"


def _counter(item: Mapping[str, Any], model: Mapping[str, Any]) -> Any:
    """Parameters as a function of the hidden size."""
    from gatelab.run.config.schema import locate

    spec = _spec(json.dumps(item["data"], sort_keys=True))
    task = locate(item["task"])
    net = _make(item["net"])
    if not hasattr(net.func, "parameter_count"):
        raise TypeError(f"{item['net']['_target_']} has no parameter_count, so its size cannot be solved")
    counting = partial(net.func.parameter_count, **net.keywords)

    def count(hidden: int) -> int:
        core = _make({**model, "hidden_size": hidden, "_partial_": True})
        return int(task.build_net(counting, core, spec))

    return count


def _spec(data: str) -> Any:
    from gatelab.run.build import build_data

    if data not in _SPECS:
        _SPECS[data] = build_data({"data": json.loads(data)}).spec
    return _SPECS[data]


_SPECS: dict[str, Any] = {}

if __name__ == "__main__":
    main()
=======
>>>>>>> next
