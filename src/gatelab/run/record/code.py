"""The code that a result belongs to: digests of the source files of Gatelab and of a user's own classes.

Code is recorded as data is. A run that is asked for again after its code was edited is neither reported as finished
nor continued in silence; the names of the files that differ are told.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

from gatelab.run.record.environment import CODE
from gatelab.run.record.imports import code_files, defines, named_in

RESULT_RINGS = ("core", "data", "tasks", "run")  # what only shows results or starts runs cannot change one
DIGITS = 16
VERSIONED = ("gatelab", "torch", "pytorch_lightning", "lightning_fabric", "torchmetrics", "__main__")
"""Packages of targets whose version a run records, or whose files it names."""


def sources(config: Mapping[str, Any], *, on_disk: bool = False) -> dict[str, str]:
    """Name of each source file that made the result of a run -> digest of its content.

    Gatelab's own files are named `gatelab/core/gru.py`; a user's, from each `_target_` on through everything that it
    imports by name, by the module: `mycell.py`, `mine/cells.py`. A class of a notebook is `__main__.Cell`. An installed
    package that a `_target_` stands in is one entry, `theirs (installed)`; what is imported beside that is told by its
    version instead. Nothing is imported or run. Of a module that this process has read already, the
    digest is that of what was read.

    Args:
        config: the resolved configuration.
        on_disk: of such a module too, what its file holds now: what another process would read.
    """
    found = dict(gatelab_sources())
    named = set(targets(config))
    found |= {name: _digest(code.encode()) for name in named if (code := _of_notebook(name))}
    for package in {name.partition(".")[0] for name in named} - {*VERSIONED, *sys.stdlib_module_names}:
        if digest := _of_installed(package):
            found[f"{package} (installed)"] = digest
    files = _own_files(config)
    found |= {one.name: _digest(one.content if on_disk else one.read) for one in files}
    return dict(sorted(found.items()))


def edited(config: Mapping[str, Any]) -> list[str]:
    """The user's files that were edited after this process imported them, so that it runs other code than they hold."""
    return [one.name for one in _own_files(config) if one.read != one.content]


class OwnFile(NamedTuple):
    """A source file of the user's: its name, what it holds, and what this process read when it imported it."""

    name: str
    content: bytes
    read: bytes


_READ: dict[str, tuple[Any, bytes]] = {}
"""Module -> its spec, which a reload replaces, and the content of its file when it was first looked at."""


def _own_files(config: Mapping[str, Any]) -> Iterator[OwnFile]:
    waiting, seen = [target.rpartition(".")[0] for target in targets(config)], set[str]()
    while waiting:
        module = waiting.pop()
        if not module or module in seen:
            continue
        seen.add(module)
        waiting.append(module.rpartition(".")[0])  # a package's __init__.py runs too
        spec = _own_spec(module)
        if spec is None:
            continue
        content, read = (bytes(spec.loader.get_data(spec.origin)),) * 2
        if module in sys.modules:
            if _READ.get(module, (None,))[0] is not spec:
                _READ[module] = spec, content
            read = _READ[module][1]
        package = spec.submodule_search_locations is not None
        name, suffix = module.replace(".", "/"), Path(spec.origin).suffix
        yield OwnFile(f"{name}/__init__{suffix}" if package else f"{name}{suffix}", content, read)
        named = named_in(read, module, package=package)
        waiting += [*named.modules, *(found for text in named.texts if (found := _module_of(text)))]
        waiting += [inner for around in named.packages for inner in _modules_in(around)]
        folder = Path(spec.origin).parent.resolve()
        base = Path(name) if package else Path(name).parent
        for file in code_files(named.files, folder):
            held = file.read_bytes()
            shown = base / os.path.relpath(file, folder)
            yield OwnFile(f"{Path(os.path.normpath(shown)).as_posix()} (a file)", held, held)


def _module_of(text: str) -> str | None:
    """The module of the user's that a text names, as `mine.cells` or as something in it, `mine.cells.Cell`."""
    if _own_spec(text) is not None:
        return text
    module, _, name = text.rpartition(".")
    spec = _own_spec(module) if module else None
    return module if spec is not None and defines(spec.loader.get_data(spec.origin), name) else None


def _modules_in(package: str) -> Iterator[str]:
    """The modules of a package of the user's, and of those in it."""
    spec = _spec(package)
    for place in (spec and spec.submodule_search_locations) or ():
        if not _is_installed(place):
            for file in sorted(Path(place).rglob("*.py")):
                inner = file.relative_to(place).with_suffix("").parts
                yield ".".join([package, *inner]).removesuffix(".__init__")


def targets(config: Any) -> Iterator[str]:
    """Every `_target_` of a configuration, at any depth; what stands in several places is looked at once."""
    waiting, seen = [config], set[int]()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Mapping | list | tuple) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Mapping) and "_target_" in node:
            yield str(node["_target_"])
            if str(node["_target_"]).startswith("hydra.utils.get_") and "path" in node:
                yield str(node["path"])  # of a class, method or object that it returns
        waiting += reversed([*node.values()] if isinstance(node, Mapping) else [*node])


