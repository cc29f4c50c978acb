"""Reads a panel from the user's files or from the M4 competition, and keeps what was read.

How long frames are read is panel.py's business. Pandas is imported only where a file is read.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from gatelab.data.disk_cache import CacheEntry, cached
from gatelab.data.fetch import fetch
from gatelab.data.panel.m4 import m4_files, read_m4
from gatelab.data.panel.panel import Columns, Panel


def read_series_panel(
    name: str,
    path: str | None,
    columns: Columns,
    options: Mapping[str, Any],
    mirror: str | None,
    cache: str | None,
) -> Panel:
    """Return the panel at `path` (read with `options`, see `read_panel`) or, without one, the M4 group `name`.

    Parsed once; later the bytes of the files are only hashed (see disk_cache.py).
    """

    def key() -> dict[str, Any]:
        if path is None:
            files = {file: fetch(file, mirror=mirror, cache=cache).sha256 for file in m4_files(name)}
            return {"what": name, "source": files}
        from gatelab.data.panel.long_frame import fingerprint

        return {"what": "panel", "source": fingerprint(path), "columns": columns._asdict(), **options}

    def make() -> CacheEntry:
        if path is None:
            return _keep(read_m4(name, mirror=mirror, cache=cache))
        from gatelab.data.panel.build import read_panel

        return _keep(read_panel(path, columns, **options))

    return _restore(cached(cache, key, make))


def _keep(panel: Panel) -> CacheEntry:
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {}
    for name in (part.name for part in fields(panel)):
        value = getattr(panel, name)
        if name in ("known", "static"):
            arrays |= {f"{name}:{column}": array for column, array in value.items()}
            facts[name] = list(value)
        elif isinstance(value, np.ndarray):
            arrays[name] = value
        else:
            facts[name] = value
    return CacheEntry(arrays, facts)


def _restore(entry: CacheEntry) -> Panel:
    parts: dict[str, Any] = entry.facts | {n: array for n, array in entry.arrays.items() if ":" not in n}
    for name in ("known", "static"):
        parts[name] = {column: entry.arrays[f"{name}:{column}"] for column in entry.facts[name]}
    tuples = {name: tuple(parts[name]) for name in ("ids", "channels")}
    writable = {name: parts[name].copy() for name in ("starts", "place")}  # as torch wants them
    return Panel(**(parts | tuples | writable))
