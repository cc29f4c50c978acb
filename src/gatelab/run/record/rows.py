"""`rows.json` of a run: a split scored in other ways than the static one, each row marked as what it is.

The static figures stand in `result.json`, and they alone rank runs. A row holds `method`, `title`, `what` (a sentence),
`split`, `metrics`, `static` (the static metrics of the same split), `figures` (the names of those that rank),
`parameters`, `tuned` (what was tuned, on which split, with the grid; null: nothing), `seconds`, `checkpoint` and
`scored` (when). A method has one row a split, its last. Needs no PyTorch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gatelab.data.files import write_json
from gatelab.run import RequestError
from gatelab.run.record.directory import DAMAGED_FIX, RunDirectory, read_record

KINDS: Mapping[str, type | tuple[type, ...]] = {
    "method": str,
    "title": str,
    "what": str,
    "split": str,
    "checkpoint": str,
    "scored": str,
    "metrics": dict,
    "static": dict,
    "parameters": dict,
    "figures": list,
    "tuned": (dict, type(None)),
    "seconds": (int, float),
}


def read_rows(run: RunDirectory) -> list[dict[str, Any]]:
    """The rows of a run, in the order of splits and methods; none where none was scored.

    Raises:
        RequestError: the file is damaged.
    """
    if not run.rows_file.is_file():
        return []
    rows: list[dict[str, Any]] = read_record(run.rows_file, {"rows": list})["rows"]
    if not all(map(_is_row, rows)):
        raise RequestError(f"{run.rows_file}: holds what is not a row. {DAMAGED_FIX}")
    return sorted(rows, key=lambda row: (row["split"] != "valid", row["split"], row["method"]))


def _is_row(row: Any) -> bool:
    """Whether it is what was once written; a file may hold anything."""
    if not isinstance(row, dict) or not all(isinstance(row.get(key), kind) for key, kind in KINDS.items()):
        return False
    figures = [*row["metrics"].values(), *row["static"].values(), row["seconds"]]
    small = all(
        isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63) for value in figures
    )
    grid = (row["tuned"] or {}).get("grid", [])
    points = isinstance(grid, list) and all(isinstance(point, dict) for point in grid)
    return small and points and all(isinstance(name, str) for name in row["figures"])


def readable_rows(directory: str | Path) -> list[dict[str, Any]]:
    """The rows of a run for a view, which shows the others where one is damaged or gone."""
    with contextlib.suppress(RequestError, OSError):
        return read_rows(RunDirectory(directory))
    return []


def add_rows(run: RunDirectory, new: Sequence[Mapping[str, Any]]) -> None:
    """Put rows into the run's file, each in place of the earlier one of its split and method.

    Raises:
        RequestError: the run is trained by another process now, or the file is damaged.
    """
    with run.locked():
        kept = {(row["split"], row["method"]): row for row in read_rows(run)}
        kept |= {(row["split"], row["method"]): dict(row) for row in new}
        write_json(run.rows_file, {"format": 1, "rows": list(kept.values())})


def shown_parameters(row: Mapping[str, Any]) -> str:
    """`window=500 theta=0.3 lambda=0.1`, the tuned ones first and with a star."""
    grid = (row["tuned"] or {}).get("grid") or [{}]
    tuned = [name for name in row["parameters"] if name in grid[0]]
    rest = [name for name in row["parameters"] if name not in tuned]
    texts = [f"{name}={row['parameters'][name]}*" for name in tuned]
    return " ".join([*texts, *(f"{name}={row['parameters'][name]}" for name in rest)])
