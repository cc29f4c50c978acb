"""Check every job of a study before the first one starts: keys, types, signatures, and what constructors refuse.

A mistake is named with its job, its key and the nearest spelling; all of them are told at once. It starts
nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gatelab.run.config.schema import problems, where
from gatelab.run.errors import RequestError
from gatelab.run.messages import counted
from gatelab.run.record.identity import LEFT_OUT, LEFT_OUT_OF, Identity
from gatelab.study.equal_parameters import size_key
from gatelab.study.plan import grid

if TYPE_CHECKING:
    from gatelab.study.plan.model_checker import Nets
    from gatelab.study.spec import StudySpec

SHOWN = 8


def check(frozen: StudySpec, jobs: Mapping[int, Mapping[str, Any]], nets: Nets, *, of: int) -> None:
    """Check jobs.

    Args:
        frozen: the study.
        jobs: number -> point; numbers below 0 are points that only stand for others.
        nets: tries networks and optimisers.
        of: how many jobs the study has.

    Raises:
        RequestError: naming every mistake.
    """
    mistakes: dict[str, str] = {}
    plains: dict[int, dict[str, Any]] = {}
    found: dict[tuple[Any, ...], int] = {}
    for number, params in jobs.items():
        try:
            plain, identity = frozen.unsized(params)
        except RequestError as error:
            mistakes.setdefault(str(error), describe(number, params))
            continue
        for key, text in problems(plain):
            mistakes.setdefault(f"{key}: {text}{where(key, frozen.apply(params))}", describe(number, params))
        plains[number] = plain
        if number >= 0:
            _refuse_twins(found, identity, number, jobs)
    _refuse(mistakes, of)
    for number, refusal in zip(plains, nets.refusals(list(plains.values())), strict=True):
        if refusal is not None:
            mistakes.setdefault(refusal, describe(number, jobs[number]))
    _refuse(mistakes, of)
    if frozen.settings.budget is not None:
        _solve(frozen, list(jobs.values()), nets)


def _solve(frozen: StudySpec, points: Sequence[Mapping[str, Any]], nets: Nets) -> None:
    """Solve the sizes of all points that are not solved yet, each cell once."""
    wanted: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for params in points:
        cell = frozen.cell(params)
        if size_key(cell) not in frozen.sizes:
            wanted.setdefault(size_key(cell), (cell, frozen.unsized(params)[0]["data"]))
    for key, size in zip(wanted, nets.solve(list(wanted.values())), strict=True):
        frozen.sizes[key] = size


def describe(number: int, params: Mapping[str, Any]) -> str:
    """`job 7 (model=gru optim.lr=0.01)`; without a number for a point that stands for others."""
    values = " ".join(f"{key}={value}" for key, value in params.items())
    return f"job {number} ({values})" if number >= 0 else f"a job with {values}"


def _refuse(mistakes: Mapping[str, str], of: int) -> None:
    if not mistakes:
        return
    lines = [f"{job}: {text}" for text, job in mistakes.items()]
    more = [f"and {len(lines) - SHOWN} more mistakes"] if len(lines) > SHOWN else []
    raise RequestError("\n  ".join([f"none of the {counted(of, 'job')} was started:", *lines[:SHOWN], *more]))


def _refuse_twins(
    found: dict[tuple[Any, ...], int], identity: Identity, number: int, jobs: Mapping[int, Mapping[str, Any]]
) -> None:
    """Two points of a grid may not be the same run: what differs between them would not be what is measured."""
    twin = found.setdefault((identity.name, identity.hash8), number)
    if twin == number or grid.same(jobs[twin], jobs[number]):
        return
    differing = [key for key in jobs[number] if jobs[twin].get(key) != jobs[number][key]]
    left_out = [*LEFT_OUT, *(f"{group}.{key}" for group, keys in LEFT_OUT_OF.items() for key in keys)]
    raise RequestError(
        f"{' and '.join(differing)}: {describe(twin, jobs[twin])} and {describe(number, jobs[number])} are the same "
        f"run. These keys do not change what a run is, so they cannot be swept: {', '.join(left_out)}."
    )


def listed(frozen: StudySpec, jobs: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """What `--dry-run` prints: for each job its values, its runs' directories and its solved size."""
    found: list[dict[str, Any]] = []
    for number, params in enumerate(jobs):
        entry: dict[str, Any] = {"job": number, "params": params, "runs": None}
        if params is not None:
            made = [frozen.config(params, seed, fold) for seed, fold in frozen.replicates()]
            entry["runs"] = [str(identity.directory(plain["paths"]["runs"])) for plain, identity in made]
            size = frozen.solved(params)
            entry |= size or {}
        found.append(entry)
    return found
