"""What a `_target_` takes, read from its source text: nothing is imported, so a check costs no import of torch.

A class or function is found by following imports through the modules' syntax trees; its annotations are
rebuilt from `typing`, builtins and stand-ins for other classes (no plain value is an instance of those). Where
a source is not plain enough for that, the object is imported and asked; so is one that is loaded anyway, which takes
a tenth of the time. Values are checked in `schema.py`.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gatelab.run.config.sources import UnclearSource, find, name_of
from gatelab.run.messages import nearest

REAL_MODULES = {"typing", "typing_extensions", "collections.abc", "pathlib", "datetime", "types", "os"}
NOT_PLAIN = ("torch", "torch.nn")  # what these hold is made in C or by star imports, and is no plain value
SPECIAL_BASES = {"TypedDict", "NamedTuple", "Protocol", "Enum", "StrEnum", "IntEnum", "BaseModel"}


@dataclass(frozen=True)
class Signature:
    """What can be given to a class or function by name.

    Attributes:
        names: of the parameters; required: those without a default.
        open_ended: whether it takes any further keyword.
        hints: the annotations there are.
    """

    names: tuple[str, ...]
    required: frozenset[str]
    open_ended: bool
    hints: dict[str, Any] = field(hash=False)


@functools.cache
def signature_of(target: str) -> Signature:
    """The signature of what a dotted name points to.

    Raises:
        ImportError, AttributeError: there is no such thing; the message has the nearest spelling.
    """
    module, _, name = target.rpartition(".")
    loaded = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if callable(loaded):
        return from_object(loaded)
    try:
        return from_source(module, name)
    except UnclearSource:
        return from_object(locate(target))


def from_object(target: Any) -> Signature:
    """The signature of an object that is imported already."""
    parameters = {n: p for n, p in inspect.signature(target).parameters.items() if n != "self"}
    named = [n for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # an annotation that exists for type checkers only
        hints = {}
    required = frozenset(n for n in named if parameters[n].default is inspect.Parameter.empty)
    return Signature(tuple(named), required, any(p.kind is p.VAR_KEYWORD for p in parameters.values()), hints)


def locate(target: str) -> Any:
    """The object that a dotted name points to; ImportError or AttributeError with the nearest spelling."""
    module_name, _, name = target.rpartition(".")
    if not module_name:
        raise ImportError(f"'{target}' is no dotted name of a class or function.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        outer_name, _, inner = module_name.rpartition(".")
        if not outer_name or error.name not in (module_name, outer_name):
            raise ImportError(f"cannot import '{module_name}': {error}.") from None
        module = None
        try:
            module = getattr(importlib.import_module(outer_name), inner)
        except (ModuleNotFoundError, AttributeError):
            raise ImportError(f"there is no module '{module_name}'.") from None
    if not hasattr(module, name):
        raise AttributeError(f"'{module_name}' has no '{name}'.{nearest(name, dir(module))}")
    return getattr(module, name)


def from_source(module: str, name: str) -> Signature:
    """The signature of `module.name`, from the text alone.

    Raises:
        UnclearSource: the text does not say it plainly.
    """
    home, node = find(module, name)
    if isinstance(node, ast.ClassDef):
        found = _init_of(home, node)
        if found is None:
            return Signature((), frozenset(), False, {})
        home, node = found
    if not isinstance(node, ast.FunctionDef):
        raise UnclearSource(f"{module}.{name} is no class or function")
    if not all(_keeps_signature(home, decorator) for decorator in node.decorator_list):
        raise UnclearSource(f"{module}.{name} is decorated")
    return _signature(home, node, method=node.name == "__init__")


def constant_of(target: str, name: str) -> Any:
    """A constant in the body of a class or of its first bases, such as `figures`; None if there is none."""
    module, _, last = target.rpartition(".")
    try:
        for _, inner in _with_bases(*find(module, last)):
            for statement in inner.body:
                value = _assigned(statement, name)
                if value is not None:
                    return ast.literal_eval(value)
    except (UnclearSource, ValueError):
        return None
    return None


def _assigned(statement: ast.stmt, name: str) -> ast.expr | None:
    """The expression that a statement gives to `name`."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return None
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return statement.value if any(isinstance(t, ast.Name) and t.id == name for t in targets) else None


