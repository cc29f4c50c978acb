"""Reading `metrics.csv`, apart from what writes it (`metrics_csv.py`): who only looks at runs needs no Lightning."""

from __future__ import annotations

import csv
from pathlib import Path


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """The rows of a metrics file as text; a last line that was cut off by a kill is left out.

    Raises:
        ValueError: the file is damaged; the message names it and the line.
    """
    try:
        text = Path(path).read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: damaged, it is no text: {error}") from None
    whole = text[: text.rfind("\n") + 1]
    rows = [row for row in csv.DictReader(whole.splitlines()) if row.get("step")]
    for number, row in enumerate(rows, 2):
        if not row["step"].isdigit() or None in row:
            raise ValueError(f"{path}: damaged, line {number} is no row of metrics")
    return rows
