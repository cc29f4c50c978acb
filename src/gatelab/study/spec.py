"""A study's frozen configurations: from a point's values to the plain configuration of a run.

`study.json`, the templates and the copies of the configuration files are written once (`draft.py`), before the
first trial; every hyperparameter of every run comes from them. Hydra is asked only for templates; a point is a
template with values set, which takes a fraction of a millisecond.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gatelab.run.config import CONF_DIR
from gatelab.run.config.compose import Composed, compose, keys_of, nearest
from gatelab.run.errors import RequestError
from gatelab.run.record.identity import Identity, hash_of, identity_of
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.equal_parameters import HIDDEN, cell_of, parse_budget, size_key
from gatelab.study.settings import StudySettings
from gatelab.study.space import Parameter, Space, load_function

FUNCTION = "space.py"
REFERENCE = re.compile(r"\$\{([^${}:]+)\}")


@dataclass(frozen=True)
class _Base:
    """A template with seed and fold set, resolved once; `hashed` is the same with the seed taken out."""

    plain: dict[str, Any]
    hashed: dict[str, Any]
    name: str
    seed: int


class StudySpec:
    """What a study runs.

    Attributes:
        settings: of the study.
        space: what is tried.
        templates: the composed configurations.
        overrides: those that hold for every point.
        objectives: (metric, minimize or maximize) for each.
        sizes: solved hidden sizes by `equal.size_key`: {"hidden", "parameters"}; of studies with a budget.
        record: what `study.json` says; empty before it is written.
    """

    def __init__(self, settings: StudySettings, space: Space, templates: Templates) -> None:
        self.settings, self.space, self.templates = settings, space, templates
        self.overrides = templates.overrides
        self.objectives: list[tuple[str, str]] = []
        self.sizes: dict[str, dict[str, int]] = {}
        self.record: dict[str, Any] = {}
        self._bases: dict[tuple[str, int | None, int | None], _Base] = {}
        self._references: dict[str, set[str]] = {}
        self._lock = threading.RLock()

    @classmethod
    def load(cls, path: str | Path) -> StudySpec:
        """Read the study in a folder.

        Raises:
            RequestError: the folder holds no study, or its study.json cannot be read.
        """
        directory = StudyDirectory.open(path)
        record = directory.read()
        settings = StudySettings.from_dict(record["settings"])
        function = load_function(directory.path / FUNCTION, settings.space) if settings.space else None
        space = Space(tuple(Parameter.from_dict(item) for item in record["space"]), function)
        templates = Templates(
            record["overrides"], kept_sources(directory.conf), settings.name, directory.templates
        )
        frozen = cls(settings, space, templates)
        frozen.record, frozen.sizes = record, dict(record.get("sizes", {}))
        frozen.objectives = [(item["metric"], item["direction"]) for item in record["objectives"]]
        return frozen

    def replicates(self) -> list[tuple[int | None, int | None]]:
        """(seed, fold) of each run of a point, in order; None: as the configuration says."""
        seeds: list[int | None] = [*self.settings.seeds] or [None]
        folds: list[int | None] = [*range(self.settings.folds)] if self.settings.folds else [None]
        return [(seed, fold) for seed in seeds for fold in folds]

    def config(
        self, params: Mapping[str, Any], seed: int | None = None, fold: int | None = None
    ) -> tuple[dict[str, Any], Identity]:
        """The resolved configuration of one run of a point, and which run it is.

        Args:
            params: override key -> value as Optuna keeps it.
            seed, fold: of the run; None: as the configuration says.

        Raises:
            RequestError: a key that the configuration lacks, a value that cannot be resolved.
        """
        size = self.solved(params)
        return self.unsized({**params, **({HIDDEN: size["hidden"]} if size else {})}, seed, fold)

    def solved(self, params: Mapping[str, Any]) -> dict[str, int] | None:
        """The hidden size that the study's budget gives to a point, and its parameters; None without a budget."""
        if self.settings.budget is None:
            return None
        from gatelab.study.plan.model_checker import Nets

        cell = self.cell(params)
        key = size_key(cell)
        if key not in self.sizes:
            with Nets() as nets:
                self.sizes[key] = nets.solve([(cell, self.unsized(params)[0]["data"])])[0]
        return self.sizes[key]

    def cell(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What the size of a point depends on (`equal_parameters.cell_of`)."""
        assert self.settings.budget is not None
        budget, model = parse_budget(self.settings.budget)
        config, _ = self.unsized(params)
        if model is None:
            return cell_of(config, budget, None)
        try:
            reference, _ = self.unsized({**params, "model": model})
        except RequestError as error:
            raise RequestError(f"study.budget={self.settings.budget}: {error}") from None
        return cell_of(config, None, reference)

    def unsized(
        self, params: Mapping[str, Any], seed: int | None = None, fold: int | None = None
    ) -> tuple[dict[str, Any], Identity]:
        """As `config`, before the budget has its say."""
        groups, values = self.split(params)
        with self._lock:
            base = self._base(groups, seed, fold)
            simple = all(self._is_simple(groups, key, value) for key, value in values.items())
        if not simple:
            config = self.apply(params).config
            self._set_run(config, seed, fold)
            return resolve(config), identity_of(config)
        plain, hashed = copy.deepcopy(base.plain), copy.deepcopy(base.hashed)
        for key, value in values.items():
            *outer, last = key.split(".")
            for node in (plain, hashed):
                for part in outer:
                    node = node[part]
                node[last] = copy.deepcopy(value)
        return plain, Identity(base.name, hash_of(hashed)[:8], base.seed)

    def _base(self, groups: Mapping[str, Any], seed: int | None, fold: int | None) -> _Base:
        key = (template_name(groups), seed, fold)
        if key not in self._bases:
            config = copy.deepcopy(self.templates.get(groups).config)
            self._set_run(config, seed, fold)
            number = int(config.seed)
            plain = resolve(config)
            config.seed = 0
            self._bases[key] = _Base(plain, resolve(config), str(config.name), number)
        return self._bases[key]

    def _set_run(self, config: DictConfig, seed: int | None, fold: int | None) -> None:
        OmegaConf.set_struct(config, False)
        if seed is not None:
            config.seed = seed
        if fold is not None:
            config.data.folds, config.data.fold = self.settings.folds, fold

    def _is_simple(self, groups: Mapping[str, Any], key: str, value: Any) -> bool:
        """Whether setting a value in resolved data is the same as setting it before resolving."""
        if isinstance(value, dict) or "${" in str(value) or key in ("name", "seed") or self._prefix(key):
            return False
        node: Any = self.templates.get(groups).config
        *outer, last = key.split(".")
        for part in outer:
            node = node._get_node(part) if OmegaConf.is_dict(node) else None
        if not OmegaConf.is_dict(node) or last not in node or OmegaConf.is_dict(node._get_node(last)):
            return False
        names = self.referenced(groups)
        return not any(f"{key}.".startswith((f"{n}.", ".")) or n.startswith((f"{key}.", ".")) for n in names)

    def referenced(self, groups: Mapping[str, Any]) -> set[str]:
        """The keys that interpolations of a template name."""
        name = template_name(groups)
        if name not in self._references:
            raw = OmegaConf.to_yaml(self.templates.get(groups).config)
            self._references[name] = {match.strip() for match in REFERENCE.findall(raw)}
        return self._references[name]

    def apply(self, params: Mapping[str, Any]) -> Composed:
        """The template of a point with the point's values set, unresolved; a copy."""
        groups, values = self.split(params)
        with self._lock:
            template = self.templates.get(groups)
            config = copy.deepcopy(template.config)
        OmegaConf.set_struct(config, False)
        for key, value in values.items():
            self._set(config, key, value)
        given = tuple(f"{key}={value}" for key, value in params.items())
        return Composed(config, template.choices, (*template.overrides, *given), template.directories)

    def split(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(group choices with their prefix, decoded values) of a point."""
        groups: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for key, kept in params.items():
            known = self.space[key]
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
            raise _no_such_key(key, config)
        if there and self._prefix(key) == "+":
            raise RequestError(f"+{key}: the key exists already; leave out the '+'.")
        OmegaConf.update(config, key, value, merge=True, force_add=True)


def _no_such_key(key: str, config: DictConfig) -> RequestError:
    return RequestError(f"{key}: no such key.{nearest(key, keys_of(config))}")


def resolve(config: DictConfig) -> dict[str, Any]:
    """Plain data without interpolations.

    Raises:
        RequestError: a value that is missing or cannot be resolved.
    """
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise RequestError(f"{error.full_key}: {error.msg or error}") from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


SKIPPED = {"runs", "studies", "data-cache", "__pycache__", "node_modules"}


class Templates:
    """Compose, keep and read back templates.

    Args:
        overrides: those that are the same for every point.
        sources: folders with configuration files, `conf/` first.
        study: the study's name: the runs' group in Weights & Biases.
        folder: where they are kept; None while nothing is written.
    """

    def __init__(
        self, overrides: Sequence[str], sources: Sequence[Path], study: str, folder: Path | None = None
    ) -> None:
        self.overrides, self.sources, self.study, self.folder = (
            tuple(overrides),
            tuple(sources),
            study,
            folder,
        )
        self._composed: dict[str, Composed] = {}
        self._refused: dict[str, str] = {}

    def is_group(self, key: str) -> bool:
        """Whether a key chooses configuration files."""
        return bool(key) and any((source / key.partition("@")[0]).is_dir() for source in self.sources)

    def options(self, group: str) -> list[str]:
        """The files of a group that can be chosen."""
        files = [
            path for source in self.sources for path in (source / group.partition("@")[0]).glob("*.yaml")
        ]
        return sorted({path.stem for path in files if not path.stem.startswith("_")})

    def get(self, groups: Mapping[str, Any]) -> Composed:
        """The template of a combination of group choices; a refusal is found once, too, however many jobs ask.

        Raises:
            RequestError: it does not compose.
        """
        name = template_name(groups)
        if name in self._refused:
            raise RequestError(self._refused[name])
        if name not in self._composed:
            file = None if self.folder is None else self.folder / file_of(name)
            if file is not None and file.is_file():
                config = OmegaConf.load(file)
                assert isinstance(config, DictConfig)
                self._composed[name] = Composed(config, {}, self.overrides, ())
            else:
                try:
                    self._composed[name] = self._compose(groups)
                except RequestError as error:
                    self._refused[name] = str(error)
                    raise
                if file is not None:
                    _write(file, self._composed[name].config, name)
        return self._composed[name]

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
            if wandb._get_node("group") is None or wandb.group in (None, config.name):
                wandb.group = self.study
            if wandb.get("job_type", "train") == "train":
                wandb.job_type = "sweep"
        return composed

    def keep(self, folder: Path) -> dict[str, str]:
        """Write every template that was composed; return name -> file, relative to the study's folder."""
        for name, composed in self._composed.items():
            _write(folder / file_of(name), composed.config, name)
        return {name: f"{folder.name}/{file_of(name)}" for name in self._composed}


def template_name(groups: Mapping[str, Any]) -> str:
    """`model=gru,optim=adam`; an empty text where no group is swept."""
    return ",".join(f"{key}={value}" for key, value in sorted(groups.items()))


def file_of(name: str) -> str:
    """The file of a template."""
    return f"{hashlib.sha256(name.encode()).hexdigest()[:8]}.yaml"


def _write(file: Path, config: DictConfig, name: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_text(f"# {name or 'no group is swept'}\n{OmegaConf.to_yaml(config)}")
    os.replace(temporary, file)


def sources_of(config_dirs: Sequence[Path]) -> tuple[Path, ...]:
    """The folders that configurations are composed from before a study is written."""
    return (CONF_DIR, *config_dirs)


def copy_sources(sources: Sequence[Path], target: Path) -> None:
    """Copy the YAML files of each source to `target/0`, `target/1`, ..., in the order of the search."""
    for index, source in enumerate(sources):
        for file, text in yaml_files(source).items():
            copied = target / str(index) / file
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_text(text)
        (target / str(index)).mkdir(parents=True, exist_ok=True)


def yaml_files(source: Path) -> dict[str, str]:
    """Relative name -> text of every YAML file of a folder; hidden folders and what commands write are left out."""
    found: dict[str, str] = {}
    for folder, names, files in os.walk(source):
        names[:] = sorted(n for n in names if not n.startswith(".") and n not in SKIPPED)
        for name in sorted(files):
            if name.endswith(".yaml"):
                path = Path(folder, name)
                found[path.relative_to(source).as_posix()] = path.read_text()
    return found


def kept_sources(target: Path) -> tuple[Path, ...]:
    """The copies that `copy_sources` made, in their order."""
    return tuple(sorted((p for p in target.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)))
