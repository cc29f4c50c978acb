"""From a request to a study that is not written yet, and writing it: everything is decided here, once.

What the request leaves open is filled in (strategy, objectives, whether an interval is of whole numbers), and what
cannot be is refused. Jobs are checked in `jobs.py`; an existing study is compared in `compare.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from gatelab.run.config.compose import compose, nearest
from gatelab.run.config.signatures import constant_of
from gatelab.run.errors import RequestError
from gatelab.run.record.directory import command, now
from gatelab.run.record.environment import versions
from gatelab.run.record.secrets import without_secrets
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.equal_parameters import HIDDEN, parse_budget
from gatelab.study.plan.grid import count, same
from gatelab.study.plan.request import Request, parse, value_of
from gatelab.study.settings import OPERATIONAL, StudySettings
from gatelab.study.space import Parameter, Space, function_file, load_function, parameter
from gatelab.study.spec import FUNCTION, StudySpec, Templates, copy_sources

DECIDED = {
    "name": "the folder of the runs",
    "test": "test data is touched by `gatelab eval` only",
    "data.fold": "give study.folds=K",
    "data.folds": "give study.folds=K",
}
ALWAYS = ("parameters", "seconds")
"""Objectives besides the metrics: the network's size and the seconds of training."""


def default_name(request: Request, sources: Sequence[Path]) -> str:
    """The study's name where none is given: the experiment's, or the data's and the model's.

    Raises:
        RequestError: these are swept themselves.
    """
    experiment = value_of(parse(request.fixed), "experiment")
    if isinstance(experiment, str):
        return experiment
    swept = {str(o.key_or_group) for o in request.swept}
    if not {"data", "model", "experiment"} & swept:
        first, *others = sources
        return str(compose(request.fixed, config_dirs=others, conf_dir=first).config.name)
    raise RequestError("study: give the study a name, study=NAME.")


def draft(request: Request, name: str, sources: Sequence[Path], function: Path | None = None) -> StudySpec:
    """The study that a request describes.

    Args:
        request: the command line.
        name: of the study.
        sources: folders with configuration files.
        function: the file of the space function; None: found by its dotted name.

    Raises:
        RequestError: what cannot be, with the key and the fix.
    """
    given = {**request.given, "name": name}
    swept = [override for override in request.swept if override.key_or_group != "seed"]
    if len(swept) < len(request.swept):
        given["seeds"] = _seeds(request, given)
    settings = StudySettings.from_dict(given)
    _refuse_decided([*parse(request.fixed), *swept])
    templates = Templates(request.fixed, sources, name)
    space = _space(swept, settings, templates, function)
    strategy = settings.strategy or ("grid" if space.listed else "tpe")
    settings = replace(settings, strategy=strategy)
    if strategy == "grid" and not space.listed:
        endless = [p.key for p in space.parameters if p.kind != "choice"] or ["a space function"]
        raise RequestError(
            f"study.strategy=grid: {', '.join(endless)} cannot be listed. List values, e.g. 1,2,4 or range(1,9), or "
            "take study.strategy=random or tpe."
        )
    frozen = StudySpec(settings, space if strategy == "grid" else space.ranged(), templates)
    firsts = {p.prefix + p.key: p.values()[0] for p in space.parameters if p.group}
    frozen.space = replace(frozen.space, parameters=_fitted(frozen.space, templates.get(firsts).config))
    _refuse_settings(frozen, firsts)
    frozen.objectives = _objectives(frozen, firsts)
    return frozen


def _seeds(request: Request, given: Mapping[str, Any]) -> list[Any]:
    """`seed=0,1,2` means study.seeds: seeds are replicates of a point, not points."""
    override = next(o for o in request.swept if o.key_or_group == "seed")
    if given.get("seeds"):
        raise RequestError(f"{override.input_line}: study.seeds is given, too; leave one of them out.")
    return list(parameter(override, group=False).choices)


def _refuse_decided(overrides: Sequence[Override]) -> None:
    for override in overrides:
        key = str(override.key_or_group)
        if key == "test" and override.value() is False:
            continue
        if key in DECIDED:
            raise RequestError(f"{override.input_line}: a study decides this itself ({DECIDED[key]}).")
        if override.is_sweep_override() and key.partition(".")[0] == "paths":
            raise RequestError(f"{override.input_line}: where things lie cannot be swept.")


def _space(
    swept: Sequence[Override], settings: StudySettings, templates: Templates, function: Path | None
) -> Space:
    found: list[Parameter] = []
    for override in swept:
        key = override.get_key_element().lstrip("+~")
        group = templates.is_group(key)
        options = templates.options(key) if group else []
        item = parameter(override, group=group, options=options, seed=settings.seed)
        if any(item.key == other.key for other in found):
            raise RequestError(f"{override.input_line}: {item.key} is swept twice.")
        found.append(item)
    suggest = None
    if settings.space is not None:
        suggest = load_function(function or function_file(settings.space, Path.cwd()), settings.space)
    return Space(tuple(found), suggest)


def _fitted(space: Space, config: Any) -> tuple[Parameter, ...]:
    """An interval of whole numbers is one of real numbers where the key's own value is a real number."""
    made = []
    for item in space.parameters:
        value = None if item.group else OmegaConf.select(config, item.key, throw_on_missing=False)
        real = item.kind == "int" and item.step is None and isinstance(value, float)
        made.append(replace(item, kind="float") if real else item)
    return tuple(made)


