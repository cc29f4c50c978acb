"""Messages about a configuration: what is wrong, the nearest spelling, the line to type, its file and line."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gatelab.data.messages import did_you_mean, to_type
from gatelab.run import CONF_DIR, RequestError

MARKS = {
    "_target_": str,
    "_partial_": bool,
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
    "_args_": list,
}
"""Keys of a node that say how it is built, and their types; objects get plain lists and dicts, as of `all`."""
NULL_CHOICE = {"logger": "off", "experiment": None, "debug": None}
"""Groups that may be null, and the choice that means the same; None: the group is null by default."""

FUNCTIONS = (
    "choice",
    "range",
    "interval",
    "glob",
    "sort",
    "shuffle",
    "tag",
    "int",
    "float",
    "str",
    "bool",
    "json_str",
)
"""Those of Hydra's override grammar."""
MERGED = ("callbacks", "logger", "experiment", "debug")
"""Groups of which several files may be chosen, `callbacks=[default,mine]`; the later one counts where they differ."""
WRITTEN = "Overrides are written key=value."


def choices_of(group: str, folders: Sequence[Path]) -> list[str]:
    """The files of a group that can be chosen, those of its subfolders as `subfolder/file`."""
    tops = [folder / group for folder in folders]
    files = [(top, path) for top in tops for path in top.rglob("*.yaml") if not path.name.startswith("_")]
    return sorted({path.relative_to(top).with_suffix("").as_posix() for top, path in files})


