"""Whether a request continues an existing study: the same one, with at most more trials or more choices of a grid.

How a study is run (workers, slots, launcher, retries...) may differ each time. What it is may not: that is refused
with the difference and the fix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from gatelab.run.errors import RequestError
from gatelab.study.plan.points import count, same
from gatelab.study.plan.request import Request, parse
from gatelab.study.plan.settings import OPERATIONAL, StudySettings
from gatelab.study.space import Parameter
from gatelab.study.spec import Frozen


def only_continues(request: Request) -> bool:
    """Whether nothing but the name was asked for (where it is, and how to run it): the study goes on as it is."""
    fixed = [
        text for text in request.fixed if text.lstrip("+").partition("=")[0].partition(".")[0] != "paths"
    ]
    named = set(request.given) - OPERATIONAL - {"name"}
    return not (fixed or request.swept or request.search or named)


def continued(study: Frozen, request: Request, asked: Frozen | None) -> Frozen:
    """The existing study with what the request adds to it.

    Args:
        study: as it was read.
        request: the command line.
        asked: the draft of the request, made from the study's own configuration files; None: `only_continues`.

    Raises:
        RequestError: the request is for another study.
    """
    differences = [] if asked is None else list(_differences(study, asked))
    if differences:
        raise RequestError(
            f"study {study.settings.name}: it is there already, and this command asks for another one:\n  "
            + "\n  ".join(differences)
            + f"\ngive the same command as before, take another name (study={study.settings.name}-2), or --force, "
            "which sets the old folder aside and keeps it."
        )
    changed = {key: value for key, value in request.given.items() if key in OPERATIONAL}
    settings = StudySettings.from_dict({**study.settings.to_dict(), **changed})
    if settings.strategy != "grid":
        there = count(study.settings, study.space)
        settings = replace(settings, n_trials=max(there, count(settings, study.space)))
    study.settings = settings
    if asked is not None:
        study.space = replace(study.space, parameters=tuple(_grown(study, asked)))
    return study


def _grown(study: Frozen, asked: Frozen) -> Iterator[Parameter]:
    for item in study.space.parameters:
        other = asked.space[item.key]
        assert other is not None
        more = [choice for choice in other.choices if not _among(choice, item.choices)]
        yield replace(item, choices=(*item.choices, *more))


def _among(choice: Any, choices: Sequence[Any]) -> bool:
    return any(same({"": choice}, {"": other}) for other in choices)


def _differences(study: Frozen, asked: Frozen) -> Iterator[str]:
    for item in fields(StudySettings):
        old, new = getattr(study.settings, item.name), getattr(asked.settings, item.name)
        if item.name not in OPERATIONAL and old != new:
            yield f"study.{item.name}: {old} there, {new} asked for"
    yield from _fixed(study, asked)
    for key in dict.fromkeys(p.key for p in (*study.space.parameters, *asked.space.parameters)):
        before, after = study.space[key], asked.space[key]
        if before is None or after is None:
            yield f"{key}: {'swept' if before else 'not swept'} there, {'swept' if after else 'not swept'} now"
        elif not _continues(before, after, study.settings.strategy == "grid"):
            yield f"{key}: {_shown(before)} there, {_shown(after)} asked for"


def _fixed(study: Frozen, asked: Frozen) -> Iterator[str]:
    before = {o.get_key_element(): o.value() for o in parse(study.overrides)}
    after = {o.get_key_element(): o.value() for o in parse(asked.overrides)}
    for key in dict.fromkeys([*before, *after]):
        if key.partition(".")[0] != "paths" and before.get(key) != after.get(key):
            texts = [str(values[key]) if key in values else "not given" for values in (before, after)]
            yield f"{key}: {texts[0]} there, {texts[1]} asked for"


def _continues(before: Parameter, after: Parameter, grid: bool) -> bool:
    if grid and before.kind == after.kind == "choice":
        return before.prefix == after.prefix and all(_among(c, after.choices) for c in before.choices)
    return before == after and all(_among(c, after.choices) for c in before.choices)


def _shown(item: Parameter) -> str:
    if item.kind == "choice":
        return ",".join(str(choice) for choice in item.choices)
    text = f"interval({item.low}, {item.high})"
    return f"log {text}" if item.log else text
