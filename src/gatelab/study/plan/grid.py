"""The points of a study, in the order of the command line, and representative points of a space.

Listed points (a grid, or one change at a time) keep their numbers; new ones of a grown study come at the end. Where a
sampler proposes the points, representatives are checked in their place.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gatelab.run import RequestError
from gatelab.study.settings import DEFAULT_TRIALS, ONE_AT_A_TIME, StudySettings
from gatelab.study.space import Space
from gatelab.study.spec import StudySpec

Point = dict[str, Any]
PROBES = 25
"""Points that a space function is asked for when a study is checked."""


def grid(space: Space) -> list[Point]:
    """Every combination of the choices; the last key changes fastest."""
    keys = [item.key for item in space.parameters]
    return [
        dict(zip(keys, values, strict=True))
        for values in itertools.product(*(item.values() for item in space.parameters))
    ]


def base_of(space: Space) -> Point:
    """The first value of every key."""
    return {item.key: item.values()[0] for item in space.parameters}


def one_at_a_time(space: Space) -> list[Point]:
    """The base, and then each other value of a key alone."""
    base = base_of(space)
    return [base, *({**base, item.key: value} for item in space.parameters for value in item.values()[1:])]


def listed(settings: StudySettings, space: Space) -> list[Point]:
    """The points of a study whose strategy lists them."""
    return one_at_a_time(space) if settings.strategy == ONE_AT_A_TIME else grid(space)


def extended(earlier: Sequence[Mapping[str, Any]], settings: StudySettings, space: Space) -> list[Point]:
    """The listed points of a space, those of an earlier one first."""
    kept = {as_text(point) for point in earlier}
    return [*map(dict, earlier), *(point for point in listed(settings, space) if as_text(point) not in kept)]


def as_text(value: Any) -> str:
    """A point or a choice as text: the same for the same keys, values and types."""
    return json.dumps(value, sort_keys=True)


def count(settings: StudySettings, space: Space) -> int:
    """The number of the study's points.

    Raises:
        RequestError: a number of trials other than that of the listed points.
    """
    if not settings.listed:
        return settings.n_trials or DEFAULT_TRIALS
    sizes = [len(item.choices) for item in space.parameters]
    size = 1 + sum(n - 1 for n in sizes) if settings.strategy == ONE_AT_A_TIME else math.prod(sizes)
    if settings.n_trials not in (None, size):
        some = f", or take study.strategy=random to try {settings.n_trials} of them"
        what, more = ("the grid", some) if settings.strategy == "grid" else (settings.strategy, "")
        raise RequestError(
            f"study.n_trials={settings.n_trials}: {what} has {size} points. Leave it out to run all of them{more}."
        )
    return size


def representatives(spec: StudySpec) -> list[Point]:
    """Points that are checked in place of those that a sampler will propose.

    Every choice and both ends of every interval occur, with every combination of swept groups; a space function
    is asked for some points at random.
    """
    if spec.space.function is not None:
        return _drawn(spec)
    groups = [item for item in spec.space.parameters if item.group]
    others = [item for item in spec.space.parameters if not item.group]
    found: list[Point] = []
    for choices in itertools.product(*(item.values() for item in groups)):
        first = dict(zip((item.key for item in groups), choices, strict=True))
        first |= {item.key: item.ends()[0] for item in others}
        found.append(first)
        found += [{**first, item.key: value} for item in others for value in item.ends()[1:]]
    return found


def _drawn(spec: StudySpec) -> list[Point]:
    import optuna

    from gatelab.study.engine.samplers import RandomByName, quiet_optuna, seed_of

    quiet_optuna()
    found = []
    for number in range(PROBES):
        sampler = RandomByName(seed_of(spec.settings.seed, number))
        trial = optuna.create_study(sampler=sampler).ask()
        try:
            found.append(spec.space.propose(trial))
        except RequestError:
            raise
        except Exception as error:
            raise RequestError(
                f"study.space={spec.settings.space}: {type(error).__name__}: {error}"
            ) from error
    return found
