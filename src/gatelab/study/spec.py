"""The spec of a study: from the values of a point to the resolved configuration of a run.

`study.json`, the templates and the copies of the configuration files are written once, before the first trial; every
hyperparameter of every run comes from them. Hydra composes a template for each combination of group choices; a point
is a copy of its template with values set. Files that are edited later change nothing.
"""

from __future__ import annotations

import copy
import hashlib
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from gatelab.data.files import atomic_write_text
from gatelab.data.messages import did_you_mean
from gatelab.run import CONF_DIR, RequestError
from gatelab.run.config import Composed, adapt_to_targets, compose, given_keys
from gatelab.run.config.explain import keys_of
from gatelab.run.record.code import sources
from gatelab.run.record.directory import reading
from gatelab.run.record.identity import Identity, identify
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.equal_parameters import HIDDEN, cell_of, parse_budget, size_key, solve
from gatelab.study.settings import StudySettings, replicates
from gatelab.study.space import Parameter, Space, load_function

FUNCTION = "space.py"
MOST_FILES = 1000
NAME_OF_GROUP = re.compile(r"[./@=]")
NAMED = re.compile(r"^\s*-\s*(?:override\s+)?/?([\w-]+)", re.MULTILINE)
"""The first part of each entry of a defaults list (and of other lists, which name no group)."""


