"""A trial's configuration as an `experiment` file of a few lines, in `<study>/experiment/`.

`gatelab train --config-dir STUDY experiment=best` composes it. It names the chosen group files and the keys that
differ from them, nothing else: neither what cannot change a result (paths, trackers) nor the fold. It is composed
again before anything is said about it: the identity must be the trial's own, so a finished run of the study is
found again and is not trained twice.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from gatelab.run.config import CONF_DIR
from gatelab.run.config.compose import Composed, compose
from gatelab.run.config.schema import GROUPS
from gatelab.run.errors import RequestError
from gatelab.run.record.identity import LEFT_OUT_OF, Identity, identity_of
from gatelab.study.analysis.state import StudyState, Trial, short_names, show
from gatelab.study.analysis.statistics import decimals, summarise, values_of
from gatelab.study.spec import StudySpec, kept_sources

FLATTENED = ("experiment", "debug")  # these set keys everywhere; what they set is written out
OMITTED = ("paths", "logger", "test", "name", "seed")


class Unwritable(Exception):
    """A group cannot be said as a choice and a few keys; it has to be written out whole."""

    def __init__(self, group: str) -> None:
        super().__init__(group)
        self.group = group


def write_best(state: StudyState) -> dict[str, Path]:
    """Write `experiment/best.yaml`; of several objectives a file for each trial of the Pareto front.

    Returns:
        name of the experiment -> its file; empty while no trial has finished.

    Raises:
        RequestError: a configuration that can no longer be composed.
    """
    if not state.done:
        return {}
    frozen = StudySpec.load(state.directory)
    if len(state.objectives) > 1:
        chosen = {f"front_{trial.number:04d}": trial for trial in state.pareto}
    else:
        assert state.best is not None
        chosen = {"best": state.best}
    folder = state.directory / "experiment"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("front_*.yaml"):
        old.unlink()
    return {name: _write(folder, name, frozen, state, trial) for name, trial in chosen.items()}


def command(state: StudyState, name: str = "best") -> str:
    """The command that trains an experiment of the study's folder, to be typed in this working folder."""
    here = Path.cwd()
    root = "" if state.root == here else f" paths.root={_shown(state.root, here)}"
    return f"gatelab train --config-dir {_shown(state.directory, here)} experiment={name}{root}"


def _shown(path: Path, here: Path) -> str:
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _write(folder: Path, name: str, frozen: StudySpec, state: StudyState, trial: Trial) -> Path:
    target = target_of(frozen, trial)
    wanted = identity_of(target)
    file = folder / f"{name}.yaml"
    whole: set[str] = set()
    while True:
        try:
            text = _heading(state, trial, name) + experiment_text(target, choices_of(frozen, trial), whole)
        except Unwritable as error:
            whole.add(error.group)
            continue
        temporary = folder / f"{name}.yaml.{os.getpid()}.tmp"
        temporary.write_text(text)
        os.replace(temporary, file)
        found = identity_of(compose([f"experiment={name}"], config_dirs=[folder.parent]).config)
        if found == wanted:
            return file
        _refuse(file, found, wanted)


def _refuse(file: Path, found: Identity, wanted: Identity) -> None:
    file.unlink()
    raise RequestError(
        f"{file}: would be run {found.name}/{found.hash8}-s{found.seed} and not the trial's "
        f"{wanted.name}/{wanted.hash8}-s{wanted.seed}; it was not written."
    )


def target_of(frozen: StudySpec, trial: Trial) -> DictConfig:
    """The trial's configuration, unresolved, with its first seed and without a fold."""
    size = frozen.solved(trial.params)
    sized = {**trial.params, **({"model.hidden_size": size["hidden"]} if size else {})}
    config = frozen.apply(sized).config
    if frozen.settings.seeds:
        config.seed = frozen.settings.seeds[0]
    return config


def choices_of(frozen: StudySpec, trial: Trial) -> dict[str, Any]:
    """Group -> chosen file of a trial's configuration, from the study's own copy of the configuration files."""
    groups, _ = frozen.split(trial.params)
    first, *others = kept_sources(frozen.templates.folder.parent / "conf")  # type: ignore[union-attr]
    chosen = [f"{key}={value}" for key, value in groups.items()]
    return compose([*frozen.overrides, *chosen], config_dirs=others, conf_dir=first).choices


