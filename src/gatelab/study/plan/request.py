"""The request of a sweep: its overrides sorted into settings of the study, the launcher, fixed and swept ones.

Hydra's grammar reads each override; a committed space (`search=NAME`) is a YAML file with `params:` and `study:`.
Nothing is composed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gatelab.data.messages import did_you_mean
from gatelab.run import CONF_DIR, RequestError
from gatelab.run.config.explain import explain_grammar
from gatelab.run.hydra_habits import refuse_key
from gatelab.study.engine.storage import PASSWORD, split_password
from gatelab.study.settings import LISTS, StudySettings
from gatelab.study.space import parameter


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
    ours: dict[str, list[tuple[Override, Any]]] = {"study": [], "search": [], "launcher": []}
    rest: list[Override] = []
    for override in parse(overrides):
        root = str(override.key_or_group).partition(".")[0]
        if root in ours:
            ours[root].append((override, _value(override)))
        else:
            rest.append(override)
    names = [value if isinstance(value, list) else [value] for _, value in ours["search"]]
    search = [str(item) for items in names for item in items if item is not None]
    given: dict[str, Any] = {}
    inherited: dict[str, Override] = {}
    for name in search:
        params, settings = read_search(name, sources)
        given |= settings
        inherited |= {_key(override): override for override in params}
    for override, value in ours["study"]:
        _set(given, override, value)
    named = {_key(override) for override in rest}
    rest = [override for key, override in inherited.items() if key not in named] + rest
    swept: dict[str, Override] = {}
    for override in rest:
        if override.is_sweep_override():
            swept[_key(override)] = override
        elif (earlier := swept.get(_key(override))) is not None:
            raise RequestError(
                f"{earlier.input_line}: is swept, and {override.input_line} after it says one value; leave one out."
            )
        if refused := refuse_key(str(override.input_line)):
            raise RequestError(refused)
    launchers = [str(value) for override, value in ours["launcher"] if "." not in override.key_or_group]
    return Request(
        given=given,
        launcher=launchers[-1] if launchers else "local",
        options=tuple(str(o.input_line) for o, _ in ours["launcher"] if "." in o.key_or_group),
        fixed=tuple(str(o.input_line) for o in rest if not o.is_sweep_override()),
        swept=tuple(o for o in rest if o.is_sweep_override()),
        search=tuple(search),
    )


def _key(override: Override) -> str:
    return str(override.get_key_element().lstrip("+~"))


def _value(override: Override) -> Any:
    """The plain value of one of our keys; some settings also take `1,2` for `[1,2]`."""
    value, key = override.value(), str(override.key_or_group)
    if isinstance(value, ChoiceSweep) and key.removeprefix("study.") in LISTS:
        return list(parameter(override, group=False).choices)
    if override.is_sweep_override():
        hint = " Runs are repeated by study.seeds=3, which is study.seeds=[0,1,2]." * key.startswith(
            "study.seed"
        )
        raise RequestError(f"{override.input_line}: {key} cannot be swept.{hint}")
    if override.is_delete():
        raise RequestError(f"{override.input_line}: {key} cannot be taken away.")
    return value


def _set(given: dict[str, Any], override: Override, value: Any) -> None:
    """Apply `study=NAME`, `study.key=value` or `study.options.key=value`."""
    path, line = str(override.key_or_group).split(".")[1:], override.input_line
    if not path:
        if not isinstance(value, str | int | float):
            raise RequestError(f"{line}: give a name, study=NAME.")
        given["name"] = override.get_value_string().strip("'\"")
        return
    key, *inner = path
    if not inner:
        given[key] = value
        return
    there, options = given.setdefault(key, {}), ("sampler_options", "pruner_options")
    if key not in options or len(inner) > 1 or not isinstance(there, dict):
        raise RequestError(f"{line}: study.{key} holds no further keys.{did_you_mean(key, options)}")
    given[key] = {**there, inner[0]: value}


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
            f"search={name}: no such choice.{did_you_mean(name, known)} Choices: {', '.join(known)}."
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
            raise RequestError(f"{shown}: {key}: no such key.{did_you_mean(key, ['params', 'study'])}")
    params, settings = content.get("params") or {}, content.get("study") or {}
    if not isinstance(params, dict) or not isinstance(settings, dict):
        raise RequestError(f"{shown}: params and study hold keys and values.")
    for key in settings:
        if key not in StudySettings.model_fields or key == "name":
            hint = did_you_mean(str(key), StudySettings.model_fields)
            raise RequestError(f"{shown}: study.{key}: no such key.{hint}")
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
