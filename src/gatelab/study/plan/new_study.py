"""New studies: from a request to a spec, and its folder; and whether a request continues an existing study.

Everything that the request leaves open is decided here, once (strategy, objectives, whether an interval is of whole
numbers). How an existing study is run (workers, slots, launcher, retries...) may differ each time; any other
difference is refused with the fix.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from gatelab.data.messages import did_you_mean, few
from gatelab.run import RequestError
from gatelab.run.config import compose, metrics_of
from gatelab.run.config.signatures import locate
from gatelab.run.record.code import changed_code
from gatelab.run.record.directory import RunDirectory, command, now
from gatelab.run.record.environment import versions
from gatelab.run.record.secrets import first_secret, without_secrets
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.resources import ON_ONE_MACHINE, slots_on_machine, usable_cores
from gatelab.study.equal_parameters import HIDDEN, parse_budget
from gatelab.study.plan.grid import as_text, count
from gatelab.study.plan.request import Request, parse, value_of
from gatelab.study.settings import ONE_AT_A_TIME, OPERATIONAL, StudySettings
from gatelab.study.space import Parameter, Space, function_file, load_function, parameter
from gatelab.study.spec import FUNCTION, StudySpec, Templates, config_files, copy_sources
from gatelab.tasks.contract import not_comparable

DECIDED = {
    "name": "the folder of the runs",
    "test": "test data is touched by `gatelab eval` only",
    "data.fold": "give study.folds=K",
    "data.folds": "give study.folds=K",
}
ALWAYS = ("parameters", "seconds")
"""Objectives besides the metrics: the network's size and the seconds of training."""
STRETCHED = 8
"""Times the hidden size that a budget starts from; a wider network is warned of."""


def default_name(request: Request, sources: Sequence[Path]) -> str:
    """The study's name where none is given: the experiment's, or the data's and the model's.

    Raises:
        RequestError: these are swept themselves.
    """
    experiment = value_of(parse(request.fixed), "experiment")
    if isinstance(experiment, str):
        return experiment.replace("/", "-")
    swept = {str(o.key_or_group) for o in request.swept}
    if not {"data", "model", "experiment"} & swept:
        first, *others = sources
        return str(compose(request.fixed, config_dirs=others, conf_dir=first).config.name)
    raise RequestError("study: give the study a name, study=NAME.")


def draft(request: Request, name: str, sources: Sequence[Path], function: Path | None = None) -> StudySpec:
    """The study that a request describes; nothing is written.

    Args:
        request: the command line.
        name: of the study.
        sources: folders with configuration files.
        function: the file of the space function; None: found by its dotted name.

    Raises:
        RequestError: an impossible request, with the key and the fix.
    """
    given = {**request.given, "name": name}
    swept = [override for override in request.swept if override.key_or_group != "seed"]
    for override in request.swept:
        if override.key_or_group == "seed":  # seeds are replicates of a point, not points
            if given.get("seeds"):
                raise RequestError(
                    f"{override.input_line}: study.seeds is given, too; leave one of them out."
                )
            given["seeds"] = list(parameter(override, group=False).choices)
    settings = StudySettings.from_dict(given)
    _refuse_decided([*parse(request.fixed), *swept])
    templates = Templates(request.fixed, sources, name)
    space = _space(swept, settings, templates, function)
    strategy = settings.strategy or ("grid" if space.listed else "tpe")
    settings = settings.model_copy(update={"strategy": strategy})
    if settings.listed and not space.listed:
        endless = [p.key for p in space.parameters if p.kind != "choice"] or ["a space function"]
        raise RequestError(
            f"study.strategy={strategy}: {', '.join(endless)} cannot be listed. List values, e.g. 1,2,4 or "
            "range(1,9), or take study.strategy=random or tpe."
        )
    if strategy == ONE_AT_A_TIME and not space.parameters:
        raise RequestError(
            f"study.strategy={strategy}: no key is given values to change. List them, the base's first, e.g. "
            "model.hidden_size=64,128."
        )
    space = space if settings.listed else space.ranged()
    firsts = {p.key: p.values()[0] for p in space.parameters if p.group}
    spec = StudySpec(settings, space, templates)
    config = spec.apply(firsts).config
    spec.space = replace(space, parameters=tuple(_fitted(space, config)))
    _refuse_settings(spec, firsts)
    spec.objectives = _objectives(settings.objectives, config.task)
    return spec


