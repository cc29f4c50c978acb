"""A helper process that knows torch, so that the command that submits a study does not wait for its import.

It is started first and imports while configurations are composed. Asked to, it builds networks and optimisers on
torch's meta device, which allocates nothing and shows what their constructors refuse; and it solves hidden sizes.
One JSON document a line, in and out (`python -m gatelab.study.plan.model_checker`).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import IO, Any, Self

from gatelab.run.errors import RequestError

MARKS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
PLAUSIBLE = {"vocab_size": 64, "channels": 7, "horizon": 24}
"""Sizes that a data set decides, for a network that is only tried."""


class Nets:
    """The helper, from the side that asks. It is ended with the block."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gatelab.study.plan.model_checker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the command
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.wait()

    def refusals(self, plains: Sequence[Mapping[str, Any]]) -> list[str | None]:
        """For each configuration what its constructors refuse, with the key; None where they do not.

        What is the same in several configurations is tried once.
        """
        parts = [
            {"model": p["model"], "net": p["task"]["net"], "optim": p["optim"], "group": "task.net"}
            for p in plains
        ]
        distinct = {json.dumps(part, sort_keys=True): part for part in parts}
        answers = dict(zip(distinct, self._ask("try", list(distinct.values())), strict=True))
        return [answers[json.dumps(part, sort_keys=True)] for part in parts]

    def solve(self, cells: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[dict[str, int]]:
        """The hidden size of each cell, and its parameters; `cells` are pairs of a cell and its whole `data` node.

        Raises:
            RequestError: a budget that is too small, a model without a parameter count, data that cannot be read.
        """
        if not cells:
            return []
        solved = self._ask("solve", [{**cell, "data": data} for cell, data in cells])
        for answer in solved:
            if isinstance(answer, str):
                raise RequestError(f"study.budget: {answer}")
        return solved

    def _ask(self, what: str, items: list[Any]) -> list[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"what": what, "items": items}).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError:
            answer = b""
        if not answer:
            raise RequestError("the process that tries the networks ended; its message stands above.")
        found: list[Any] = json.loads(answer)
        return found


def main() -> None:
    """Answer until the requests end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed is no answer
    importlib.import_module("gatelab.core")  # and torch with it, while nobody has asked yet
    serve(sys.stdin, answers)


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer each line of `requests` by one of `answers`."""
    for line in requests:
        request = json.loads(line)
        answer = {"try": _refusal, "solve": _solve}[request["what"]]
        answers.write(json.dumps([answer(item) for item in request["items"]]) + "\n")
        answers.flush()


def _refusal(item: Mapping[str, Any]) -> str | None:
    import torch

    group = "model"
    try:
        with torch.device("meta"):
            core = _make(item["model"])
            if not callable(core):
                return None
            core(input_size=8)
            group = "task.net"
            net = _make(item["net"])
            needed = _needed(item["net"]["_target_"])
            if needed <= {*PLAUSIBLE, "core"}:
                group = "model"  # what a network refuses about its core is said of the core
                net(**{name: PLAUSIBLE[name] for name in needed if name != "core"}, core=core)
            group = "optim"
            with _only_its_own_checks():
                _make(item["optim"])([torch.nn.Parameter(torch.zeros(2, 2))])
    except (ValueError, TypeError) as error:
        return f"{_key(group, item, str(error))}: {str(error).splitlines()[0]}"
    except Exception:  # what this machine or the meta device cannot do says nothing about the run
        return None
    return None


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
    from gatelab.run.config.signatures import signature_of

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
    from gatelab.run.config.signatures import locate

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
    from gatelab.core.budget import parameter_count
    from gatelab.run.config.signatures import locate

    spec = _spec(json.dumps(item["data"], sort_keys=True))
    task = locate(item["task"])
    net = _make(item["net"])

    def count(hidden: int) -> int:
        core = _make({**model, "hidden_size": hidden, "_partial_": True})
        return parameter_count(lambda: task.build_net(net, core, spec))

    return count


def _spec(data: str) -> Any:
    from gatelab.run.build import build_data

    if data not in _SPECS:
        _SPECS[data] = build_data({"data": json.loads(data)}).spec
    return _SPECS[data]


_SPECS: dict[str, Any] = {}

if __name__ == "__main__":
    main()
