"""Reading `metrics.csv`: its rows, the peak memory and the median throughput. Needs no Lightning.

Columns under `time/` and `memory/` are the machine's: two runs that are the same differ in them.
"""

from __future__ import annotations

import csv
import re
import statistics
from pathlib import Path
from typing import Any

RATE = re.compile(r"time/(\w+)_per_second")


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """The rows of a metrics file as text; a last line that was cut off by a kill is left out.

    Raises:
        ValueError: the file is damaged; the message names it and the line.
    """
    try:
        text = Path(path).read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: damaged, it is not text: {error}") from None
    whole = text[: text.rfind("\n") + 1]
    try:
        rows = [row for row in csv.DictReader(whole.splitlines()) if row.get("step")]
    except csv.Error as error:
        raise ValueError(f"{path}: damaged: {error}") from None
    for number, row in enumerate(rows, 2):
        if not row["step"].isdigit() or None in row:
            raise ValueError(f"{path}: damaged, line {number} is not a row of metrics")
    return rows


def resources(metrics: Path) -> dict[str, Any]:
    """`memory` (`cpu_peak_bytes`, `gpu_peak_bytes`) and `throughput` (`per_second`, the median; `unit`) of a run.

    A value that no callback measured is None.
    """
    rows = read_metrics(metrics) if metrics.is_file() else []
    return {
        "memory": {f"{device}_peak_bytes": _peak(rows, device) for device in ("cpu", "gpu")},
        "throughput": _throughput(rows),
    }


def _peak(rows: list[dict[str, str]], device: str) -> int | None:
    values = [float(row[key]) for row in rows if row.get(key := f"memory/{device}_peak_mib")]
    return round(max(values) * 2**20) if values else None


def _throughput(rows: list[dict[str, str]]) -> dict[str, Any] | None:
    for key in rows[0] if rows else ():
        if match := RATE.fullmatch(key):
            values = [float(row[key]) for row in rows if row.get(key)]
            return {"per_second": round(statistics.median(values), 1), "unit": match[1]} if values else None
    return None
