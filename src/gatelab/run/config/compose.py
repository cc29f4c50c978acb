"""Compose a Hydra configuration from overrides, and say plainly what is wrong with them.

Composition only: types and signatures are checked in `schema.py`. Hydra's own messages name a key
but not its nearest spelling; here every mistake becomes one `RequestError` that does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gatelab.data.messages import did_you_mean
from gatelab.run.config import CONF_DIR
from gatelab.run.errors import RequestError

NULL_CHOICE = {"logger": "off", "experiment": None, "debug": None}
"""Groups that may be null, and the choice that means the same; None: the group is null by default."""


@dataclass(frozen=True)
class Composed:
    """A composed configuration and where it came from.

    Attributes:
        config: resolved lazily by OmegaConf, without the `hydra` node.
        choices: group -> chosen file, e.g. `{"data": "ptb_word", "model": "gru"}`.
        overrides: as they were given.
        directories: the folders that were searched for configuration files.
    """

    config: DictConfig
    choices: dict[str, Any]
    overrides: tuple[str, ...]
    directories: tuple[Path, ...]

    def resolved(self) -> dict[str, Any]:
        """The configuration as plain data with every interpolation resolved."""
        try:
            resolved = OmegaConf.to_container(self.config, resolve=True, throw_on_missing=True)
        except MissingMandatoryValue as error:
            raise RequestError(f"{error.full_key}: missing; give {error.full_key}=...") from None
        except OmegaConfBaseException as error:
            raise RequestError(f"{error.full_key}: {error.msg or error}") from None
        assert isinstance(resolved, dict)
        return {str(key): value for key, value in resolved.items()}


def compose(
    overrides: Sequence[str] = (),
    *,
    root: str = "train",
    config_dirs: Sequence[Path] = (),
    conf_dir: Path = CONF_DIR,
) -> Composed:
    """Compose `conf/<root>.yaml` with `overrides`.

    Args:
        overrides: Hydra's override grammar, e.g. `["data=ptb_word", "model.hidden_size=200"]`.
        root: name of the root file.
        config_dirs: further folders laid out like `conf/`, searched after it.
        conf_dir: the folder `conf/` itself, or a copy of it.

    Raises:
        RequestError: a wrong key, group choice, value or file, with the nearest spelling.
    """
    for folder in config_dirs:
        if not folder.is_dir():
            raise RequestError(f"--config-dir {folder}: no such folder")
    search = [f"file://{folder.resolve()}" for folder in config_dirs]
    hydra_overrides = _without_null_groups(overrides, conf_dir)
    if search:
        hydra_overrides.append(f"hydra.searchpath=[{','.join(search)}]")
    try:
        config = _compose(root, hydra_overrides, conf_dir)
    except MissingConfigException as error:
        raise RequestError(_explain_missing(error)) from None
    except OverrideParseException as error:
        raise RequestError(explain_grammar(error)) from None
    except ConfigCompositionException as error:
        raise RequestError(_explain_key(str(error), root, overrides, hydra_overrides, conf_dir)) from None
    except yaml.YAMLError as error:
        raise RequestError(f"not valid YAML: {' '.join(str(error).split())}") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(f"the configuration does not compose: {error}") from None
    choices = {k: v for k, v in config.hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
    experiment = choices.get("experiment")
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    if config.get("name", "") is None:
        config.name = experiment or f"{choices['data']}-{choices['model']}"
    return Composed(config, choices, tuple(overrides), (conf_dir, *config_dirs))


def _without_null_groups(overrides: Sequence[str], conf_dir: Path) -> list[str]:
    """The overrides with `GROUP=null`, which Hydra does not know, as the choice that means it.

    Raises:
        RequestError: a run cannot do without that group.
    """
    kept = []
    for override in overrides:
        group, _, choice = override.partition("=")
        if choice not in ("null", "None", "~") or not (conf_dir / group).is_dir():
            kept.append(override)
        elif group in NULL_CHOICE:
            kept += [f"{group}={NULL_CHOICE[group]}"] if NULL_CHOICE[group] else []
        else:
            names = sorted(p.stem for p in (conf_dir / group).glob("*.yaml") if not p.stem.startswith("_"))
            raise RequestError(f"{override}: a run needs one. Choices for {group}: {', '.join(names)}.")
    return kept


def _compose(root: str, overrides: Sequence[str], conf_dir: Path) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir.resolve()), version_base="1.3"):
        return hydra_compose(root, list(overrides), return_hydra_config=True)


def keys_of(config: DictConfig) -> list[str]:
    """Every dotted key of a configuration, groups included."""
    found: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        if OmegaConf.is_dict(node):
            for key in node:
                found.append(f"{prefix}{key}")
                child = node._get_node(key)
                walk(child, f"{prefix}{key}.")

    walk(config, "")
    return found


def _explain_missing(error: MissingConfigException) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    options = [o for o in (error.options or []) if not o.startswith("_")]
    if not group:
        return f"no configuration file '{choice}'.{did_you_mean(choice, options)}"
    asker = re.match(r"In '([^']+)'", str(error))
    where = f" (asked for in {asker[1]}.yaml)" if asker and asker[1] != "train" else ""
    listed = ", ".join(options) or "none"
    return f"{group}={choice}: no such choice{where}.{did_you_mean(choice, options)} Choices for {group}: {listed}."


def explain_grammar(error: OverrideParseException) -> str:
    """Which override Hydra's grammar cannot read, and why."""
    lines = [line for line in str(error).splitlines() if not line.startswith("Error parsing override")]
    first = lines[0] if lines else "not in Hydra's grammar"
    return f"cannot read the override '{error.override}': {first}. Overrides are written key=value."


def _explain_key(
    message: str, root: str, overrides: Sequence[str], hydra_overrides: Sequence[str], conf_dir: Path
) -> str:
    swept = re.search(r"(?:Sweep parameters|Ambiguous value for argument) '([^']+)'", message)
    if swept:
        return f"{swept[1]}: several values; `gatelab sweep` tries them all."
    match = re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", message)
    if match is None:
        return f"the configuration does not compose: {message.splitlines()[0]}"
    key = match[1]
    without = [o for o in hydra_overrides if o.lstrip("+~").split("=")[0].split("@")[0] != key]
    try:
        known = keys_of(_compose(root, without, conf_dir))
    except (HydraException, OmegaConfBaseException):
        known = []
    known = [k for k in known if not k.startswith("hydra") and "_target_" not in k and "_partial_" not in k]
    parent = key.rpartition(".")[0]
    siblings = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent]
    hint = did_you_mean(key, known)
    if parent and siblings and not hint:
        hint = f" Keys of '{parent}': {', '.join(siblings)}."
    given = next((o for o in overrides if o.lstrip("+~").startswith(key)), None)
    where = (
        f"on the command line ({given})" if given else f"in a configuration file ({message.splitlines()[0]})"
    )
    return f"{key}: no such key, {where}.{hint}"
