"""A study's frozen configurations: from a point's values to the plain configuration of a run.

`study.json`, the templates and the copies of the configuration files are written once, before the first
trial; every hyperparameter of every run comes from them. What is asked for on the command line is read in
`request.py`, compared with an existing study in `compare.py`; the queue is elsewhere.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gatelab.lab.compose import Composed, keys_of, nearest
from gatelab.lab.errors import RequestError
from gatelab.lab.identity import Identity, identity_of
from gatelab.lab.study.settings import StudySettings
from gatelab.lab.study.space import Parameter, Space, load_function
from gatelab.lab.study.templates import Templates, kept_sources

STUDY_FILE, TEMPLATES, CONF, FUNCTION = "study.json", "templates", "conf", "space.py"


class Frozen:
    """What a study runs.

    Attributes:
        settings: of the study.
        space: what is tried.
        overrides: those that hold for every point.
        templates: the composed configurations.
        sizes: solved hidden sizes by `size_key`, where the study has a budget.
    """

    def __init__(self, settings: StudySettings, space: Space, templates: Templates) -> None:
        self.settings, self.space, self.templates = settings, space, templates
        self.overrides = templates.overrides
        self.record: dict[str, Any] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: str | Path) -> Frozen:
        """Read the study in a folder.

        Raises:
            RequestError: the folder holds no study, or its study.json cannot be read.
        """
        path = Path(path)
        record = read_record(path)
        settings = StudySettings.from_dict(record["settings"])
        function = load_function(path / FUNCTION, settings.space) if settings.space else None
        space = Space(tuple(Parameter.from_dict(item) for item in record["space"]), function)
        templates = Templates(record["overrides"], kept_sources(path / CONF), settings.name, path / TEMPLATES)
        frozen = cls(settings, space, templates)
        frozen.record = record
        return frozen

    @property
    def objectives(self) -> list[tuple[str, str]]:
        """(metric, minimize or maximize) for each."""
        return [(item["metric"], item["direction"]) for item in self.record["objectives"]]

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
        with self._lock:
            config = self.apply(params).config
        if seed is not None:
            config.seed = seed
        if fold is not None:
            config.data.folds, config.data.fold = self.settings.folds, fold
        return resolve(config), identity_of(config)

    def apply(self, params: Mapping[str, Any]) -> Composed:
        """The template of a point with the point's values set, unresolved; a copy."""
        groups, values = self.split(params)
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
                groups[(known.prefix if known else "") + key] = kept
            else:
                values[key] = known.decode(kept) if known else kept
        return groups, values

    def _set(self, config: DictConfig, key: str, value: Any) -> None:
        known = self.space[key]
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        there = OmegaConf.is_dict(node) and last in node
        prefix = known.prefix if known else ""
        if not there and not prefix:
            raise RequestError(f"{key}: no such key.{nearest(key, keys_of(config))}")
        if there and prefix == "+":
            raise RequestError(f"+{key}: the key exists already; leave out the '+'.")
        OmegaConf.update(config, key, value, merge=True, force_add=True)


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


def read_record(path: Path) -> dict[str, Any]:
    """What `study.json` says.

    Raises:
        RequestError: it is not there, or not readable.
    """
    file = path / STUDY_FILE
    try:
        record = json.loads(file.read_text())
    except FileNotFoundError:
        raise RequestError(f"{path}: holds no {STUDY_FILE}, so it is not a study.") from None
    except json.JSONDecodeError as error:
        raise RequestError(f"{file}: not valid JSON ({error}).") from None
    if not isinstance(record, dict) or record.get("format") != 1:
        raise RequestError(f"{file}: not a study of this version of Gatelab.")
    return record
