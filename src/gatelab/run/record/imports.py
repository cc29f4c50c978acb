"""What a source file of a user's names: the modules that it imports, however, and the files with code beside it.

Nothing is imported or run: the file is parsed. Names that are put together while it runs are found where their
beginning is a package's (`import_module(f"mine.{name}")`): then every module of that package counts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

IMPORTERS = frozenset(
    (
        *("import_module", "__import__", "run_module", "resolve_name", "find_spec", "locate", "attach"),
        *("get_class", "get_method", "get_object", "instantiate"),
    )
)
"""Functions that take the name of a module, or of something in one, as a text."""
BY_MODULE = ("import_module", "__import__")
CODE = re.compile(r"[\w./+-]{1,200}\.(?:py|pyx|pxd|c|cc|cpp|cxx|cu|cuh|h|hpp|so|dylib|dll)")
"""How the path of a file with code looks."""
INCLUDED = re.compile(rb"""^[ \t]*#[ \t]*include[ \t]*"([\w./+-]{1,200})\"""", re.MULTILINE)
DOTTED = re.compile(r"\.{0,5}[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?::[\w.]+)?")


class Named(NamedTuple):
    """What a source file names.

    modules: by its imports; of `from a import b` both `a` and `a.b`. texts: texts that may name a module of the user's,
    or something in one. packages: those of which a module is imported whose name is put together. files: paths of files
    with code, as they stand.
    """

    modules: list[str]
    texts: list[str]
    packages: list[str]
    files: list[str]


def named_in(content: bytes, module: str, *, package: bool) -> Named:
    """What the source file of `module` names; nothing where it is no Python. package: it is an `__init__.py`."""
    found = Named([], [], [], [])
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return found
    around = module if package else module.rpartition(".")[0]
    nodes = list(ast.walk(tree))
    imports = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    called = IMPORTERS | {alias.asname for alias in imports if alias.name in IMPORTERS and alias.asname}
    calls = [node for node in nodes if isinstance(node, ast.Call) and _name(node.func) in called]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    for node in nodes:
        found.modules.extend(_imports(node, module, around))
    dotted = [text for text in texts if DOTTED.fullmatch(text) and len(text) <= 200]
    for text in dotted:
        name = text.partition(":")[0]
        if name.startswith("."):
            name = f"{around}.{name.lstrip('.')}"
        if calls or "." in name:
            found.texts.extend([name, f"{around}.{name}"] if around and calls else [name])
    for call in calls:
        for argument in [*call.args[:1], *(word.value for word in call.keywords if word.arg == "name")]:
            if isinstance(argument, ast.JoinedStr):
                begin = argument.values[0] if argument.values else None
                named = begin.value if isinstance(begin, ast.Constant) else None
                found.packages.append((named if isinstance(named, str) else "").rpartition(".")[0] or around)
            elif not isinstance(argument, ast.Constant) and around and _name(call.func) in BY_MODULE:
                found.packages.append(around)
    found.files.extend(_paths(nodes))
    found.files.extend(f"{name.rpartition('.')[2]}.pyx" for name in dict.fromkeys(found.modules) if name)
    return found


def _imports(node: ast.AST, module: str, around: str) -> Iterator[str]:
    """The modules of an import statement, and the submodules that an `__all__` lists for `import *`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = around.split(".")
            kept = parts[: len(parts) - node.level + 1]
            base = ".".join([*kept, base] if base else kept)
        yield from (base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*"))
    elif isinstance(node, ast.Assign) and module == around:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        listed = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else []
        values = [one.value for one in listed if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        yield from (f"{module}.{value}" for value in values if "__all__" in names)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _paths(nodes: list[ast.AST]) -> Iterator[str]:
    """Paths of code: a text, or texts that `/`, `join` or `joinpath` put together."""
    for node in nodes:
        parts: list[ast.expr] = []
        if isinstance(node, ast.Constant):
            parts = [node]
        elif isinstance(node, ast.Call) and _name(node.func) in ("join", "joinpath"):
            parts = node.args
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts, node = [node.right, *parts], node.left
        words = [one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        if words and CODE.fullmatch(path := "/".join(words)):
            yield path


def code_files(named: list[str], folder: Path) -> Iterator[Path]:
    """The files of code that are there, of those that a source in `folder` names, and what these include.

    They are looked for beside the source, in the folder around it, and in the current one.
    """
    waiting = [(name, [folder, folder.parent, Path.cwd()]) for name in named]
    seen = set[Path]()
    while waiting:
        name, places = waiting.pop()
        file = next((place / name for place in places if (place / name).is_file()), None)
        if file is None or (file := file.resolve()) in seen:
            continue
        seen.add(file)
        yield file
        if file.suffix not in (".py", ".so", ".dylib", ".dll"):
            waiting += [(one.decode(), [file.parent]) for one in INCLUDED.findall(file.read_bytes())]


def defines(content: bytes, name: str) -> bool:
    """Whether a source file has something of this name at its top level."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return True
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            return True
        if isinstance(node, ast.alias) and (node.asname or node.name) == name:
            return True
    return False
