"""How seconds per epoch are shown: a table of the contenders, and one of the parts of an epoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table


def tables(result: dict[str, Any]) -> Iterable[Table]:
    """The table of one experiment with one number of threads; a second one if it was profiled."""
    models = result["models"]
    title = (
        f"{' '.join(result['overrides'])}, {result['threads']} thread{'s' * (result['threads'] != 1)}: "
        f"{result['batches_per_epoch']} batches an epoch"
    )
    table = Table(title=title, title_justify="left")
    for column in ("model", "s/epoch", "training", "validation", f"ratio to {models[-1]['model']}"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for row in models:
        seconds = (f"{row[key]:.2f}" for key in ("seconds_per_epoch", "training", "validation"))
        table.add_row(row["model"], *seconds, f"{row['ratio']:.2f}x")
    yield table
    if all("profile" in row for row in models):
        yield parts(models)


def parts(models: list[dict[str, Any]]) -> Table:
    """Seconds per epoch and share of each part, a contender a column."""
    table = Table(
        title="where an epoch's seconds go (one turn each, under the profiler)", title_justify="left"
    )
    table.add_column("part")
    for row in models:
        table.add_column(row["model"], justify="right")
        table.add_column("%", justify="right", style="dim")
    totals = [sum(row["profile"].values()) for row in models]
    for part in models[0]["profile"]:
        cells = []
        for row, total in zip(models, totals, strict=True):
            cells += [f"{row['profile'][part]:.3f}", f"{100 * row['profile'][part] / total:.1f}"]
        table.add_row(part, *cells)
    table.add_section()
    table.add_row("all", *(cell for total in totals for cell in (f"{total:.3f}", "100")))
    return table