def _refuse_settings(frozen: StudySpec, groups: Mapping[str, Any]) -> None:
    settings = frozen.settings
    runs = len(frozen.replicates())
    if settings.folds is not None and "folds" not in frozen.templates.get(groups).config.data:
        raise RequestError(f"study.folds={settings.folds}: this data cannot be cut into folds.")
    if settings.pruner == "wilcoxon" and runs < 2:
        raise RequestError(
            "study.pruner=wilcoxon: it compares the runs of a point with those of the best one, and a point has one "
            "run. Give study.seeds=[0,1,2,...] or study.folds=K, or take study.pruner=median."
        )
    if settings.pruner != "none" and len(settings.objectives) > 1:
        raise RequestError(f"study.pruner={settings.pruner}: with several objectives nothing can be pruned.")
    _refuse_unsolvable(frozen)
    if settings.budget and any(name.endswith("hidden_size") for name in frozen.referenced(groups)):
        raise RequestError(f"study.budget={settings.budget}: another key follows {HIDDEN}; give it a value.")


def _refuse_unsolvable(frozen: StudySpec) -> None:
    """Refuse a swept hidden size beside a fixed number of parameters, and a reference that is not a model."""
    if frozen.settings.budget is None:
        return
    budget, model = parse_budget(frozen.settings.budget)
    text = f"study.budget={frozen.settings.budget}"
    given = frozen.space[HIDDEN] is not None or any(o.startswith(f"{HIDDEN}=") for o in frozen.overrides)
    if budget is not None and given:
        raise RequestError(
            f"{text}: it decides {HIDDEN}, which is given too. Leave one of them out, or take "
            f"study.budget=parameters:match(gru): every model then gets the parameters that model=gru has at each "
            f"{HIDDEN}."
        )
    known = frozen.templates.options("model")
    if model is not None and model not in known:
        raise RequestError(f"{text}: there is no model={model}. Choices for model: {', '.join(known)}.")


def _objectives(frozen: StudySpec, groups: Mapping[str, Any]) -> list[tuple[str, str]]:
    task = frozen.templates.get(groups).config.task
    monitor, direction = str(task.monitor), "maximize" if task.mode == "max" else "minimize"
    if not frozen.settings.objectives:
        return [(monitor, direction)]
    figures = constant_of(str(task._target_), "figures")
    known = [*(f"val/{figure}" for figure in figures or ()), *ALWAYS]
    found = []
    for text in frozen.settings.objectives:
        metric, _, wanted = text.partition(":")
        if figures is not None and metric not in known:
            raise RequestError(
                f"study.objectives: the task has no '{metric}'.{nearest(metric, known)} It has {', '.join(known)}."
            )
        found.append((metric, wanted or (direction if metric == monitor else "minimize")))
    if len({metric for metric, _ in found}) < len(found):
        raise RequestError("study.objectives: a metric is there more than once.")
    return found


def record_of(frozen: StudySpec, points: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """What `study.json` says, but for the templates' files."""
    listed = [dict(point) for point in points if point is not None]
    return {
        "name": frozen.settings.name,
        "created": now(),
        "command": without_secrets(command()),
        "cwd": str(Path.cwd()),
        "settings": frozen.settings.to_dict(),
        "overrides": list(frozen.overrides),
        "space": [item.to_dict() for item in frozen.space.parameters],
        "objectives": [{"metric": metric, "direction": direction} for metric, direction in frozen.objectives],
        "sizes": frozen.sizes,
        "points": listed,
        "grown": False,
        "versions": versions(),
    }


def write(
    frozen: StudySpec, points: Sequence[Mapping[str, Any] | None], target: Path, cwd: Path
) -> StudySpec:
    """Write the study's folder in one step, and read it back.

    Raises:
        RequestError: the folder exists.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    copy_sources(frozen.templates.sources, temporary / "conf")
    if frozen.settings.space is not None:
        shutil.copy(function_file(frozen.settings.space, cwd), temporary / FUNCTION)
        load_function(temporary / FUNCTION, frozen.settings.space)
    templates = frozen.templates.keep(temporary / "templates")
    StudyDirectory(temporary).write({**record_of(frozen, points), "templates": templates})
    try:
        os.rename(temporary, target)
    except OSError:
        shutil.rmtree(temporary)
        if (target / "study.json").is_file():
            raise RequestError(
                f"{target}: another command has made this study just now; give yours again to work on it too."
            ) from None
        raise RequestError(f"{target}: exists and is no study. Take another study=NAME.") from None
    return StudySpec.load(target)


def only_continues(request: Request) -> bool:
    """Whether nothing but the name was asked for (where it is, and how to run it): the study goes on as it is."""
    fixed = [
        text for text in request.fixed if text.lstrip("+").partition("=")[0].partition(".")[0] != "paths"
    ]
    named = set(request.given) - OPERATIONAL - {"name"}
    return not (fixed or request.swept or request.search or named)


def continued(study: StudySpec, request: Request, asked: StudySpec | None) -> StudySpec:
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


def _grown(study: StudySpec, asked: StudySpec) -> Iterator[Parameter]:
    for item in study.space.parameters:
        other = asked.space[item.key]
        assert other is not None
        more = [choice for choice in other.choices if not _among(choice, item.choices)]
        yield replace(item, choices=(*item.choices, *more))


def _among(choice: Any, choices: Sequence[Any]) -> bool:
    return any(same({"": choice}, {"": other}) for other in choices)


def _differences(study: StudySpec, asked: StudySpec) -> Iterator[str]:
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


def _fixed(study: StudySpec, asked: StudySpec) -> Iterator[str]:
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