def _refuse_decided(overrides: Sequence[Override]) -> None:
    for override in overrides:
        key = str(override.key_or_group)
        if key in DECIDED and not (key == "test" and override.value() is False):
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


def _fitted(space: Space, config: Any) -> Iterator[Parameter]:
    """An interval of whole numbers is one of real numbers where the key's own value is a real number."""
    for item in space.parameters:
        value = None if item.group else OmegaConf.select(config, item.key, throw_on_missing=False)
        real = item.kind == "int" and item.step is None and isinstance(value, float)
        yield replace(item, kind="float") if real else item


def _refuse_settings(spec: StudySpec, firsts: Mapping[str, Any]) -> None:
    settings = spec.settings
    if settings.folds is not None and "folds" not in spec.apply(firsts).config.data:
        raise RequestError(f"study.folds={settings.folds}: this data cannot be cut into folds.")
    if settings.pruner == "wilcoxon" and len(spec.replicates()) < 2:
        raise RequestError(
            "study.pruner=wilcoxon: it compares the runs of a point with those of the best one, and a point has one "
            "run. Give study.seeds=[0,1,2,...] or study.folds=K, or take study.pruner=median."
        )
    if settings.pruner != "none" and len(settings.objectives) > 1:
        raise RequestError(f"study.pruner={settings.pruner}: with several objectives nothing can be pruned.")
    if settings.budget is not None:
        _refuse_budget(spec, f"study.budget={settings.budget}", *parse_budget(settings.budget))
        others = []
        for size in (1, 2):
            config, _ = spec.unsized({**firsts, HIDDEN: size})
            config["model"].pop("hidden_size")
            others.append(config)
        if others[0] != others[1]:
            raise RequestError(
                f"study.budget={settings.budget}: another key follows {HIDDEN}; give it a value."
            )


def _refuse_budget(spec: StudySpec, text: str, budget: int | None, model: str | None) -> None:
    given = spec.space[HIDDEN] is not None or any(o.startswith(f"{HIDDEN}=") for o in spec.overrides)
    if budget is not None and given:
        raise RequestError(
            f"{text}: it decides {HIDDEN}, which is given too. Leave one of them out, or take "
            f"study.budget=parameters:match(gru): every model then gets the parameters that model=gru has at each "
            f"{HIDDEN}."
        )
    known = spec.templates.options("model")
    if model is not None and model not in known:
        raise RequestError(f"{text}: there is no model={model}. Choices for model: {', '.join(known)}.")


def _objectives(asked: Sequence[str], task: Any) -> list[tuple[str, str]]:
    """(metric, direction) of each objective; by default the metric that the task monitors."""
    monitor, direction = str(task.monitor), "maximize" if task.mode == "max" else "minimize"
    if not asked:
        return [(monitor, direction)]
    metrics = metrics_of(task._target_)
    known = [*metrics, *ALWAYS]
    found: dict[str, str] = {}
    for text in asked:
        metric, _, wanted = text.partition(":")
        if metrics and metric not in known:
            raise RequestError(
                f"study.objectives: the task has no '{metric}'.{did_you_mean(metric, known)} It has {', '.join(known)}."
            )
        if metric in found:
            raise RequestError(f"study.objectives: {metric} is there more than once.")
        found[metric] = wanted or (direction if metric == monitor else "minimize")
    return list(found.items())


