"""The test split in the views of a study: what each run's best checkpoint scored there, and what trivial models do.

A study ranks by a metric of the validation split. The test split is read once, at a run's end or by `gatelab eval`, and
nothing is chosen by it. Scores of another kind (`gatelab eval --rows`) stand beside the static ones, by the name of
their method.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gatelab.run.record.directory import UNREADABLE, RunDirectory, figures
from gatelab.run.record.rows import readable_rows
from gatelab.study.analysis.leaderboard import leaderboard
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
            # once all of a task's figures were kept
            names = [name for name in row["figures"] if name in row["metrics"]]
            found |= {f"{PREFIX}{name} by {row['method']}": row["metrics"][name] for name in names}
    return found


def trivial(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The trivial models' figures on the test split, by model; empty where it was not scored."""
    found = result.get("splits", {}).get("test", {}).get("baselines", {})
    return {name: figures(scored) for name, scored in found.items()}


def columns(state: StudyState) -> dict[str, list[str]]:
    """`section` of a study, read from its runs; one that cannot be read is passed over."""
    rows: list[dict[str, str]] = []
    for trial in state.done:
        for run in trial.runs:
            with contextlib.suppress(*UNREADABLE):
                found = scores(run.directory, RunDirectory(run.directory).result() or {})
                if found:
                    texts = {name: repr(float(value)) for name, value in found.items()}
                    rows.append({"trial": str(trial.number), **texts})
    return section(state, rows, baselines(state) if rows else {})


def baselines(state: StudyState) -> dict[str, dict[str, float]]:
    """The trivial models' figures on the test split: the mean over the runs, which may be folds, of the first trial.

    Of the first finished one whose runs can all be read and were scored; empty where there is none.
    """
    for trial in state.done:
        with contextlib.suppress(*UNREADABLE):
            found = [trivial(RunDirectory(run.directory).result() or {}) for run in trial.runs]
            if all(found):
                return {
                    model: {name: fmean(one[model][name] for one in found) for name in first}
                    for model, first in found[0].items()
                }
    return {}


def section(
    state: StudyState, rows: Sequence[Mapping[str, str]], models: Mapping[str, Mapping[str, float]]
) -> dict[str, list[str]]:
    """Title -> one text a line: a line a trial in the order of the leaderboard, then one for each trivial model.

    With the parameters that were tried, and with `runs` where not all of a trial's were scored. Empty where none was.

    Args:
        rows: one a run: `trial`, and the figures of `scores` as texts, as results.csv has them.
        models: as `trivial`.
    """
    names = [*dict.fromkeys(name for row in rows for name in row if name.startswith(PREFIX))]
    of_trial: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if any(row.get(name) for name in names):
            of_trial.setdefault(row["trial"], []).append(row)
    trials = [row.trial for row in leaderboard(state) if str(row.trial.number) in of_trial]
    if not trials:
        return {}
    parts = [of_trial[str(trial.number)] for trial in trials]
    facts = {
        name: [show(trial.params[key]) if key in trial.params else "" for trial in trials]
        for key, name in short_names(state.keys).items()
    }
    if any(len(part) < len(trial.runs) for part, trial in zip(parts, trials, strict=True)):
        facts["runs"] = [f"{len(part)} of {len(t.runs)}" for part, t in zip(parts, trials, strict=True)]
    cells: dict[str, list[str]] = {"": [*(f"trial {trial.number}" for trial in trials), *models]}
    cells |= {name: [*texts, *[""] * len(models)] for name, texts in facts.items()}
    for name in names:
        found = [_summary([float(row[name]) for row in part if row.get(name)]) for part in parts]
        if any(found):
            beside = [models[model].get(name.removeprefix(PREFIX)) for model in models]
            known = [Summary(1, figure) for figure in beside if figure is not None]
            digits = decimals([summary for summary in found if summary] or known)
            shown = [summary.text(digits) if summary else "" for summary in found]
            shown += ["" if figure is None else f"{figure:,.{digits}f}" for figure in beside]
            cells[name.removeprefix(PREFIX)] = shown
    return cells


def _summary(values: Sequence[float]) -> Summary | None:
    return summarise(values) if values else None
