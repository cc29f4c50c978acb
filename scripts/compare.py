"""What differs first between two directories of one run: checkpoints, metrics.csv, trace.csv, result.json, bit for bit.

Only folders, clock times and how often the run was begun may differ. Nothing is rounded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from gatelab.tasks import load_checkpoint

FREE = {"run_dir", "seconds", "finished", "memory", "throughput"}
"""Keys of `result.json` that are a place, a time, or the machine's."""


def first_difference(run: Path, reference: Path) -> str | None:
    """Name the first thing in `run` that is not as in `reference`, and both values; None if nothing is."""
    files = ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "metrics.csv", "trace.csv", "result.json")
    if gone := [name for name in files if not (run / name).is_file()]:
        return f"{gone[0]} is missing"
    for name in ("last.ckpt", "best.ckpt"):
        mine, other = (_checkpoint(folder / "checkpoints" / name) for folder in (run, reference))
        if difference := _compare(mine, other, name):
            return difference
    for name in ("metrics.csv", "trace.csv"):
        mine, other = ((folder / name).read_text().splitlines() for folder in (run, reference))
        if difference := _compare(mine, other, f"{name}, line "):
            return difference
    mine, other = (json.loads((folder / "result.json").read_text()) for folder in (run, reference))
    return _compare(_fixed(mine), _fixed(other), "result.json")


def _checkpoint(path: Path) -> dict[str, Any]:
    """Everything but the configuration, which names folders."""
    return {key: value for key, value in load_checkpoint(path).items() if key != "hyper_parameters"}


def _fixed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _fixed(item) for key, item in value.items() if key not in FREE}
    return value


def _compare(a: Any, b: Any, where: str) -> str | None:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.dtype == b.dtype and a.shape == b.shape:
            if bool((same := (a == b) | (a.isnan() & b.isnan())).all()):
                return None
            at = tuple((~same).nonzero()[0].tolist())
            return f"{where}{list(at) if at else ''}: {float(a[at]).hex()}, undisturbed {float(b[at]).hex()}"
        return f"{where}: {a.dtype} {list(a.shape)}, undisturbed {b.dtype} {list(b.shape)}"
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return f"{where}: keys {sorted(map(str, a.keys() ^ b.keys()))} are in one of them only"
        return next((d for key in a if (d := _compare(a[key], b[key], f"{where}/{key}"))), None)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        pairs = enumerate(zip(a, b, strict=False))
        if found := next((d for i, (x, y) in pairs if (d := _compare(x, y, f"{where}[{i}]"))), None):
            return found
        return None if len(a) == len(b) else f"{where}: {len(a)} entries, undisturbed {len(b)}"
    return None if a == b or (a != a and b != b) else f"{where}: {a!r}, undisturbed {b!r}"