def choose_groups(overrides: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The overrides with `GROUP=null`, which Hydra does not know, as the choice that means it.

    Raises:
        RequestError: a run cannot do without that group, or the choice is a number.
    """
    kept = []
    for override in overrides:
        group, equals, choice = override.partition("=")
        if not key_of(override):
            raise RequestError(f"cannot read the override '{override}': no key. {WRITTEN}")
        name = group.lstrip("+")
        if not equals or not name.isidentifier() or not any((folder / name).is_dir() for folder in folders):
            kept.append(override)
            continue
        if choice.startswith("{"):  # keys, not a choice
            kept.append(override)
            continue
        known = f" Choices for {name}: {', '.join(choices_of(name, folders))}."
        choice = re.sub(r"(?<=[\[,])\s*\.?/|^\.?/|\.yaml(?=[,\]\s]|$)", "", choice)  # a file of the group
        if group.startswith("+"):
            raise RequestError(f"{override}: the group is there already; leave the + out: {name}={choice}")
        if choice.lower() in ("null", "none", "~"):
            if name not in NULL_CHOICE and choice not in choices_of(name, folders):
                raise RequestError(f"{override}: a run needs one.{known}")
            chosen = NULL_CHOICE.get(name, choice)
            kept += [f"{name}={chosen}"] if chosen else []
        elif re.fullmatch(r"(?i)[-+]?[\d.]+(e[-+]?\d+)?|true|false|nan|[-+]?inf", choice):
            raise RequestError(f"{override}: no such choice.{known}")
        elif choice.startswith("[") and choice[1:-1].strip() and name not in MERGED:
            raise RequestError(
                f"{override}: a run has one {name}; `gatelab sweep` tries several, {name}={choice[1:-1]}.{known}"
            )
        else:
            kept.append(f"{name}={choice}")
    return kept


def explain_missing(error: MissingConfigException, folders: Sequence[Path]) -> str:
    """Which choice there is not, and those that there are."""
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    if (top := group.partition("/")[0]) in MERGED:  # a subfolder of files, not a group of groups
        group, choice = top, f"{group}/{choice}".removeprefix(f"{top}/")
    options = choices_of(group, folders) if group else [*(error.options or [])]
    if not group:
        return f"no configuration file '{choice}'.{did_you_mean(choice, options)}"
    asker = re.match(r"In '([^']+)'", str(error))
    where = f" (asked for in {asker[1]}.yaml)" if asker and asker[1] != "train" else ""
    listed = ", ".join(options) or "none"
    return f"{group}={choice}: no such choice{where}.{did_you_mean(choice, options)} Choices for {group}: {listed}."


def quoted(override: str) -> str | None:
    """`KEY=VALUE` as it is typed in a shell when VALUE is text or a list of it; None where that does not help."""
    key, _, value = override.partition("=")
    names = [name.strip().strip("'\"") for name in value[1:-1].split(",")]
    is_list = value.startswith("[") and value.endswith("]")
    line = to_type(key, names if is_list else value.strip("'\""))
    try:
        OverridesParser.create().parse_overrides(shlex.split(line))
    except OverrideParseException:
        return None
    return line if value else None


SEVERAL = re.compile(r"=\S*\s+[+~]*\w[\w./@]*=")
"""A second `key=` after a space."""


def explain_grammar(error: OverrideParseException) -> str:
    """Which override Hydra's grammar cannot read, and the line to type."""
    given = str(error.override)
    if SEVERAL.search(given):
        return f"'{given}': several overrides in one; give each as an argument of its own, unquoted or quoted by itself"
    called = re.fullmatch(rf"({'|'.join(FUNCTIONS)})\(([^)]*|.*\))", given.partition("=")[2])
    if not called and (line := quoted(given)):
        return (
            f"cannot read the override '{given}'. Overrides are written key=value, and a value with such characters is "
            f"quoted twice, for Hydra and for the shell: {line}"
        )
    lines = (line for line in str(error).splitlines() if not line.startswith("Error parsing override"))
    first = next(lines, "not in Hydra's grammar").split(": ")[-1]
    return f"cannot read the override '{given}': {first}. {WRITTEN}"


def key_of(override: str) -> str:
    """The key of an override, without `+`, `~`, value and package."""
    return override.lstrip("+~").split("=")[0].split("@")[0]


def explain_key(
    message: str, overrides: Sequence[str], compose: Callable[[str], Any], takes: Callable[..., bool]
) -> str:
    """Why a key cannot be set, added or taken away.

    Args:
        message: Hydra's.
        overrides: as they were given.
        compose: the configuration without the overrides of a key.
        takes: whether a target takes an argument, by their names.
    """
    swept = re.search(r"(?:Sweep parameters|Ambiguous value for argument) '([^']+)'", message)
    if swept:
        given = [o for o in overrides if key_of(o) == key_of(swept[1])]
        line = quoted(given[0]) if given and not re.search(r"\w\(", given[0]) else None
        text = f" One value with a comma in it is quoted twice: {line}" if line else ""
        return f"{key_of(swept[1])}: several values; `gatelab sweep` tries them all.{text}"
    match = re.search(r"Could not (override|append to config|delete from config)[^']*'([^']+)'", message)
    if match is None:
        return explain_composition(ValueError(message))
    early = re.match(r"In '([^']+)': Could not override '([^'.@]+)'", message)
    if early and (CONF_DIR / early[2]).is_dir():
        return (
            f"{early[1]}.yaml: cannot choose {early[2]}, which stands after {early[1].partition('/')[0]} in "
            "train.yaml; an experiment can: experiment=NAME, a file with "
            f"`- override /{early[2]}: ...` in its defaults."
        )
    key, mark = key_of(match[2]), {"override": "", "append to config": "+"}.get(match[1], "~")
    if "@" in match[2]:
        return (
            f"{match[2]}: a group stands where train.yaml puts it, so no @ is needed: {key}=NAME chooses it."
        )
    given = [o for o in overrides if key_of(o) == key and o[: len(o) - len(o.lstrip("+~"))] == mark]
    try:
        config = compose(key)
    except (HydraException, OmegaConfBaseException):
        config = OmegaConf.create({})
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent, throw_on_missing=False) if parent else config
    if OmegaConf.is_dict(node) and name in node and given:
        if given[0].startswith("+"):
            return f"{given[0]}: the key exists already; leave the + out: {given[0].lstrip('+')}"
        if given[0].partition("=")[2].startswith("{") and not mark:
            return f"{given[0]}: gives keys that '{key}' does not have; ++{given[0]} adds them."
        if given[0].startswith("~"):
            return f"{given[0]}: its value is not that one; ~{key} takes it away whatever it is."
    if OmegaConf.is_dict(node) and given and not mark and takes(node.get("_target_"), name):
        return f"{key}: not among the group's keys, but {node.get('_target_')} takes it: write +{given[0].lstrip('+~')}"
    file = f"in a configuration file ({message.splitlines()[0]})"
    return (
        f"{key}: no such key, {f'on the command line ({given[0]})' if given else file}.{_near(key, config)}"
    )


