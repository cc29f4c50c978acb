"""The composed configurations of a study: one for each combination of the group choices that it tries.

Hydra composes each of them once; a point is then a copy with values set (`freeze.py`). Once a study is
written, they are read from its folder, and a combination that is new comes from the folder's copy of the
configuration files, so that a file edited later changes nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gatelab.run.config import CONF_DIR
from gatelab.run.config.compose import Composed, compose
from gatelab.run.errors import RequestError

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
