"""The test split in the record of a study: what each run's best checkpoint scored there, and what trivial models do.

A study ranks by a metric of the validation split. The test split is read once at a run's end, and nothing is chosen by
it. Scores of another kind (`gatelab eval --rows`) stand beside the static ones, by the name of their method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.rows import readable_rows
from gatelab.study.analysis.statistics import Summary, decimals, summarise

PREFIX = "test/"


def scores(directory: Path, result: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a run as cells: `test/ppl`, and `test/ppl by cache` of a row; empty where test was not scored.

    Args:
        directory: of the run, whose run.json says which metrics rank; result: its result.json.
    """
    metrics = result.get("splits", {}).get("test", {}).get("metrics", {})
    if not metrics:
        return {}
    task = RunDirectory(directory).read().get("task", {})
    ranking = [metric["name"] for metric in task.get("metrics", ()) if metric["better"] is not None]
    found = {f"{PREFIX}{name}": metrics[name] for name in ranking if name in metrics}
    for row in readable_rows(directory):
        if row["split"] == "test":
            names = [
                name for name in row["figures"] if name in row["metrics"]
            ]  # once all of a task's were kept
            found |= {f"{PREFIX}{name} by {row['method']}": row["metrics"][name] for name in names}
    return found


def trivial(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The trivial models' figures on the test split, by model; empty where it was not scored."""
    found = result.get("splits", {}).get("test", {}).get("baselines", {})
    return {name: dict(figures) for name, figures in found.items()}


def section(
    rows: Sequence[Mapping[str, str]], models: Mapping[str, Mapping[str, float]]
) -> dict[str, list[str]]:
    """Title -> one text a line, of rows of results.csv: a line a trial, then one for each trivial model."""
    names = [name for name in (rows[0] if rows else ()) if name.startswith(PREFIX)]
    trials: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if any(row[name] for name in names):
            trials.setdefault(row["trial"], []).append(row)
    if not trials:
        return {}
    columns: dict[str, list[str]] = {"": [f"trial {trial}" for trial in trials] + list(models)}
    for name in names:
        found = [_summary([float(row[name]) for row in part if row[name]]) for part in trials.values()]
        if any(found):
            figures = [models[model].get(name.removeprefix(PREFIX)) for model in models]
            known = [Summary(1, figure) for figure in figures if figure is not None]
            digits = decimals([summary for summary in found if summary] or known)
            shown = [summary.text(digits) if summary else "" for summary in found]
            shown += ["" if figure is None else f"{figure:,.{digits}f}" for figure in figures]
            columns[name.removeprefix(PREFIX)] = shown
    return columns


def _summary(values: Sequence[float]) -> Summary | None:
    return summarise(values) if values else None
