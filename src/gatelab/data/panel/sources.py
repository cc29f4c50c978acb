"""Reads a panel from the user's files, from the M4 competition or made from a seed, and keeps what was read.

How long frames are read is panel.py's business. Pandas is imported only where a file is read.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
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
    seed: int = 0,
) -> Panel:
    """Return the panel at `path` (read with `options`, see `read_panel`) or, without one, `name`: an M4 group, or
    `retail_panel` made from `seed`.

    Parsed once; later the bytes of the files are only hashed (see disk_cache.py).
    """

    def key() -> dict[str, Any]:
        if name == "retail_panel":
            return {"what": name, "seed": seed, "columns": columns._asdict(), **options}
        if path is None:
            files = {file: fetch(file, mirror=mirror, cache=cache).sha256 for file in m4_files(name)}
            return {"what": name, "source": files}
        from gatelab.data.panel.long_frame import fingerprint

        return {"what": "panel", "source": fingerprint(path), "columns": columns._asdict(), **options}

    def make() -> CacheEntry:
        if name == "retail_panel":
            return _keep(_retail_panel(columns, options, seed))
        if path is None:
            return _keep(read_m4(name, mirror=mirror, cache=cache))
        from gatelab.data.panel.build import read_panel

        return _keep(read_panel(path, columns, **options))

    return _restore(cached(cache, key, make))


def _retail_panel(columns: Columns, options: Mapping[str, Any], seed: int) -> Panel:
    """The made-up panel, with the parts that the user's columns have."""
    from gatelab.data.panel.build import build_panel
    from gatelab.data.panel.long_frame import LongFrame
    from gatelab.data.panel.retail import retail_fingerprint, retail_frame

    frame = retail_frame(seed)
    notes = [f"synthetic: {len(frame):,} rows made from data.data_seed={seed}"]
    long = LongFrame(frame, (Path("retail_panel"),), np.zeros(1, np.int64))
    panel = build_panel(long, columns, options["gaps"], options["missing"], notes)
    panel.fingerprint, panel.notes = retail_fingerprint(frame), notes
    return panel


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
