"""The schema of a node: the signature of its `_target_`, which is imported and inspected, so nothing is typed twice."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import (
    ConfigDict,
    InstanceOf,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from gatelab.data.messages import did_you_mean, to_type


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


HANDED_ON = {
    f"pytorch_lightning.callbacks.{name}": "torch.optim.swa_utils.AveragedModel"
    for name in ("WeightAveraging", "EMAWeightAveraging")
}
"""Classes that hand further keywords to another, which is made when the run begins."""


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
    if target in HANDED_ON:
        further = signature_of(HANDED_ON[target])
        named += [name for name in further.names if name not in (*named, "model")]
        hints = {**further.hints, **hints}
        open_ended = False
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
    """An annotation as a type; Any where there is none, or where its names exist for type checkers only, except that
    what is then still seen to be a function has to be one."""
    if annotation is inspect.Parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    try:
        return typing.get_type_hints(holder, namespace)["value"]
    except (NameError, TypeError, AttributeError):
        return Callable[..., Any] | None if str(annotation).startswith("Callable[") else Any


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
            hint = _where_modules_are(module_name)
            raise ImportError(f"cannot import '{module_name}': {error}.{hint}") from None
        try:
            module = getattr(importlib.import_module(outer_name), inner)
        except (ModuleNotFoundError, AttributeError):
            raise ImportError(
                f"there is no module '{module_name}'.{_where_modules_are(module_name)}"
            ) from None
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ImportError(f"'{module_name}' cannot be imported: {what}.") from None
    if not hasattr(module, name):
        raise AttributeError(f"'{module_name}' has no '{name}'.{did_you_mean(name, dir(module))}")
    return getattr(module, name)


def _where_modules_are(name: str) -> str:
    """How a module of the user's own is found; nothing for one of an installed package."""
    root = name.partition(".")[0]
    if importlib.util.find_spec(root) is not None:
        return ""
    folder = "." if Path(f"{root}.py").is_file() or Path(root).is_dir() else "DIR"
    return f" With PYTHONPATH={folder} before the command, Python finds {folder}/{root}.py."


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
    yield key, f"{value!r} is {_readable(hint)}.{_hint(key, value, hint)}"


@functools.cache
def validator(hint: Any) -> TypeAdapter | None:
    """The validator of an annotation; None for one that no plain value can be checked against."""
    if is_dataclass(hint):  # pydantic would read its fields, but Hydra has made the object
        return TypeAdapter(InstanceOf[hint])
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError):
        return None


def _hint(key: str, value: Any, hint: Any) -> str:
    """A hint for a value that is one word, or a list of what should be words."""
    parts = (hint, *typing.get_args(hint))
    if list[str] in parts and isinstance(value, str | int | float | list):
        names = value if isinstance(value, list) else [value]
        return f" A list is written {to_type(key, list(map(_as_typed, names)))}."
    if not isinstance(value, str):
        return (
            f" A text is written {to_type(key, _as_typed(value))}."
            if _is_word(value) and str in parts
            else ""
        )
    if any(typing.get_origin(part) in (list, Sequence) for part in parts):
        return f" A list is written [{value}]."
    return did_you_mean(value, [str(choice) for choice in _choices(hint)])


def _is_word(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _as_typed(value: Any) -> str:
    """A value as it was typed: Hydra reads true, null and 2019 as what they look like."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _choices(hint: Any) -> list[Any]:
    """The values that are listed in an annotation made of `Literal`s and perhaps None; else nothing."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    parts = [_choices(part) for part in typing.get_args(hint) if part is not type(None)] if union else []
    return [choice for part in parts for choice in part] if all(parts) else []


def _readable(hint: Any) -> str:
    if choices := _choices(hint):
        choices += [None] * (type(None) in typing.get_args(hint))
        return f"not one of {', '.join(dict.fromkeys(map(_as_typed, choices)))}"
    text = hint.__name__ if inspect.isclass(hint) else str(hint)
    return "not of type " + re.sub(r"typing\.|collections\.abc\.|(?<=None)Type", "", text)