def experiment_text(target: DictConfig, choices: Mapping[str, Any], whole: set[str]) -> str:
    """The defaults list and the keys that make `target` out of the installed configuration files.

    Args:
        target: unresolved.
        choices: group -> chosen file.
        whole: groups to write out instead of naming their file.

    Raises:
        Unwritable: a group whose file sets a key that `target` does not have.
    """
    chosen: dict[str, Any] = dict.fromkeys(sorted(whole))
    base = compose(_overrides(chosen))
    for group, choice in sorted(choices.items(), key=_place):
        if group in FLATTENED or group in chosen or group == "paths" or base.choices.get(group) == choice:
            continue
        if not _is_installed(group, choice):
            raise Unwritable(group)
        chosen[group] = choice
        base = compose(_overrides(chosen))
    body: dict[str, Any] = {}
    if chosen:
        body["defaults"] = [{f"override /{group}": choice} for group, choice in chosen.items()]
    body["name"] = str(target.name)
    if target.seed != base.config.seed:
        body["seed"] = target.seed
    return _dump(body | _differences(target, base))


def _place(item: tuple[str, Any]) -> int:
    """Data first: it may choose the task by itself. The others as in a composed configuration."""
    return GROUPS.index(item[0]) if item[0] in GROUPS else len(GROUPS)


def _overrides(chosen: Mapping[str, Any]) -> list[str]:
    """The same choices as on a command line."""
    texts = {group: str(choice).replace("'", "").replace(" ", "") for group, choice in chosen.items()}
    named = [f"~{group}" if chosen[group] is None else f"{group}={text}" for group, text in texts.items()]
    return ["name=best", *named]


def _is_installed(group: str, choice: Any) -> bool:
    names = choice if isinstance(choice, Sequence) and not isinstance(choice, str) else [choice]
    return all(name is None or (CONF_DIR / group / f"{name}.yaml").is_file() for name in names)


def _differences(target: DictConfig, base: Composed) -> dict[str, Any]:
    wanted: Any = OmegaConf.to_container(target, resolve=False)
    there: Any = OmegaConf.to_container(base.config, resolve=False)
    found = {}
    for key, value in wanted.items():
        if key in OMITTED or _same(value, there.get(key)):
            continue
        found[key] = _difference(value, there.get(key), str(key))
        if found[key] == {} != value:  # it lacks only what does not count
            del found[key]
    for key in there:
        if key not in wanted and key not in OMITTED:
            raise Unwritable(str(key))
    return found


def _difference(wanted: Any, there: Any, group: str) -> Any:
    if not isinstance(wanted, dict) or not isinstance(there, dict):
        return wanted
    if set(there) - set(wanted) - set(LEFT_OUT_OF.get(group, ())):
        raise Unwritable(group)
    return {
        key: _difference(value, there.get(key), group)
        for key, value in wanted.items()
        if key not in there or not _same(value, there[key])
    }


def _same(one: Any, other: Any) -> bool:
    """Equal as the identity sees it: 0, 0.0 and false are three values."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


class _Dumper(yaml.SafeDumper):
    """Mappings one key a line, lists in one line: the style of conf/."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    list,
    lambda dumper, items: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", items, flow_style=not any(isinstance(item, dict) for item in items)
    ),
)
_Dumper.add_representer(
    type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
)


def _dump(body: Mapping[str, Any]) -> str:
    text = yaml.dump(dict(body), Dumper=_Dumper, sort_keys=False, width=110)
    return re.sub(r"^- ", "  - ", text, flags=re.M)  # the defaults list, indented as elsewhere


def _heading(state: StudyState, trial: Trial, name: str) -> str:
    summary = summarise(list(values_of(trial.runs).values()) or [trial.values[0]])
    names = short_names(list(trial.params))
    point = ", ".join(f"{names[key]} {show(value)}" for key, value in trial.params.items())
    which = "Best" if name == "best" else "On the Pareto front"
    of = f"{which} of the {len(state.done)} finished trials of the study {state.name}"
    lines = [f"{of}: trial {trial.number}, {point}."]
    scores = [f"{state.objectives[0].metric} {summary.text(decimals([summary]))}"]
    scores += [f"{o.metric} {v:.6g}" for o, v in zip(state.objectives[1:], trial.values[1:], strict=True)]
    seeds, folds = state.settings.get("seeds") or [], state.settings.get("folds")
    over = [f"{folds} folds"] * bool(folds) + [f"seeds {', '.join(map(str, seeds))}"] * bool(seeds)
    lines.append(f"{', '.join(scores)}{' over ' + ' and '.join(over) if over else ''}.")
    if folds:
        lines.append("The folds were for choosing: this trains on the whole training split.")
    lines.append(f"gatelab train --config-dir STUDY_FOLDER experiment={name}")
    return "# @package _global_\n" + "".join(f"# {line}\n" for line in lines)