def record_of(spec: StudySpec, points: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """The content of `study.json`."""
    return {
        "name": spec.settings.name,
        "created": now(),
        "command": without_secrets(command()),
        "cwd": str(Path.cwd()),
        "settings": spec.settings.model_dump(),
        "overrides": list(spec.overrides),
        "space": [item.to_dict() for item in spec.space.parameters],
        "objectives": [{"metric": metric, "direction": direction} for metric, direction in spec.objectives],
        "sizes": spec.sizes,
        "points": [dict(point) for point in points if point is not None],
        "grown": False,
        "versions": versions(),
        "sources": spec.record.get("sources") or spec.sources(),
        **{key: spec.record[key] for key in ("kept_code_changes",) if key in spec.record},
    }


def remarks(spec: StudySpec, launcher: str, points: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """What to know before the study runs: more threads than a slot has, objectives that do not compare its points, and
    networks that are far wider than the one whose parameters they get.
    """
    return [*_threads(spec, launcher), *_incomparable(spec), *_stretched(spec, points)]


def _threads(spec: StudySpec, launcher: str) -> list[str]:
    asked = max((config.threads or 0 for config in spec.templates.configs()), default=0)
    if launcher not in ON_ONE_MACHINE and spec.settings.threads is None:
        return []  # the other machine's cores are not known here; its workers keep to them all the same
    slots = slots_on_machine(spec.settings.slots, spec.settings.workers, launcher)
    share = spec.settings.threads or max(1, usable_cores() // slots)
    if asked <= share:
        return []
    return [
        f"threads={asked}: a run has {share} here, its slot's share; fewer study.slots or study.threads=N give more"
    ]


def _incomparable(spec: StudySpec) -> list[str]:
    try:
        task = next(iter(spec.templates.configs())).task
        figures = {f"val/{figure.name}": figure for figure in locate(str(task._target_)).figures}
    except (ImportError, AttributeError, StopIteration):
        return []
    asked = [figures[metric] for metric, _ in spec.objectives if metric in figures]
    keys = [parameter.key for parameter in spec.space.parameters]
    found = (not_comparable(figure.name, figure.same, keys) for figure in asked)
    return [f"warning: {text} Another metric ranks them, study.objectives=..." for text in found if text]


def _stretched(spec: StudySpec, points: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """A warning for each model that gets many times the hidden size of the one whose parameters it gets."""
    found: dict[str, str] = {}
    listed = (
        [point for point in points if point is not None] if "match" in (spec.settings.budget or "") else []
    )
    for point in listed:
        solved, model = spec.solved(point), spec.unsized(point)[0]["model"]
        name, given = str(model["_target_"]).rpartition(".")[2], int(model["hidden_size"])
        if solved is not None and solved["hidden"] > STRETCHED * given:
            found.setdefault(
                name,
                f"warning: study.budget={spec.settings.budget}: {name} gets {solved['hidden']:,} units to have the "
                f"parameters of {given}. So wide a layer is slow and takes much memory; two are narrower, in a "
                f"study of their own: model.num_layers=2 study.budget=parameters:{solved['parameters']}",
            )
    return list(found.values())


def accept_code(
    study: StudySpec, points: Sequence[Mapping[str, Any] | None], *, keep_code_change: bool
) -> list[str]:
    """See to it that no study mixes results of code that was edited in between; returns remarks.

    Args:
        study: drafted or read; where a change is kept, its record says so.
        points: new ones; a run of theirs may be there already, by another command.
        keep_code_change: go on all the same.

    Raises:
        RequestError: the code has changed.
    """
    before = study.record.get("sources", {})
    names = study.edited()
    told = f"study {study.settings.name}: the code has changed since it began"
    if not names and (run := next(_runs_of_other_code(study, points), None)):
        names, told = (
            changed_code(run.read(), on_disk=True),
            f"{run.path}: the code has changed since this run of the study",
        )
    if not names:
        if before:
            study.record["sources"] = {**study.sources(), **before}  # of choices that are new, too
        return []
    told += f" ({few(names)})"
    if not keep_code_change:
        raise RequestError(
            f"{told}, and its results belong to the code of then; nothing was changed. Begin another study with "
            f"study={study.settings.name}-2 and paths.root=DIR, or --keep-code-change goes on with both."
        )
    study.record |= {"kept_code_changes": [*study.record.get("kept_code_changes", []), names]}
    if before:
        study.record["sources"] = study.sources()
    return [f"warning: {told}; --keep-code-change was given"]


def _runs_of_other_code(
    spec: StudySpec, points: Sequence[Mapping[str, Any] | None]
) -> Iterator[RunDirectory]:
    for point in points:
        for seed, fold in spec.replicates() if point is not None else []:
            config, identity = spec.config(point or {}, seed, fold)
            run = RunDirectory(identity.directory(config["paths"]["runs"]))
            if not run.path.parent.is_dir():  # no run of this name is there
                return
            if run.run_file.is_file() and changed_code(run.read(), on_disk=True):
                yield run


def refuse_secrets(spec: StudySpec, points: Sequence[Mapping[str, Any] | None]) -> None:
    """See to it that no secret would be written into the study's files.

    Raises:
        RequestError: one stands in the command, in a configuration or in a file of `--config-dir`.
    """
    files = [config_files(folder, spec.templates.used()) for folder in spec.templates.sources[1:]]
    written = (
        {"the command": [*spec.overrides, *(item.to_dict() for item in spec.space.parameters)]},
        *(OmegaConf.to_container(config) for config in spec.templates.configs()),
        *files,
        {"the command": [point for point in points if point is not None]},
    )
    for part in written:
        if key := first_secret(part):
            raise RequestError(
                f"{key}: holds a secret in the clear, and a study writes its configuration down. Give it as "
                "'${oc.env:NAME}', so that only the variable's name is written."
            )


def write(spec: StudySpec, points: Sequence[Mapping[str, Any] | None], target: Path, cwd: Path) -> StudySpec:
    """Write the study's folder in one step, and read it back.

    Raises:
        RequestError: the folder exists.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        spec.templates.keep(temporary / "templates")
        copy_sources(spec.templates.sources, temporary / "conf", spec.templates.used())
        if spec.settings.space is not None:
            shutil.copy(function_file(spec.settings.space, cwd), temporary / FUNCTION)
            load_function(temporary / FUNCTION, spec.settings.space)
        StudyDirectory(temporary).write(record_of(spec, points))
        os.rename(temporary, target)
    except OSError:
        if (target / "study.json").is_file():
            raise RequestError(
                f"{target}: another command has made this study just now; give yours again to work on it too."
            ) from None
        if target.exists():
            raise RequestError(
                f"{target}: already exists and is not a study; choose another name with study=NAME."
            ) from None
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return StudySpec.load(target, code=True)


def only_continues(request: Request) -> bool:
    """Whether only the name, the place and how to run the study were given: the study goes on as it is."""
    fixed = [text for text in request.fixed if not text.lstrip("+").startswith(("paths.", "paths="))]
    named = set(request.given) - OPERATIONAL - {"name"}
    return not (fixed or request.swept or request.search or named)


def continued(study: StudySpec, request: Request, asked: StudySpec | None) -> StudySpec:
    """The existing study with the trials or choices that the request adds to it.

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
            f"study {study.settings.name}: already exists, and this command asks for another one:\n  "
            + "\n  ".join(differences)
            + f"\ngive the same command as before, take another name (study={study.settings.name}-2), or --force, "
            "which sets the old folder aside and keeps it."
        )
    changed = {key: value for key, value in request.given.items() if key in OPERATIONAL}
    settings = StudySettings.from_dict({**study.settings.model_dump(), **changed})
    if not settings.listed:
        trials = max(count(study.settings, study.space), count(settings, study.space))
        settings = settings.model_copy(update={"n_trials": trials})
    study.settings = settings
    if asked is not None:
        study.space = replace(study.space, parameters=tuple(_grown(study, asked)))
    return study


def _grown(study: StudySpec, asked: StudySpec) -> Iterator[Parameter]:
    for item in study.space.parameters:
        other = asked.space[item.key]
        assert other is not None
        there = [*map(as_text, item.choices)]
        more = [choice for choice in other.choices if as_text(choice) not in there]
        yield replace(item, choices=(*item.choices, *more))


def _differences(study: StudySpec, asked: StudySpec) -> Iterator[str]:
    old, new = study.settings.model_dump(), asked.settings.model_dump()
    for key in old:
        if key not in OPERATIONAL and old[key] != new[key]:
            yield f"study.{key}: was {old[key]}, now {new[key]}"
    before, after = ({o.get_key_element(): o.value() for o in parse(s.overrides)} for s in (study, asked))
    for key in dict.fromkeys([*before, *after]):
        if key.partition(".")[0] != "paths" and before.get(key) != after.get(key):
            yield f"{key}: was {before.get(key, 'not given')}, now {after.get(key, 'not given')}"
    for key in dict.fromkeys(p.key for p in (*study.space.parameters, *asked.space.parameters)):
        one, other = study.space[key], asked.space[key]
        if one is None or other is None or not _continues(one, other, study.settings.listed):
            yield f"{key}: was {_shown(one)}, now {_shown(other)}"
        elif study.settings.strategy == ONE_AT_A_TIME and as_text(one.choices[0]) != as_text(
            other.choices[0]
        ):
            yield f"{key}: the base has {one.choices[0]}, now {other.choices[0]} comes first"


def _continues(before: Parameter, after: Parameter, listed: bool) -> bool:
    kept = {*map(as_text, before.choices)} <= {*map(as_text, after.choices)}
    if listed and before.kind == after.kind == "choice":
        return kept and before.prefix == after.prefix
    return kept and before == after


def _shown(item: Parameter | None) -> str:
    if item is None:
        return "not swept"
    if item.kind == "choice":
        return ",".join(str(choice) for choice in item.choices)
    text = f"interval({item.low}, {item.high})"
    return f"log {text}" if item.log else text
