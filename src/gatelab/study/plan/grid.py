"""The points of a study: the grid in the order of the command line, and representative points of a space.

A grid's points are listed once and keep their numbers; new points of a grown grid come at the end. Where a sampler
proposes the points, representatives are checked in their place.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gatelab.run import RequestError
from gatelab.study.settings import DEFAULT_TRIALS, StudySettings
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


def extended(earlier: Sequence[Mapping[str, Any]], space: Space) -> list[Point]:
    """The grid of a space, the points of an earlier one first."""
    kept = {as_text(point) for point in earlier}
    return [*map(dict, earlier), *(point for point in grid(space) if as_text(point) not in kept)]


def as_text(value: Any) -> str:
    """A point or a choice as text: the same for the same keys, values and types."""
    return json.dumps(value, sort_keys=True)


def count(settings: StudySettings, space: Space) -> int:
    """The number of the study's points.

    Raises:
        RequestError: a number of trials that is not the grid's size.
    """
    if settings.strategy != "grid":
        return settings.n_trials or DEFAULT_TRIALS
    size = math.prod(len(item.choices) for item in space.parameters)
    if settings.n_trials not in (None, size):
        raise RequestError(
            f"study.n_trials={settings.n_trials}: the grid has {size} points. Leave it out to run all of them, or "
            f"take study.strategy=random to try {settings.n_trials} of them."
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
