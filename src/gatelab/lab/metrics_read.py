"""Reading `metrics.csv`, apart from what writes it (`metrics_csv.py`): who only looks at runs needs no Lightning."""

from __future__ import annotations

import csv
from pathlib import Path


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """The rows of a metrics file as text; a last line that was cut off by a kill is left out."""
    text = Path(path).read_text()
    whole = text[: text.rfind("\n") + 1]
    return [row for row in csv.DictReader(whole.splitlines()) if row.get("step")]
