"""The files of a study for whoever goes on with it: leaderboard.csv, summary.json, study.png and experiment/best.yaml.

`experiment/best.yaml` is the best trial as an experiment. It holds the overrides of the study and the values of the
trial; where those do not suffice, every key. `gatelab train --config-dir STUDY experiment=best` composes it. Each file
is composed once it is written, and kept only if that gives the identity of the trial: a finished run of the study is
found again and is not trained twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from gatelab.data.files import atomic_write_text, write_json
from gatelab.report.picture import write_picture
from gatelab.report.text import summary
from gatelab.run import CONF_DIR, RequestError
from gatelab.run.config import compose
from gatelab.run.record.directory import inside
from gatelab.run.record.identity import LEFT_OUT, identity_of
from gatelab.study.analysis.leaderboard import leaderboard, to_csv
from gatelab.study.analysis.one_at_a_time import in_words
from gatelab.study.analysis.read import read_study
from gatelab.study.analysis.state import StudyState, Trial, short_names
from gatelab.study.analysis.statistics import summary_of
from gatelab.study.plan.trust import require_own_targets
from gatelab.study.spec import StudySpec


def write_report(
    directory: str | Path, *, x: str | None = None, by: str | None = None, trust: bool = False
) -> list[str]:
    """Write leaderboard.csv, summary.json, study.png and experiment/ into a study's folder, each replaced in one step.

    Args:
        x, by: of the picture, as `picture.curves` takes them.
        trust: open the storage that the study names, and import the classes that it names for the best configuration.

    Returns:
        a line for each file, and how the best configuration is trained.

    Raises:
        RequestError: no study, or a file of it that cannot be read.
    """
    state = read_study(directory, trust=trust)
    if not trust:
        require_own_targets(state.directory)
    folder = state.directory
    atomic_write_text(folder / "leaderboard.csv", to_csv(state, leaderboard(state)))
    write_json(folder / "summary.json", summary(state))
    lines = [f"leaderboard  {folder / 'leaderboard.csv'}", f"summary      {folder / 'summary.json'}"]
    picture = write_picture([state], folder / "study.png", x=x, by=by)
    if picture:
        lines.append(f"picture      {picture}")
    for name, file in write_best(state).items():
        lines += [f"experiment   {file}", f"             {command(state, name)}"]
    return lines


def write_best(state: StudyState) -> dict[str, Path]:
    """Write `experiment/best.yaml`; of several objectives a file for each trial of the Pareto front.

    Returns:
        name of the experiment -> its file; empty while no trial has finished.

    Raises:
        RequestError: a configuration that can no longer be composed.
    """
    if not state.done:
        return {}
    spec = StudySpec.load(state.directory)
    several = len(state.objectives) > 1
    chosen = {f"front_{trial.number:04d}" if several else "best": trial for trial in state.pareto}
    for old in inside(state.directory, state.directory / "experiment").glob("front_*.yaml"):
        old.unlink()
    return {name: _write(name, spec, state, trial) for name, trial in chosen.items()}


def command(state: StudyState, name: str = "best") -> str:
    """The command that trains an experiment of the study's folder, to be typed in this working folder."""
    here = Path.cwd()
    folder, root = (
        p.relative_to(here) if p.is_relative_to(here) else p for p in (state.directory, state.root)
    )
    return f"gatelab train --config-dir {folder} experiment={name}" + f" paths.root={root}" * (
        state.root != here
    )


def _write(name: str, spec: StudySpec, state: StudyState, trial: Trial) -> Path:
    file = state.directory / "experiment" / f"{name}.yaml"
    size = spec.solved(trial.params)
    params = {**trial.params, **({"model.hidden_size": size["hidden"]} if size else {})}
    target = spec.apply(params).config
    target.seed = (*spec.settings.seeds, target.seed)[0]
    heading = "".join(f"# {line}\n" for line in ("@package _global_", *_heading(state, trial, name)))
    for content in (lambda: _asked(spec, params, target), lambda: _whole(target)):
        try:
            atomic_write_text(file, heading + OmegaConf.to_yaml(content()))
            found = identity_of(compose([f"experiment={name}"], config_dirs=[state.directory]).config)
        except RequestError:  # e.g. a configuration file of the user's own
            continue
        if found == identity_of(target):
            return file
    file.unlink(missing_ok=True)
    raise RequestError(f"{file}: not written, it would not be the run of trial {trial.number}.")


def _asked(spec: StudySpec, params: dict[str, Any], target: DictConfig) -> DictConfig:
    """The overrides and values of a point: group choices as a defaults list, keys as they were given."""
    groups, values = spec.split(params)
    content = OmegaConf.create({"name": str(target.name), "seed": target.seed})
    chosen: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(list(spec.overrides)):
        key = str(override.key_or_group)
        value = None if override.is_delete() else override.value()
        if (CONF_DIR / key).is_dir():
            chosen[key] = value
        elif not override.is_delete() and key.partition(".")[0] not in LEFT_OUT:
            OmegaConf.update(content, key, value, force_add=True)
    for key, value in values.items():
        OmegaConf.update(content, key, value, force_add=True)
    chosen |= {key.lstrip("+"): value for key, value in groups.items()}
    first = [f"/{group}/{chosen.pop(group)}" for group in ("experiment", "debug") if chosen.get(group)]
    defaults = [*first, "_self_", *({f"override /{key}": value} for key, value in chosen.items())]
    return DictConfig({"defaults": defaults, **content})


def _whole(target: DictConfig) -> DictConfig:
    """Every key of a configuration, for one that the installed files and some overrides do not give."""
    body = OmegaConf.masked_copy(target, [str(key) for key in target if key not in (*LEFT_OUT, "seed")])
    groups = [str(key) for key in body if (CONF_DIR / str(key)).is_dir()]
    defaults = ["_self_", *({f"override /{group}": None} for group in groups)]
    return DictConfig({"defaults": defaults, "name": str(target.name), "seed": target.seed, **body})


def _heading(state: StudyState, trial: Trial, name: str) -> Iterator[str]:
    point = in_words(trial.params, short_names(list(trial.params)))
    which = "Best" if name == "best" else "On the Pareto front"
    yield f"{which} of the {len(state.done)} finished trials of the study {state.name}: trial {trial.number}, {point}."
    scores = [f"{state.objectives[0].metric} {summary_of(trial).text()}"]
    scores += [f"{o.metric} {v:.6g}" for o, v in zip(state.objectives[1:], trial.values[1:], strict=True)]
    seeds, folds = state.settings.get("seeds") or [], state.settings.get("folds")
    over = [f"{folds} folds"] * bool(folds) + [f"seeds {', '.join(map(str, seeds))}"] * bool(seeds)
    yield f"{', '.join(scores)}{' over ' + ' and '.join(over) if over else ''}."
    if folds:
        yield "The folds were for choosing: this trains on the whole training split."
    yield f"gatelab train --config-dir STUDY_FOLDER experiment={name}"
