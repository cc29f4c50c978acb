"""Find a name's definition in source text, through imports and re-exports, without running anything.

Only what stands at the top of a module counts, also under `if TYPE_CHECKING:` and `try:`. It knows nothing of
signatures (`signatures.py`).
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.machinery
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path


class UnclearSource(Exception):
    """The text alone does not say it; the object has to be imported."""


def find(module: str, name: str) -> tuple[str, ast.AST]:
    """The module in which `module.name` is defined, and the statement that defines it.

    Raises:
        UnclearSource: there is no such source or name, or it is made while the module runs.
    """
    for _ in range(20):
        where, inner = _step(module, name)
        if isinstance(inner, ast.AST):
            return where, inner
        module, name = where, inner
    raise UnclearSource(f"{module}.{name}: imports lead in a circle")


def _step(module: str, name: str) -> tuple[str, str | ast.AST]:
    statement = module_of(module).get(name)
    if statement is None:
        raise UnclearSource(f"{module} does not define {name}")
    if isinstance(statement, ast.ImportFrom):
        origin = next(a.name for a in statement.names if (a.asname or a.name) == name)
        return _absolute(module, statement), origin
    if isinstance(statement, ast.Import):
        raise UnclearSource(f"{module}.{name} is a module")
    return module, statement


def name_of(module: str, node: ast.expr) -> tuple[str, str]:
    """(module, name) that a name or dotted name in `module` means, not followed further.

    Raises:
        UnclearSource: it cannot be told.
    """
    if isinstance(node, ast.Name):
        if node.id not in module_of(module):
            if hasattr(builtins, node.id):
                return "builtins", node.id
            raise UnclearSource(f"{module} does not define {node.id}")
        statement = module_of(module)[node.id]
        if isinstance(statement, ast.ImportFrom):
            origin = next(a.name for a in statement.names if (a.asname or a.name) == node.id)
            return _absolute(module, statement), origin
        return module, node.id
    if isinstance(node, ast.Attribute):
        return _module_named(module, node.value), node.attr
    raise UnclearSource(f"{module}: {ast.dump(node)} is no name")


def _module_named(module: str, node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_module_named(module, node.value)}.{node.attr}"
    if not isinstance(node, ast.Name):
        raise UnclearSource(f"{module}: {ast.dump(node)} is no module")
    statement = module_of(module).get(node.id)
    if isinstance(statement, ast.Import):
        alias = next(a for a in statement.names if (a.asname or a.name.partition(".")[0]) == node.id)
        return alias.name if alias.asname else node.id
    if isinstance(statement, ast.ImportFrom):
        origin = next(a.name for a in statement.names if (a.asname or a.name) == node.id)
        return f"{_absolute(module, statement)}.{origin}"
    raise UnclearSource(f"{module}: {node.id} is no module")


def _absolute(module: str, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    file = source_file(module)
    parts = module.split(".")
    parts = parts[: len(parts) - statement.level + (1 if file.name == "__init__.py" else 0)]
    return ".".join([*parts, *([statement.module] if statement.module else [])])


@functools.cache
def module_of(name: str) -> dict[str, ast.stmt]:
    """Name -> the statement that defines it last, for everything at the top of a module.

    Raises:
        UnclearSource: the module has no readable source.
    """
    try:
        tree = ast.parse(source_file(name).read_text())
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise UnclearSource(f"{name}: {error}") from None
    return {defined: statement for statement in _statements(tree.body) for defined in _defines(statement)}


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If):
            yield from _statements([*statement.orelse, *statement.body])
        elif isinstance(statement, ast.Try):
            yield from _statements([*(s for h in statement.handlers for s in h.body), *statement.body])
        else:
            yield statement


def _defines(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        yield statement.name
    elif isinstance(statement, ast.ImportFrom):
        yield from (a.asname or a.name for a in statement.names)
    elif isinstance(statement, ast.Import):
        yield from (a.asname or a.name.partition(".")[0] for a in statement.names)
    elif isinstance(statement, ast.Assign):
        yield from (t.id for t in statement.targets if isinstance(t, ast.Name))
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id


@functools.cache
def source_file(name: str) -> Path:
    """The source file of a module; only packages that are imported anyway are touched.

    Raises:
        UnclearSource: there is none.
    """
    first, *rest = name.split(".")
    try:
        found = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        found = None
    reached = first
    for part in rest:
        if found is None or found.submodule_search_locations is None:
            break
        reached = f"{reached}.{part}"
        found = importlib.machinery.PathFinder.find_spec(reached, list(found.submodule_search_locations))
    if reached != name or found is None or not found.has_location or not str(found.origin).endswith(".py"):
        raise UnclearSource(f"{name} has no source file")
    return Path(str(found.origin))
