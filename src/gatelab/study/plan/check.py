"""Check every job of a study before the first one starts: keys, types, signatures, and constructors.

A mistake is named with its job, its key and the nearest spelling; all of them at once. Nothing is started or written:
networks are constructed on torch's meta device, which allocates nothing, and of a DataModule only the constructor runs.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gatelab.data.messages import counted
from gatelab.run import RequestError
from gatelab.run.config import problems, where
from gatelab.run.record.identity import LEFT_OUT, LEFT_OUT_OF
from gatelab.study.engine.resources import refuse_several_nodes
from gatelab.study.plan import grid
from gatelab.study.spec import StudySpec

SHOWN = 8
SIZES = {"vocab_size": 64, "channels": 7, "horizon": 24}
"""Sizes that a data set decides, for a network that is only tried."""


def check(spec: StudySpec, jobs: Mapping[int, Mapping[str, Any]], *, of: int) -> None:
    """Check jobs, and solve the hidden sizes of a budget.

    Args:
        spec: the study.
        jobs: number -> point; negative numbers: representative points used only for checking.
        of: the number of the study's jobs.

    Raises:
        RequestError: naming every mistake.
    """
    mistakes: dict[str, str] = {}
    identities: dict[tuple[str, str], int] = {}
    for number, params in jobs.items():
        try:
            config, identity = spec.unsized(params)
            refuse_several_nodes(config["trainer"])
            found = list(_problems(spec, params, config))
        except RequestError as error:
            found = [str(error)]
        for text in found:
            mistakes.setdefault(text, describe(number, params))
        if number >= 0 and not found:
            twin = identities.setdefault((identity.name, identity.hash8), number)
            _refuse_twins(twin, number, jobs)
    if mistakes:
        lines = [f"{job}: {text}" for text, job in mistakes.items()]
        more = [f"and {len(lines) - SHOWN} more mistakes"] if len(lines) > SHOWN else []
        header = f"none of the {counted(of, 'job')} was started:"
        raise RequestError("\n  ".join([header, *lines[:SHOWN], *more]))
    for params in jobs.values():
        spec.solved(params)


def _problems(spec: StudySpec, params: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    wrong = problems(config)
    for key, text in wrong:
        yield f"{key}: {text}{where(key, spec.apply(params))}"
    if not wrong and (refused := refusal(config)):
        yield refused


def describe(number: int, params: Mapping[str, Any]) -> str:
    """`job 7 (model=gru optim.lr=0.01)`; without a number for a representative point."""
    values = " ".join(f"{key}={value}" for key, value in params.items())
    return f"job {number} ({values})" if number >= 0 else f"a job with {values}"


def _refuse_twins(twin: int, number: int, jobs: Mapping[int, Mapping[str, Any]]) -> None:
    """Two points of a grid may not be the same run: the difference between them would not be what is measured."""
    if twin == number or grid.as_text(jobs[twin]) == grid.as_text(jobs[number]):
        return
    differing = [key for key in jobs[number] if jobs[twin].get(key) != jobs[number][key]]
    left_out = [*LEFT_OUT, *(f"{group}.{key}" for group, keys in LEFT_OUT_OF.items() for key in keys)]
    raise RequestError(
        f"{' and '.join(differing)}: {describe(twin, jobs[twin])} and {describe(number, jobs[number])} are the same "
        f"run. These keys do not change what a run is, so they cannot be swept: {', '.join(left_out)}."
    )


def listed(spec: StudySpec, jobs: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """The jobs of `--dry-run`: the values of each, its runs' directories and its solved size."""
    found: list[dict[str, Any]] = []
    for number, params in enumerate(jobs):
        entry: dict[str, Any] = {"job": number, "params": params, "runs": None}
        if params is not None:
            made = [spec.config(params, seed, fold) for seed, fold in spec.replicates()]
            entry["runs"] = [str(identity.directory(config["paths"]["runs"])) for config, identity in made]
            entry |= spec.solved(params) or {}
        found.append(entry)
    return found


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
