"""The test split in the record of a study: what each run's best checkpoint scored there, and what trivial models do.

A study ranks by a metric of the validation split. The test split is read once at a run's end, and nothing is chosen by
it. Scores of another kind (`gatelab eval --rows`) stand beside the static ones, by the name of their method.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gatelab.run import RequestError
from gatelab.run.record.directory import DAMAGED, RunDirectory, figures
from gatelab.run.record.rows import readable_rows
from gatelab.study.analysis.leaderboard import Row
from gatelab.study.analysis.state import StudyState, short_names, show
from gatelab.study.analysis.statistics import Summary, decimals, summarise

PREFIX = "test/"
MARK = (
    "The best checkpoints on the test split, by which nothing was chosen; `by` names another way of scoring."
)


def scores(directory: Path, result: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a run as cells: `test/ppl`, and `test/ppl by cache` of a row; empty where test was not scored.

    Args:
        directory: of the run, whose run.json says which metrics rank; result: its result.json.
    """
    metrics = figures(result.get("splits", {}).get("test", {}).get("metrics", {}))
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
    return {name: figures(scored) for name, scored in found.items()}


def columns(state: StudyState, leaderboard: Sequence[Row]) -> dict[str, list[str]]:
    """`section` of a leaderboard's trials in its order, read from their runs; empty where none was scored on test.

    With the trials' parameters, and with `runs` where not all of a trial's were scored. A run that cannot be read is
    passed over.
    """
    rows: list[dict[str, str]] = []
    models: dict[str, dict[str, float]] = {}
    counts: dict[int, int] = {}
    for row in leaderboard:
        for run in row.trial.runs:
            with contextlib.suppress(RequestError, OSError, *DAMAGED):
                result = RunDirectory(run.directory).result() or {}
                found, beside = scores(run.directory, result), trivial(result)
                if found:
                    texts = {name: repr(float(figure)) for name, figure in found.items()}
                    rows.append({"trial": str(row.trial.number), **texts})
                    counts[row.trial.number] = counts.get(row.trial.number, 0) + 1
                    models = models or beside
    cells = section(rows, models)
    if not cells:
        return {}
    trials = [row.trial for row in leaderboard if row.trial.number in counts]
    facts = {
        name: [show(trial.params[key]) if key in trial.params else "" for trial in trials]
        for key, name in short_names(state.keys).items()
    }
    if any(counts[trial.number] < len(trial.runs) for trial in trials):
        facts["runs"] = [f"{counts[trial.number]} of {len(trial.runs)}" for trial in trials]
    filled = {name: [*texts, *[""] * len(models)] for name, texts in facts.items()}
    return {"": cells.pop(""), **filled, **cells}


def section(
    rows: Sequence[Mapping[str, str]], models: Mapping[str, Mapping[str, float]]
) -> dict[str, list[str]]:
    """Title -> one text a line, of rows of results.csv: a line a trial, then one for each trivial model."""
    names = [*dict.fromkeys(name for row in rows for name in row if name.startswith(PREFIX))]
    trials: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if any(row.get(name) for name in names):
            trials.setdefault(row["trial"], []).append(row)
    if not trials:
        return {}
    columns: dict[str, list[str]] = {"": [f"trial {trial}" for trial in trials] + list(models)}
    for name in names:
        found = [_summary([float(row[name]) for row in part if row.get(name)]) for part in trials.values()]
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
