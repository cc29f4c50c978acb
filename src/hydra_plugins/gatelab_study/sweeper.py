"""A Hydra sweeper: `hydra/sweeper=gatelab` makes `-m` of an application on Gatelab's configurations a study.

`python app.py -m hydra/sweeper=gatelab hydra.sweeper.name=size model.hidden_size=64,128`. The application's own
function is not called: a run of a study is what `gatelab train` does, in a process of its own, from a frozen
configuration. No `from __future__ import annotations` here:
Hydra runs the module before Python knows it by name.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class SweeperConf:
    """`hydra/sweeper=gatelab`.

    Attributes:
        name: of the study; None: by its configuration.
        launcher: of Gatelab's `conf/launcher/`; options: its keys.
        study: further settings, e.g. `+hydra.sweeper.study.slots=2`.
    """

    _target_: str = "hydra_plugins.gatelab_study.sweeper.GatelabSweeper"
    name: str | None = None
    launcher: str = "local"
    options: dict[str, Any] = field(default_factory=dict)
    study: dict[str, Any] = field(default_factory=dict)


class GatelabSweeper(Sweeper):
    """Hands the overrides to `gatelab.study.sweep`."""

    def __init__(self, name: str | None, launcher: str, options: DictConfig, study: DictConfig) -> None:
        self.name, self.chosen, self.options, self.study = name, launcher, options, study

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the configuration; its sources are where configurations are searched."""
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the study; what `gatelab.study.sweep.sweep` returns."""
        from gatelab.run.config import CONF_DIR
        from gatelab.study.sweep import sweep

        assert self.config is not None
        sources = [source for source in self.config.hydra.runtime.config_sources if source.schema == "file"]
        folders = [Path(source.path) for source in sources if source.provider != "schema"]
        others = [folder for folder in folders if folder.resolve() != CONF_DIR.resolve()]
        return sweep([*arguments, *self._ours()], config_dirs=others)

    def _ours(self) -> list[str]:
        settings = OmegaConf.to_container(self.study, resolve=True)
        options = OmegaConf.to_container(self.options, resolve=True)
        assert isinstance(settings, dict)
        assert isinstance(options, dict)
        return [
            *([f"study.name={self.name}"] if self.name else []),
            f"launcher={self.chosen}",
            *(f"launcher.{key!s}={_text(value)}" for key, value in options.items()),
            *(f"study.{key!s}={_text(value)}" for key, value in settings.items()),
        ]


def _text(value: Any) -> str:
    """A value as an override writes it."""
    from hydra.core.override_parser.types import Override

    return Override._get_value_element_as_str(value)


ConfigStore.instance().store(group="hydra/sweeper", name="gatelab", node=SweeperConf, provider="gatelab")