class StudySpec:
    """What a study runs.

    Attributes:
        settings: of the study.
        space: the values that are tried.
        templates: the composed configurations.
        overrides: those that hold for every point.
        objectives: (metric, minimize or maximize) for each.
        sizes: solved hidden sizes by `size_key`: {"hidden", "parameters"}; of studies with a budget.
        record: the content of `study.json`; empty before it is written.
    """

    def __init__(self, settings: StudySettings, space: Space, templates: Templates) -> None:
        self.settings, self.space, self.templates = settings, space, templates
        self.overrides = templates.overrides
        self.objectives: list[tuple[str, str]] = []
        self.sizes: dict[str, dict[str, int]] = {}
        self.record: dict[str, Any] = {}

    @classmethod
    def load(cls, path: str | Path, *, code: bool = False) -> StudySpec:
        """Read the study in a folder.

        Args:
            code: run its space function's file too, which new points need.

        Raises:
            RequestError: the folder is not a study, or a file of it is damaged.
        """
        directory = StudyDirectory.open(path)
        with reading(directory.file):
            return cls._load(directory, code=code)

    @classmethod
    def _load(cls, directory: StudyDirectory, *, code: bool) -> StudySpec:
        record = directory.read()
        settings = StudySettings.from_dict(record["settings"])
        function = (
            load_function(directory.path / FUNCTION, settings.space) if settings.space and code else None
        )
        space = Space(tuple(Parameter.from_dict(item) for item in record["space"]), function)
        folders = kept_sources(directory.conf)
        spec = cls(
            settings, space, Templates(record["overrides"], folders, settings.name, directory.templates)
        )
        spec.record, spec.sizes = record, dict(record.get("sizes", {}))
        spec.objectives = [(item["metric"], item["direction"]) for item in record["objectives"]]
        return spec

    def sources(self) -> dict[str, str]:
        """The source files that the study's runs are made of (`gatelab.run.record.code.sources`)."""
        return sources(self._code(), on_disk=True)

    def edited(self) -> list[str]:
        """The recorded source files that were edited since the study began."""
        before = self.record.get("sources", {})
        now = self.sources() if before else {}
        return sorted(name for name, digest in before.items() if now.get(name) != digest)

    def _code(self) -> dict[str, Any]:
        """Everything that names code: the templates, and the targets that are tried."""
        swept = [p.choices for p in self.space.parameters if p.key.endswith("_target_")]
        configs: list[Any] = [OmegaConf.to_container(config) for config in self.templates.configs()]
        return {"templates": configs, "swept": [{"_target_": one} for choices in swept for one in choices]}

    def replicates(self) -> list[tuple[int | None, int | None]]:
        """(seed, fold) of each run of a point, in order; None: as the configuration says."""
        return replicates(self.settings.seeds, self.settings.folds)

    def config(
        self, params: Mapping[str, Any], seed: int | None = None, fold: int | None = None
    ) -> tuple[dict[str, Any], Identity]:
        """The resolved configuration of one run of a point, and its identity.

        Args:
            params: override key -> value as Optuna keeps it.
            seed, fold: of the run; None: as the configuration says.

        Raises:
            RequestError: a key that the configuration lacks, a value that cannot be resolved.
        """
        size = self.solved(params)
        return self.unsized({**params, **({HIDDEN: size["hidden"]} if size else {})}, seed, fold)

    def unsized(
        self, params: Mapping[str, Any], seed: int | None = None, fold: int | None = None
    ) -> tuple[dict[str, Any], Identity]:
        """As `config`, before a budget sets the hidden size."""
        composed = self.apply(params)
        if seed is not None:
            composed.config.seed = seed
        if fold is not None:
            composed.config.data.folds, composed.config.data.fold = self.settings.folds, fold
        return composed.resolved(), identify(composed)

    def solved(self, params: Mapping[str, Any]) -> dict[str, int] | None:
        """The hidden size that the budget gives to a point, and its parameters; None without a budget.

        Raises:
            RequestError: the budget is too small, or the network cannot be constructed.
        """
        if self.settings.budget is None:
            return None
        budget, model = parse_budget(self.settings.budget)
        config, _ = self.unsized(params)
        reference = None
        if model is not None:
            try:
                reference, _ = self.unsized({**params, "model": model})
            except RequestError as error:
                raise RequestError(f"study.budget={self.settings.budget}: {error}") from None
        cell = cell_of(config, budget, reference)
        key = size_key(cell)
        if key not in self.sizes:
            self.sizes[key] = solve(cell, config["data"])
        return self.sizes[key]

    def apply(self, params: Mapping[str, Any]) -> Composed:
        """A copy of the template of a point with the point's values set, unresolved."""
        groups, values = self.split(params)
        template = self.templates.get(groups)
        config = copy.deepcopy(template.config)
        OmegaConf.set_struct(config, False)
        for key, value in values.items():
            self._set(config, key, value)
        fixed = [key for override in template.overrides for key in given_keys(override)]
        inner = [
            f"{key}.{k}" for key, value in values.items() for k in (value if isinstance(value, dict) else ())
        ]
        adapt_to_targets(config, [*fixed, *values, *inner])
        given = tuple(f"{key}={value}" for key, value in params.items())
        return Composed(config, template.choices, (*template.overrides, *given), template.directories)

    def split(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(group choices with their prefix, decoded values) of a point."""
        groups: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for key, kept in params.items():
            known = self.space[key]
            # a queue chooses values, it names no code
            foreign = key.endswith("_target_") and not (known and kept in known.values())
            if foreign or isinstance(kept, dict | list):
                raise RequestError(f"{key}={kept}: is not a value of the study's space.")
            if known.group if known else self.templates.is_group(key):
                groups[self._prefix(key) + key] = kept
            else:
                values[key] = known.decode(kept) if known else kept
        return groups, values

    def _prefix(self, key: str) -> str:
        known = self.space[key]
        return known.prefix if known else ""

    def _set(self, config: DictConfig, key: str, value: Any) -> None:
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        there = OmegaConf.is_dict(node) and last in node
        if not there and not self._prefix(key):
            raise RequestError(f"{key}: no such key.{did_you_mean(key, keys_of(config))}")
        if there and self._prefix(key) == "+":
            raise RequestError(f"+{key}: the key exists already; leave out the '+'.")
        OmegaConf.update(config, key, value, merge=True, force_add=True)


class Templates:
    """The composed configurations of a study: one for each combination of the group choices that it tries.

    Once a study is written they are read from its folder, and a combination that is new is composed from the
    folder's copies of the configuration files.

    Args:
        overrides: those that are the same for every point.
        sources: folders with configuration files, `conf/` first.
        study: the study's name: the runs' group in Weights & Biases.
        folder: where they are kept; None while nothing is written.
    """

    def __init__(
        self, overrides: Sequence[str], sources: Sequence[Path], study: str, folder: Path | None = None
    ) -> None:
        self.overrides, self.sources = tuple(overrides), tuple(sources)
        self.study, self.folder = study, folder
        self._found: dict[str, Composed | RequestError] = {}
        self._lock = threading.RLock()

    def is_group(self, key: str) -> bool:
        """Whether a key chooses configuration files."""
        return bool(key) and any((source / key.partition("@")[0]).is_dir() for source in self.sources)

    def options(self, group: str) -> list[str]:
        """The files of a group that can be chosen."""
        folders = [source / group.partition("@")[0] for source in self.sources]
        names = {path.stem for folder in folders for path in folder.glob("*.yaml")}
        return sorted(name for name in names if not name.startswith("_"))

    def get(self, groups: Mapping[str, Any]) -> Composed:
        """The template of a combination of group choices; it is composed, or refused, once.

        Raises:
            RequestError: it does not compose.
        """
        name = template_name(groups)
        with self._lock:
            if name not in self._found:
                try:
                    self._found[name] = self._read(name) or self._compose(groups)
                except RequestError as error:
                    self._found[name] = error
            found = self._found[name]
        if isinstance(found, RequestError):
            raise RequestError(str(found))
        return found

    def _read(self, name: str) -> Composed | None:
        file = self.folder / file_of(name) if self.folder is not None else None
        if file is None or not file.is_file():
            return None
        return Composed(read_template(file), {}, self.overrides, ())

    def _compose(self, groups: Mapping[str, Any]) -> Composed:
        chosen = [f"{key}={value}" for key, value in groups.items()]
        first, *others = self.sources
        composed = compose([*self.overrides, *chosen], config_dirs=others, conf_dir=first)
        config = composed.config
        OmegaConf.set_struct(config, False)
        for key, value in list(config.get("paths", {}).items()):
            if isinstance(value, str):
                config.paths[key] = str(Path(value).absolute())
        config.test = False  # test data is touched by `eval`
        wandb = OmegaConf.select(config, "logger.wandb")
        if OmegaConf.is_dict(wandb):
            if wandb.get("group") in (None, config.name):
                wandb.group = self.study
            if wandb.get("job_type", "train") == "train":
                wandb.job_type = "sweep"
        if self.folder is not None:
            _write(self.folder, template_name(groups), config)
        return composed

    def used(self) -> list[str]:
        """The overrides and the group choices of every template: they name the groups that are needed."""
        return [*self.overrides, *(choice for name in self._found for choice in name.split(","))]

    def configs(self) -> list[DictConfig]:
        """Every template that was composed, here or before."""
        kept = sorted(self.folder.glob("*.yaml")) if self.folder is not None else []
        found = [composed.config for composed in self._found.values() if isinstance(composed, Composed)]
        return [*found, *map(read_template, kept)]

    def keep(self, folder: Path) -> None:
        """Write every template that was composed."""
        for name, found in self._found.items():
            if isinstance(found, Composed):
                _write(folder, name, found.config)


def read_template(file: Path) -> DictConfig:
    """A template of a study's folder `ROOT/studies/NAME/templates`; if the folder was moved, with the root of now.

    Raises:
        RequestError: it cannot be read; YAML's aliases, which can stand for endlessly much, are not read.
    """
    try:
        text = file.read_text()
        if "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise RequestError(f"{file}: damaged, it holds YAML aliases.")
        config = OmegaConf.create(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RequestError(
            f"{file}: cannot be read ({(str(error) or repr(error)).splitlines()[0]})."
        ) from None
    if not isinstance(config, DictConfig):
        raise RequestError(f"{file}: damaged, it is not a configuration.")
    paths, root = config.get("paths"), file.absolute().parents[3]
    before = paths.get("root") if OmegaConf.is_dict(paths) else None
    for key, place in list(paths.items()) if before is not None else ():
        if isinstance(place, str) and Path(place).is_relative_to(str(before)):
            paths[key] = str(root / Path(place).relative_to(str(before)))
    return config


def template_name(groups: Mapping[str, Any]) -> str:
    """`model=gru,optim=adam`; an empty text where no group is swept."""
    return ",".join(f"{key}={value}" for key, value in sorted(groups.items()))


def file_of(name: str) -> str:
    """The file of a template."""
    return f"{hashlib.sha256(name.encode()).hexdigest()[:8]}.yaml"


def _write(folder: Path, name: str, config: DictConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = f"# {name or 'no group is swept'}\n{OmegaConf.to_yaml(config)}"
    atomic_write_text(folder / file_of(name), text)


def sources_of(config_dirs: Sequence[Path]) -> tuple[Path, ...]:
    """The folders that configurations are composed from before a study is written."""
    return (CONF_DIR, *config_dirs)


def copy_sources(sources: Sequence[Path], target: Path, keys: Sequence[str] = ()) -> None:
    """Copy the configuration files of each source to `target/0`, `target/1`, ..., in the order of the search.

    Args:
        sources: folders laid out like `conf/`; target: a new folder.
        keys: of overrides; of a folder of the user's, only groups that they, `conf/` or its own defaults lists name
            are copied.

    Raises:
        RequestError: there are too many files.
    """
    for index, source in enumerate(sources):
        kept = target / str(index)
        kept.mkdir(parents=True)
        for file, text in config_files(source, keys).items():
            (kept / file).parent.mkdir(parents=True, exist_ok=True)
            (kept / file).write_text(text)


def config_files(source: Path, keys: Sequence[str]) -> dict[str, str]:
    """Relative name -> text of the YAML files that Hydra could read in a folder.

    Raises:
        RequestError: there are more than `MOST_FILES`.
    """
    named = {path.stem for path in CONF_DIR.iterdir()} | {
        NAME_OF_GROUP.split(key.lstrip("+~"))[0] for key in keys
    }
    found: dict[str, str] = {}
    seen = {""}
    while named := named - seen:
        seen |= named
        files = [f for name in named for f in (source / f"{name}.yaml", *(source / name).rglob("*.yaml"))]
        added = {f.relative_to(source).as_posix(): f.read_text() for f in sorted(files) if f.is_file()}
        found |= added
        if len(found) > MOST_FILES:
            raise RequestError(
                f"--config-dir {source}: more than {MOST_FILES} YAML files; give a folder that holds configurations "
                "only, laid out like conf/ (e.g. DIR/experiment/mine.yaml)"
            )
        named = {name for text in added.values() for name in NAMED.findall(text)}
    return found


def kept_sources(target: Path) -> tuple[Path, ...]:
    """The copies that `copy_sources` made, in their order."""
    return tuple(sorted((p for p in target.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)))
