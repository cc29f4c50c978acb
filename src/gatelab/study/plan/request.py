"""What the command line of a sweep asks for: settings of the study, the launcher, fixed overrides and swept ones.

Only reading and sorting: Hydra's grammar reads each override, and a committed space (`search=NAME`) is a YAML
file with `params:` and `study:`. Nothing is composed, and no value is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gatelab.run.config import CONF_DIR
from gatelab.run.config.compose import explain_grammar, nearest
from gatelab.run.errors import RequestError
from gatelab.study.engine.storage import PASSWORD, split_password
from gatelab.study.settings import setting_names

OURS = ("study", "search", "launcher")


@dataclass(frozen=True)
class Request:
    """A sweep as it was asked for.

    Attributes:
        given: settings of the study that were named, on the command line or by a committed space.
        launcher: the choice of `conf/launcher/`; options: its keys, as overrides.
        fixed: overrides that hold for every point, in order.
        swept: overrides that list or bound values.
        search: names of the committed spaces.
    """

    given: dict[str, Any] = field(default_factory=dict)
    launcher: str = "local"
    options: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    swept: tuple[Override, ...] = ()
    search: tuple[str, ...] = ()


def parse(lines: Iterable[str]) -> list[Override]:
    """Read overrides with Hydra's grammar; a setting of the study that it cannot read is taken as text.

    Raises:
        RequestError: naming the one that cannot be read.
    """
    parser = OverridesParser.create()
    found = []
    for line in lines:
        try:
            found += parser.parse_overrides([line])
        except OverrideParseException as error:
            key, equals, value = line.partition("=")
            if not equals or not key.lstrip("+").startswith("study.") or not value:
                raise RequestError(explain_grammar(error)) from None
            quoted = value.replace("'", "\\'")
            found += parser.parse_overrides([f"{key}='{quoted}'"])  # study.budget=parameters:match(gru)
    return found


def read_request(overrides: Sequence[str], sources: Sequence[Path]) -> Request:
    """Sort the overrides of a sweep.

    Args:
        overrides: as on the command line.
        sources: folders with configuration files; committed spaces lie in their `search/`.

    Raises:
        RequestError: a key or a value that cannot be, with the nearest spelling.
    """
    parsed = parse(overrides)
    search = _names(parsed)
    given: dict[str, Any] = {}
    inherited: dict[str, Override] = {}
    for name in search:
        params, settings = read_search(name, sources)
        given |= settings
        inherited |= {override.get_key_element().lstrip("+~"): override for override in params}
    plain = [o for o in parsed if _root(o) not in OURS]
    named = {o.get_key_element().lstrip("+~") for o in plain}
    plain = [o for key, o in inherited.items() if key not in named] + plain
    for override in parsed:
        if _root(override) == "study":
            _set(given, override)
    for override in plain:
        if override.is_hydra_override():
            raise RequestError(f"{override.input_line}: Hydra's own keys are the study's to set.")
    return Request(
        given=given,
        launcher=_launcher(parsed),
        options=tuple(_option(o) for o in parsed if _root(o) == "launcher" and "." in o.key_or_group),
        fixed=tuple(str(o.input_line) for o in plain if not o.is_sweep_override()),
        swept=tuple(o for o in plain if o.is_sweep_override()),
        search=tuple(search),
    )


def _root(override: Override) -> str:
    return str(override.key_or_group).partition(".")[0]


def _plain(override: Override) -> Any:
    if override.is_sweep_override():
        raise RequestError(f"{override.input_line}: {override.key_or_group} cannot be swept.")
    if override.is_delete():
        raise RequestError(f"{override.input_line}: {override.key_or_group} cannot be taken away.")
    return override.value()


def _names(parsed: Sequence[Override]) -> list[str]:
    found: list[str] = []
    for override in parsed:
        if _root(override) == "search":
            value = _plain(override)
            found += [
                str(item) for item in (value if isinstance(value, list) else [value]) if item is not None
            ]
    return found


def _set(given: dict[str, Any], override: Override) -> None:
    """Apply `study=NAME`, `study.key=value` or `study.options.key=value`."""
    value, path = _plain(override), str(override.key_or_group).split(".")[1:]
    if not path:
        if not isinstance(value, str | int | float):
            raise RequestError(f"{override.input_line}: give a name, study=NAME.")
        given["name"] = override.get_value_string().strip("'\"")
    elif len(path) == 1:
        given[path[0]] = value
    else:
        inner = given.setdefault(path[0], {})
        if (
            path[0] not in ("sampler_options", "pruner_options")
            or len(path) > 2
            or not isinstance(inner, dict)
        ):
            hint = nearest(path[0], ["sampler_options", "pruner_options"])
            raise RequestError(f"{override.input_line}: study.{path[0]} holds no further keys.{hint}")
        given[path[0]] = {**inner, path[1]: value}


def _launcher(parsed: Sequence[Override]) -> str:
    chosen = [_plain(o) for o in parsed if o.key_or_group == "launcher"]
    return str(chosen[-1]) if chosen else "local"


def _option(override: Override) -> str:
    _plain(override)
    return str(override.input_line)


def read_search(name: str, sources: Sequence[Path]) -> tuple[list[Override], dict[str, Any]]:
    """The parameters and settings of the committed space `search/<name>.yaml`; the first source that has it counts.

    Raises:
        RequestError: there is none, or it holds something else.
    """
    files = [source / "search" / f"{name}.yaml" for source in sources]
    file = next((path for path in files if path.is_file()), None)
    if file is None:
        known = sorted({path.stem for source in sources for path in (source / "search").glob("*.yaml")})
        raise RequestError(
            f"search={name}: no such choice.{nearest(name, known)} Choices: {', '.join(known)}."
        )
    shown = f"search/{name}.yaml"
    try:
        content = OmegaConf.to_container(OmegaConf.load(file))
    except (OmegaConfBaseException, OSError, ValueError) as error:
        raise RequestError(f"{shown}: cannot be read: {error!s}") from None
    if not isinstance(content, dict):
        raise RequestError(f"{shown}: give `params:` and `study:`.")
    for key in map(str, content):
        if key not in ("params", "study"):
            raise RequestError(f"{shown}: {key}: no such key.{nearest(key, ['params', 'study'])}")
    params, settings = content.get("params") or {}, content.get("study") or {}
    if not isinstance(params, dict) or not isinstance(settings, dict):
        raise RequestError(f"{shown}: params and study hold keys and values.")
    for key in settings:
        if key not in setting_names() or key == "name":
            raise RequestError(f"{shown}: study.{key}: no such key.{nearest(str(key), setting_names())}")
    if split_password(str(settings.get("storage")))[1] is not None:
        raise RequestError(f"{shown}: study.storage: no passwords in files; set {PASSWORD} instead.")
    for key, value in params.items():
        if not isinstance(value, str | int | float):
            raise RequestError(f"{shown}: {key}: write the values as on a command line, e.g. 32,64,128.")
    lines = [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in params.items()
    ]
    return parse(lines), {str(key): value for key, value in settings.items()}


def value_of(overrides: Iterable[Override], key: str) -> Any:
    """The last plain value that is given to a key; None if there is none."""
    found = [o.value() for o in overrides if o.key_or_group == key and not o.is_sweep_override()]
    return found[-1] if found else None


def root_of(overrides: Sequence[str], sources: Sequence[Path]) -> Path:
    """`paths.root`, read without composing anything: a study is found also when configurations no longer compose."""
    parsed = parse(overrides)
    named = value_of(parsed, "paths.root")
    if named is None:
        choice = value_of(parsed, "paths") or "default"
        files = [source / "paths" / f"{choice}.yaml" for source in (*sources, CONF_DIR)]
        file = next((path for path in files if path.is_file()), None)
        if file is None:
            raise RequestError(f"paths={choice}: no such choice.")
        named = OmegaConf.create({"paths": OmegaConf.load(file)}).paths.root
    return Path(str(named)).absolute()