def _with_bases(home: str, node: ast.AST) -> Iterator[tuple[str, ast.ClassDef]]:
    """A class and its bases, nearest first; depth before breadth, which is Python's order for single bases."""
    if not isinstance(node, ast.ClassDef):
        raise UnclearSource(f"{home}: no class")
    yield home, node
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id == "object":
            continue
        if isinstance(base, ast.Subscript):  # Generic[T], Base[T]
            base = base.value
        base_home, base_name = name_of(home, base)
        if base_home == "typing":
            if base_name in SPECIAL_BASES:
                raise UnclearSource(f"{home}.{node.name} is special")
            continue
        yield from _with_bases(*find(base_home, base_name))


def _init_of(home: str, node: ast.ClassDef) -> tuple[str, ast.FunctionDef] | None:
    for where, inner in _with_bases(home, node):
        functions = {f.name: f for f in inner.body if isinstance(f, ast.FunctionDef)}
        if inner.decorator_list or inner.keywords or "__new__" in functions:
            raise UnclearSource(f"{where}.{inner.name} is made in an unusual way")
        if "__init__" in functions:
            return where, functions["__init__"]
    return None


def _keeps_signature(home: str, decorator: ast.expr) -> bool:
    """Whether a decorator is a function that wraps another with `functools.wraps`."""
    where, name = name_of(home, decorator)
    _, node = find(where, name)
    if not isinstance(node, ast.FunctionDef):
        return False
    inner = [statement for statement in node.body if isinstance(statement, ast.FunctionDef)]
    return len(inner) == 1 and any("wraps" in ast.dump(d) for d in inner[0].decorator_list)


def _signature(home: str, node: ast.FunctionDef, *, method: bool) -> Signature:
    given = node.args
    positional = [*given.posonlyargs, *given.args][1 if method else 0 :]
    arguments = [*positional, *given.kwonlyargs]
    optional = (
        {a.arg for a in positional[len(positional) - len(given.defaults) :]} if given.defaults else set()
    )
    optional |= {a.arg for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d is not None}
    names = tuple(a.arg for a in arguments)
    hints = {a.arg: hint_of(home, a.annotation) for a in arguments if a.annotation is not None}
    return Signature(names, frozenset(names) - optional, given.kwarg is not None, hints)


def hint_of(home: str, node: ast.expr) -> Any:
    """The annotation that an expression in a module means.

    Raises:
        UnclearSource: it is not made of names, subscripts and `|`.
    """
    if isinstance(node, ast.Constant):
        if node.value is None or node.value is Ellipsis:
            return node.value
        if isinstance(node.value, str):
            return hint_of(home, ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        left, right = hint_of(home, node.left), hint_of(home, node.right)
        return typing.Union[left, right] if left is None and right is None else left | right  # noqa: UP007
    if isinstance(node, ast.List):
        return [hint_of(home, item) for item in node.elts]
    if isinstance(node, ast.Subscript):
        origin = hint_of(home, node.value)
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if origin is typing.Literal:
            return origin[tuple(ast.literal_eval(item) for item in items)]
        inner = tuple(hint_of(home, item) for item in items)
        return origin[inner if len(inner) > 1 else inner[0]] if _takes_items(origin) else origin
    if isinstance(node, ast.Name | ast.Attribute):
        return _named(*name_of(home, node))
    raise UnclearSource(f"{home}: {ast.dump(node)} is no annotation that can be read")


def _takes_items(origin: Any) -> bool:
    return not hasattr(origin, "stand_in")


@functools.cache
def _named(home: str, name: str) -> Any:
    if home in REAL_MODULES or home == "builtins":
        found = getattr(importlib.import_module(home), name, None)
        if found is None:
            raise UnclearSource(f"{home} has no {name}")
        return found
    if home in NOT_PLAIN:
        return _stand_in(home, name)
    where, node = find(home, name)
    if isinstance(node, ast.ClassDef):
        bases = {b.id if isinstance(b, ast.Name) else getattr(b, "attr", "") for b in node.bases}
        if bases & SPECIAL_BASES:
            raise UnclearSource(f"{where}.{name} is special")
        return _stand_in(where, name)
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        return hint_of(where, node.value)
    raise UnclearSource(f"{where}.{name} is no type")


def _stand_in(home: str, name: str) -> type:
    """A class of which nothing is an instance, under the name of the real one."""
    return types.new_class(name, exec_body=lambda body: body.update(__module__=home, stand_in=True))
