"""What a run took, read from its own `metrics.csv`: peak memory and median throughput, over all its attempts.

Columns under `time/` and `memory/` are the machine's: two runs that are the same differ in them.
"""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

from gatelab.run.record.metrics_csv import read_metrics

RATE = re.compile(r"time/(\w+)_per_second")


def resources(metrics: Path) -> dict[str, Any]:
    """`memory` (`cpu_peak_bytes`, `gpu_peak_bytes`) and `throughput` (`per_second`, the median; `unit`).

    What no callback measured is None.
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
