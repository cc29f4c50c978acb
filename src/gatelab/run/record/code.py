"""The code that a result belongs to: digests of the source files of Gatelab and of a user's own classes.

Code is recorded as data is. A run that is asked for again after its code was edited is neither reported as finished
nor continued in silence; the names of the files that differ are told.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RESULT_RINGS = ("core", "data", "tasks", "run")  # what only shows results or starts runs cannot change one
PATTERNS = ("*.py", "*.c", "*.h", "dispatch.json")
DIGITS = 16


def sources(config: Mapping[str, Any]) -> dict[str, str]:
    """Name of each source file that made the result of a run -> digest of its content.

    Gatelab's own files are named `gatelab/core/gru.py`; a user's, from each `_target_` on through everything that it
    imports, by the module: `mycell.py`, `mine/cells.py`. Installed packages are told by their versions instead.

    Args:
        config: the resolved configuration.
    """
    found = dict(gatelab_sources())
    waiting, seen = [target.rpartition(".")[0] for target in targets(config)], set[str]()
    while waiting:
        module = waiting.pop()
        if not module or module in seen:
            continue
        seen.add(module)
        waiting.append(module.rpartition(".")[0])  # a package's __init__.py runs too
        file = _own_file(module)
        if file is not None:
            content = file.read_bytes()
            found[_name(module, file)] = _digest(content)
            waiting += _imported(content, module, package=file.name == "__init__.py")
    return dict(sorted(found.items()))


def targets(config: Any) -> Iterator[str]:
    """Every `_target_` of a configuration, at any depth."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield str(config["_target_"])
        config = list(config.values())
    if isinstance(config, list | tuple):
        for inner in config:
            yield from targets(inner)


def changed_code(record: Mapping[str, Any]) -> list[str]:
    """The files that were edited, added or removed since the last attempt of a run; raises nothing.

    Args:
        record: the content of `run.json`. Of runs that were recorded before sources were, nothing is known: no file.
    """
    recorded = record["attempts"][-1].get("environment", {}).get("sources")
    return changed(recorded, sources(record["config"])) if recorded is not None else []


def changed(recorded: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The files that were edited, added or removed between two `sources`."""
    return sorted(name for name in {**recorded, **now} if recorded.get(name) != now.get(name))


@functools.cache
def gatelab_sources() -> dict[str, str]:
    """Digests of Gatelab's own files, as they were when the process first asked."""
    package = Path(__file__).resolve().parents[2]
    files = (
        file for ring in RESULT_RINGS for pattern in PATTERNS for file in (package / ring).rglob(pattern)
    )
    return {f"gatelab/{file.relative_to(package).as_posix()}": _digest(file.read_bytes()) for file in files}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _own_file(module: str) -> Path | None:
    """The source file of a module that is neither Gatelab's, nor installed, nor Python's own."""
    if module.partition(".")[0] in ("gatelab", *sys.stdlib_module_names):
        return None
    origin = getattr(sys.modules.get(module), "__file__", None)
    if origin is None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            return None
        origin = spec.origin if spec is not None else None
    if origin is None or not origin.endswith(".py") or not Path(origin).is_file():
        return None
    file = Path(origin).resolve()
    return None if any(file.is_relative_to(folder) for folder in _installed()) else file


@functools.cache
def _installed() -> tuple[Path, ...]:
    names = ("purelib", "platlib", "stdlib", "platstdlib")
    folders = {Path(sysconfig.get_path(name)).resolve() for name in names}
    folders |= {
        Path(entry).resolve() for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")
    }
    return tuple(folders)


def _name(module: str, file: Path) -> str:
    name = module.replace(".", "/")
    return f"{name}/__init__.py" if file.name == "__init__.py" else f"{name}.py"


def _imported(content: bytes, module: str, *, package: bool) -> Iterator[str]:
    """The modules that a source file names in its imports; of `from a import b` both `a` and `a.b`."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                kept = parts[: len(parts) - node.level + (1 if package else 0)]
                base = ".".join([*kept, base] if base else kept)
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*"))