def deleted_null(message: str, overrides: Sequence[str]) -> str | None:
    """The key of a `~KEY` that Hydra refuses; it may be one whose value is null, which Hydra takes for absent."""
    match = re.search(r"Could not delete from config\. '([^']+)' does not exist", message)
    return match[1] if match and f"~{match[1]}" in overrides and f"{match[1]}=0" not in overrides else None


def _near(key: str, config: Any) -> str:
    """The nearest spelling of a key: in its own group, else of a key so named elsewhere; else the keys beside it."""
    known = [k for k in keys_of(config) if not k.startswith("hydra") and not MARKS.keys() & {*k.split(".")}]
    parent, _, name = key.rpartition(".")
    siblings = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent]
    if hint := did_you_mean(name, siblings):
        return hint.replace("'", f"'{parent}.", 1) if parent else hint
    elsewhere = {k.rpartition(".")[2]: k for k in reversed(known)}
    if same := difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.85):
        return f" Did you mean '{elsewhere[same[0]]}'?"
    keys = f" Keys of '{parent}': {', '.join(siblings)}." if parent and siblings else ""
    return keys or did_you_mean(key, known)


def keys_of(config: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a configuration, groups included."""
    found: list[str] = []
    for key in config if OmegaConf.is_dict(config) else ():
        found += [f"{prefix}{key}", *keys_of(config._get_node(key), f"{prefix}{key}.")]
    return found


def explain_composition(error: Exception, overrides: Sequence[str] = (), folders: Sequence[Path] = ()) -> str:
    """What is wrong with a file that Hydra or OmegaConf cannot use; `overrides` say which files were chosen."""
    if isinstance(error, yaml.YAMLError):
        return f"not valid YAML: {' '.join(str(error).split())}"
    for group, _, choice in (override.lstrip("+").partition("=") for override in overrides):
        for file in (folder / group / f"{choice}.yaml" for folder in folders):
            if file.is_file() and not isinstance(held := yaml.safe_load(file.read_text()), dict | None):
                return f"{file}: holds a {type(held).__name__}; a configuration file holds keys and values."
    text = f"the configuration does not compose: {str(error).splitlines()[0]}"
    if twice := re.search(r"To override a value use 'override (\w+): ([^']*)'", text):
        return f"{text}; in the defaults of an experiment that is `- override /{twice[1]}: {twice[2]}`."
    return f"{text}; --config-dir DIR adds a folder." if "hydra.searchpath" in text else text


CANNOT_COMPOSE = (
    ConfigCompositionException,
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    ValueError,
)


def where(key: str, composed: Any) -> str:
    """` (conf/experiment/x.yaml:7)` or ` (on the command line)`: where a `Composed` has a key from, if found."""
    if any(key_of(override) == key for override in composed.overrides):
        return " (on the command line)"
    for path, prefix in reversed(list(_files(composed))):
        inner = key if prefix is None else key.removeprefix(f"{prefix}.")
        if prefix is not None and not key.startswith(f"{prefix}."):
            continue
        line = _line_of(path, inner.split("."))
        if line:
            return f" ({path.parent.parent.name}/{path.parent.name}/{path.name}:{line})"
    return ""


def _files(composed: Any) -> Iterator[tuple[Path, str | None]]:
    """Configuration files that took part, each with the key below which its content stands (None: the root)."""
    for folder in composed.directories:
        yield folder / "train.yaml", None
        for group, choice in composed.choices.items():
            for name in choice if isinstance(choice, list | tuple) else [choice]:
                if name is None:
                    continue
                yield from ((base, group) for base in sorted((folder / group).glob("_*.yaml")))
                path = folder / group / f"{name}.yaml"
                if path.is_file():
                    yield path, None if "@package _global_" in path.read_text() else group


def _line_of(path: Path, keys: list[str]) -> int | None:
    """The line (from 1) on which a nested key stands in a YAML file."""
    node, line = yaml.compose(path.read_text()) if path.is_file() else None, None
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        found = next(((name, value) for name, value in pairs if name.value == key), None)
        if found is None:
            return None
        line, node = found[0].start_mark.line + 1, found[1]
    return line