def changed_code(record: Mapping[str, Any], *, on_disk: bool = False) -> list[str]:
    """The files that were edited, added or removed since the last attempt of a run; raises nothing.

    Args:
        record: the content of `run.json`. Of runs that were recorded before sources were, nothing is known: no file.
        on_disk: as in `sources`.
    """
    recorded = record["attempts"][-1].get("environment", {}).get("sources")
    return [] if recorded is None else changed(recorded, sources(record["config"], on_disk=on_disk))


def changed(recorded: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The files that were edited, added or removed between two `sources`."""
    return sorted(name for name in {**recorded, **now} if recorded.get(name) != now.get(name))


@functools.cache
def gatelab_sources() -> dict[str, str]:
    """Digests of Gatelab's own files, as they were when the process first asked."""
    package = Path(__file__).resolve().parents[2]
    files = (file for ring in RESULT_RINGS for pattern in CODE for file in (package / ring).rglob(pattern))
    return {f"gatelab/{file.relative_to(package).as_posix()}": _digest(file.read_bytes()) for file in files}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _own_spec(module: str) -> Any:
    """The spec of a module that is neither Gatelab's, nor installed, nor Python's own; nothing is imported for it."""
    if module.partition(".")[0] in ("gatelab", *sys.stdlib_module_names):
        return None
    spec = _spec(module)
    if spec is None or not hasattr(spec.loader, "get_data") or not Path(spec.origin or "").suffix:
        return None
    return None if _is_installed(spec.origin) else spec


def _spec(module: str) -> Any:
    """As `importlib.util.find_spec`, which would import the packages around the module."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__spec__", None) or _script(module)
    package, _, _ = module.rpartition(".")
    try:
        if not package:
            return importlib.util.find_spec(module)
        outer = _spec(package)
        places = outer and outer.submodule_search_locations
        return PathFinder.find_spec(module.rpartition(".")[2], list(places)) if places else None
    except (ImportError, ValueError, AttributeError, KeyError):
        return None


def _script(module: str) -> Any:
    """The spec of a script that is running, which has none of its own."""
    file = getattr(sys.modules[module], "__file__", None)
    return importlib.util.spec_from_file_location(module, file) if file and Path(file).is_file() else None


def _of_notebook(target: str) -> str:
    """The code of a class or function of a notebook, with all of the notebook's own that it names; else nothing."""
    main, (module, _, name) = sys.modules["__main__"], target.partition(".")
    if module != "__main__" or hasattr(main, "__file__"):
        return ""
    waiting, seen = [name], dict[str, str]()
    while waiting:
        name = waiting.pop()
        value = vars(main).get(name)
        if name in seen or not (isinstance(value, PLAIN) or getattr(value, "__module__", None) == "__main__"):
            continue
        bases = [base.__name__ for base in getattr(value, "__bases__", ())]
        parts = dict(sorted(vars(value).items())) if inspect.isclass(value) else {"": value}
        functions = [function for part in parts.values() for function in _functions(part)]
        told = [(_text(f.__code__), repr(f.__defaults__), repr(f.__kwdefaults__)) for f in functions]
        bound = {k: (p.args, p.keywords) for k, p in parts.items() if isinstance(p, functools.partial)}
        plain = {k: p for k, p in parts.items() if isinstance(p, PLAIN) and not k.startswith("__")}
        seen[name] = re.sub(r" at 0x[0-9a-f]+", "", repr((bases, told, plain, bound)))
        waiting += [*bases, *(used for f in functions for used in _globals(f.__code__))]
    return repr(sorted(seen.items()))


PLAIN = (int, float, str, tuple, list, dict, set)
"""Values of a notebook that are compared as they print."""


def _functions(part: Any) -> Iterator[types.FunctionType]:
    """The functions in a function, a method of any kind or a property, what a decorator has wrapped among them."""
    if inspect.isfunction(part):
        yield part
        yield from _functions(getattr(part, "__wrapped__", None))
    elif isinstance(
        part, staticmethod | classmethod | property | functools.cached_property | functools.partial
    ):
        for inner in ("__func__", "fget", "fset", "fdel", "func"):
            yield from _functions(getattr(part, inner, None))


def _globals(code: types.CodeType) -> Iterator[str]:
    """The names of the notebook that a code object reads, and the functions inside it."""
    yield from (
        step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    )
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals(constant)


def _text(code: types.CodeType) -> str:
    """What a code object does, whatever cell it was typed in."""
    constants = [_text(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, code.co_varnames, constants))


@functools.cache
def _of_installed(package: str) -> str | None:
    """The digest of all source files of an installed package; None of another one."""
    spec = _spec(package)
    if spec is None or not spec.origin or not _is_installed(spec.origin):
        return None
    folders = spec.submodule_search_locations
    files = (f for folder in folders for f in Path(folder).rglob("*.py")) if folders else [Path(spec.origin)]
    return _digest(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in sorted(files)))


def _is_installed(file: str) -> bool:
    return any(Path(file).resolve().is_relative_to(folder) for folder in _installed())


@functools.cache
def _installed() -> tuple[Path, ...]:
    names = ("purelib", "platlib", "stdlib", "platstdlib")
    folders = {Path(sysconfig.get_path(name)).resolve() for name in names}
    folders |= {
        Path(entry).resolve() for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")
    }
    return tuple(folders)
