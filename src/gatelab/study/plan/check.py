"""Check every job of a study before the first one starts: keys, types, signatures, and constructors.

A mistake is named with its job, its key and the nearest spelling; all of them at once. Nothing is started or written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gatelab.data.messages import counted
from gatelab.run import RequestError
from gatelab.run.config import problems
from gatelab.run.config.dry_build import notes_on_data, refusal
from gatelab.run.config.explain import where
from gatelab.run.record.identity import LEFT_OUT, LEFT_OUT_OF
from gatelab.study.engine.resources import refuse_several_nodes
from gatelab.study.plan import grid
from gatelab.study.settings import ONE_AT_A_TIME
from gatelab.study.spec import StudySpec

SHOWN = 8


def check(spec: StudySpec, jobs: Mapping[int, Mapping[str, Any]], *, of: int, here: bool = True) -> list[str]:
    """Check jobs, and solve the hidden sizes of a budget.

    Args:
        spec: the study.
        jobs: number -> point; negative numbers: representative points used only for checking.
        of: the number of the study's jobs.
        here: they run on this machine, so its devices are tried too.

    Returns:
        What the runs will say of their data, where these are at hand.

    Raises:
        RequestError: naming every mistake.
    """
    mistakes: dict[str, str] = {}
    notes: dict[str, None] = {}
    identities: dict[tuple[str, str], int] = {}
    base = _base(spec)
    for number, params in jobs.items():
        try:
            config, identity = spec.unsized(params)
            refuse_several_nodes(config["trainer"])
            found = list(_problems(spec, params, config, here))
        except RequestError as error:
            found = [str(error)]
        for text in found:
            mistakes.setdefault(text, describe(number, params, base))
        if here and not found:
            notes |= dict.fromkeys(notes_on_data(config))
        if number >= 0 and not found:
            twin = identities.setdefault((identity.name, identity.hash8), number)
            _refuse_twins(twin, number, jobs, base)
    if mistakes:
        lines = [f"{job}: {text}" for text, job in mistakes.items()]
        more = [f"and {len(lines) - SHOWN} more mistakes"] if len(lines) > SHOWN else []
        header = f"none of the {counted(of, 'job')} was started:"
        raise RequestError("\n  ".join([header, *lines[:SHOWN], *more]))
    for params in jobs.values():
        spec.solved(params)
    return list(notes)


def _problems(
    spec: StudySpec, params: Mapping[str, Any], config: Mapping[str, Any], here: bool
) -> Iterator[str]:
    wrong = problems(config)
    for key, text in wrong:
        yield f"{key}: {text}{where(key, spec.apply(params))}"
    if not wrong and (refused := refusal(config, here=here)):
        yield refused


def describe(number: int, params: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> str:
    """`job 7 (model=gru optim.lr=0.01)`, as far as it differs from a base; without a number for a representative."""
    values = as_overrides(params, base or {})
    return f"job {number} ({values})" if number >= 0 else f"a job with {values}"


def as_overrides(params: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """`model=gru optim.lr=0.01`, as far as it differs from a base."""
    shown = {key: value for key, value in params.items() if not base or base.get(key) != value}
    return " ".join(f"{key}={value}" for key, value in shown.items()) or "the base"


def _base(spec: StudySpec) -> Mapping[str, Any]:
    """The base of a study that changes one thing at a time, else nothing."""
    return grid.base_of(spec.space) if spec.settings.strategy == ONE_AT_A_TIME else {}


def _refuse_twins(
    twin: int, number: int, jobs: Mapping[int, Mapping[str, Any]], base: Mapping[str, Any]
) -> None:
    """Two points of a grid may not be the same run: the difference between them would not be what is measured."""
    if twin == number or grid.as_text(jobs[twin]) == grid.as_text(jobs[number]):
        return
    differing = [key for key in jobs[number] if jobs[twin].get(key) != jobs[number][key]]
    left_out = [*LEFT_OUT, *(f"{group}.{key}" for group, keys in LEFT_OUT_OF.items() for key in keys)]
    raise RequestError(
        f"{' and '.join(differing)}: {describe(twin, jobs[twin], base)} and {describe(number, jobs[number], base)} "
        f"are the same run. These keys do not change what a run is, so they cannot be swept: {', '.join(left_out)}."
    )


def listed(spec: StudySpec, jobs: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """The jobs of `--dry-run`: values, change of the base if there is one, runs' directories and solved size."""
    base = _base(spec)
    found: list[dict[str, Any]] = []
    for number, params in enumerate(jobs):
        entry: dict[str, Any] = {"job": number, "params": params, "runs": None}
        if params is not None:
            made = [spec.config(params, seed, fold) for seed, fold in spec.replicates()]
            entry["runs"] = [str(identity.directory(config["paths"]["runs"])) for config, identity in made]
            entry |= spec.solved(params) or {}
            entry |= {"change": as_overrides(params, base)} if base else {}
        found.append(entry)
    return found
