"""Check a composed configuration before anything is built: keys, types, targets.

The schema of a node is the signature of its `_target_`, which is imported and inspected: nothing is typed twice. A key
that the signature lacks, a value of another type, a target that does not exist: each is named with its file and line
and the nearest spelling. Values are checked by the constructors.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from gatelab.data.messages import did_you_mean
from gatelab.run.config.compose import Composed
from gatelab.run.errors import RequestError

MARKS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}
SUPPLIED = {"directory", "run_dir", "run_id"}  # arguments that `run/build.py` gives, never a configuration
GROUPS = ("data", "task", "model", "optim", "schedule", "trainer", "callbacks", "logger", "paths")


@dataclass
class Root:
    """What `train.yaml` itself holds, beside the groups.

    Attributes:
        seed: of everything random in the run; two runs with the same configuration and seed are the same run.
        name: folder of the run below `<paths.root>/runs/`; the experiment's name where none is given.
        threads: of the tensor library (null: one a core, in a study the slot's share; a number is taken as it is).
        flush_denormal: denormal numbers become zero (much faster on some processors).
        test: score the best checkpoint on the test split when training is over.
    """

    seed: int
    name: str
    threads: int | None
    flush_denormal: bool
    test: bool


def check(composed: Composed) -> dict[str, Any]:
    """Check everything that can be checked without data; return the resolved configuration.

    Raises:
        RequestError: naming every mistake, one a line.
    """
    config = composed.resolved()
    found = problems(config)
    if found:
        raise RequestError("\n".join(f"{key}: {text}{where(key, composed)}" for key, text in found))
    return config


def problems(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The mistakes in a resolved configuration, as (dotted key, text)."""
    nodes = (p for group in GROUPS for p in check_node(config.get(group), group))
    return [*_check_root(config), *nodes, *_check_monitor(config.get("task"))]


@dataclass(frozen=True)
class Signature:
    """Arguments that a class or function takes by name.

    Attributes:
        names: of the parameters; required: those without a default.
        open_ended: whether it takes any further keyword.
        hints: the annotations there are.
    """

    names: tuple[str, ...]
    required: frozenset[str]
    open_ended: bool
    hints: Mapping[str, Any]


@functools.cache
def signature_of(target: str) -> Signature:
    """The signature of the class or function with this dotted name; it is imported.

    Raises:
        ImportError, AttributeError: there is no such thing; the message has the nearest spelling.
        TypeError: it cannot be called.
    """
    found = locate(target)
    if not callable(found):
        raise TypeError(f"'{target}' is not a class or function.")
    parameters = inspect.signature(found).parameters
    named = [n for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    required = frozenset(n for n in named if parameters[n].default is inspect.Parameter.empty)
    function = inspect.unwrap(found.__init__ if inspect.isclass(found) else found)
    namespace = getattr(function, "__globals__", {})
    hints = {n: _evaluated(parameters[n].annotation, namespace) for n in named}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for parameter in parameters.values():
        kind = _evaluated(parameter.annotation, namespace)
        if typing.get_origin(kind) is typing.Unpack:  # `**options: Unpack[ATypedDict]`
            (keys,) = typing.get_args(kind)
            named += keys.__annotations__
            required |= keys.__required_keys__
            hints |= typing.get_type_hints(keys)
            open_ended = False
    return Signature(tuple(named), required, open_ended, hints)


def _evaluated(annotation: Any, namespace: dict[str, Any]) -> Any:
    """An annotation as a type; Any where there is none, or where its names exist for type checkers only."""
    if annotation is inspect.Parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    try:
        return typing.get_type_hints(holder, namespace)["value"]
    except (NameError, TypeError, AttributeError):
        return Any


def locate(target: str) -> Any:
    """The object with this dotted name; ImportError or AttributeError with the nearest spelling."""
    module_name, _, name = target.rpartition(".")
    if not module_name:
        raise ImportError(f"'{target}' is not the dotted name of a class or function.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        outer_name, _, inner = module_name.rpartition(".")
        if not outer_name or error.name not in (module_name, outer_name):
            raise ImportError(f"cannot import '{module_name}': {error}.") from None
        try:
            module = getattr(importlib.import_module(outer_name), inner)
        except (ModuleNotFoundError, AttributeError):
            raise ImportError(f"there is no module '{module_name}'.") from None
    if not hasattr(module, name):
        raise AttributeError(f"'{module_name}' has no '{name}'.{did_you_mean(name, dir(module))}")
    return getattr(module, name)


def metrics_of(task_target: Any) -> list[str]:
    """The metrics that a task ranks by on the validation split, e.g. `val/loss`; none if it does not say so."""
    try:
        figures = getattr(locate(str(task_target)), "figures", ())
    except (ImportError, AttributeError):
        return []
    return [f"val/{figure.name}" for figure in figures if figure.better]


def _check_monitor(task: Any) -> Iterator[tuple[str, str]]:
    """A task says which metrics it will log, so that a misspelt one need not wait for the first validation."""
    if not isinstance(task, dict) or not isinstance(task.get("monitor"), str):
        return
    known = metrics_of(task.get("_target_"))
    if known and task["monitor"] not in known:
        hint = did_you_mean(task["monitor"], known)
        yield "task.monitor", f"the task logs no '{task['monitor']}'.{hint} It logs {', '.join(known)}."


def _check_root(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    known = typing.get_type_hints(Root)
    for key, value in config.items():
        if key in known:
            yield from type_problems(value, known[key], key)
        elif key not in GROUPS:
            yield key, f"no such key.{did_you_mean(key, [*known, *GROUPS])}"
    for key, least, most in (("seed", 0, 2**32 - 1), ("threads", 1, 1024)):
        value = config.get(key)
        if isinstance(value, int) and not least <= value <= most:
            yield key, f"{value} is out of range: {least} to {most}."
    name = config.get("name")
    if isinstance(name, str) and (name in ("", ".", "..") or any(mark in name for mark in "/\\\0")):
        yield (
            "name",
            f"{name!r} is not the name of one folder below paths.runs; paths.root=DIR says where that is.",
        )


def check_node(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """The mistakes in one node and in the nodes below it, as (dotted key, text)."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from check_node(item, f"{path}.{index}")
    if not isinstance(node, dict):
        return
    if "_target_" not in node:
        for key, value in node.items():
            yield from check_node(value, f"{path}.{key}")
        return
    try:
        signature = signature_of(node["_target_"])
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        yield f"{path}._target_", str(error)
        return
    yield from _check_signature(signature, node, path)


def _check_signature(signature: Signature, node: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    named = list(signature.names)
    for key, value in node.items():
        if key in MARKS:
            continue
        if key not in named:
            if not signature.open_ended:
                yield (
                    f"{path}.{key}",
                    f"{node['_target_']} takes no '{key}'.{did_you_mean(key, named) or _listed(named)}",
                )
        elif isinstance(value, dict) and "_target_" in value:
            yield from check_node(value, f"{path}.{key}")
        else:
            yield from type_problems(value, signature.hints.get(key, Any), f"{path}.{key}")
    if not node.get("_partial_"):
        for name in named:
            if name in signature.required and name not in {*node, *SUPPLIED}:
                yield f"{path}.{name}", f"{node['_target_']} needs '{name}'; give {path}.{name}=..."


def type_problems(value: Any, hint: Any, key: str) -> Iterator[tuple[str, str]]:
    """The mistake in the type of one value, as (key, text); nothing if it fits."""
    try:
        adapter = validator(hint)
    except TypeError:  # an annotation that cannot be hashed
        return
    if adapter is None:
        return
    candidates = [value, tuple(value)] if isinstance(value, list) else [value]
    for candidate in candidates:
        try:
            adapter.validate_python(candidate, strict=True)
            return
        except ValidationError:
            continue
    yield key, f"{value!r} is {_readable(hint)}.{_hint(value, hint)}"


@functools.cache
def validator(hint: Any) -> TypeAdapter | None:
    """The validator of an annotation; None for one that no plain value could be checked against."""
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError):
        return None


def _listed(names: list[str]) -> str:
    return f" It takes {', '.join(names)}."


def _hint(value: Any, hint: Any) -> str:
    """A hint for a value that is one word."""
    if not isinstance(value, str):
        return ""
    if any(typing.get_origin(part) in (list, Sequence) for part in (hint, *typing.get_args(hint))):
        return f" A list is written [{value}]."
    return did_you_mean(value, [str(choice) for choice in _choices(hint)])


def _choices(hint: Any) -> list[Any]:
    """The values that are listed in an annotation made of `Literal`s and perhaps None; else nothing."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return []
    parts = [_choices(part) for part in typing.get_args(hint) if part is not type(None)]
    return [choice for part in parts for choice in part] if all(parts) else []


def _readable(hint: Any) -> str:
    if choices := _choices(hint):
        return f"not one of {', '.join(dict.fromkeys(map(str, choices)))}"
    text = hint.__name__ if inspect.isclass(hint) else str(hint)
    return "not of type " + text.replace("typing.", "").replace("NoneType", "None").replace(
        "collections.abc.", ""
    )


def where(key: str, composed: Composed) -> str:
    """` (conf/experiment/x.yaml:7)` or ` (on the command line)`: where a key was set, if that can be found."""
    if any(o.lstrip("+~").split("=")[0] == key for o in composed.overrides):
        return " (on the command line)"
    for path, prefix in reversed(list(_files(composed))):
        inner = key if prefix is None else key.removeprefix(f"{prefix}.")
        if prefix is not None and not key.startswith(f"{prefix}."):
            continue
        line = _line_of(path, inner.split("."))
        if line:
            return f" ({path.parent.parent.name}/{path.parent.name}/{path.name}:{line})"
    return ""


def _files(composed: Composed) -> Iterator[tuple[Path, str | None]]:
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
    if not path.is_file():
        return None
    node = yaml.compose(path.read_text())
    line = None
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            return None
        for name, value in node.value:
            if name.value == key:
                node, line = value, name.start_mark.line + 1
                break
        else:
            return None
    return line
