"""A run's figures as rows of a public leaderboard: what it asks beside the figures is read from the record.

The columns are the task's (`Task.leaderboard_row`).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gatelab.run.build import request_errors
from gatelab.run.load import LoadedRun, load_task
from gatelab.tasks.series.leaderboards import About, fev_means


def evaluation_rows(format: str, report: Mapping[str, Any], *, trust: bool = False) -> list[dict[str, Any]]:
    """The rows of what `gatelab.run.scoring.evaluate.evaluate` returned: the run, and its rows scored otherwise."""
    loaded = load_task(report["run"], trust=trust)
    windows = int(report["metrics"]["windows"])
    about = _about(loaded, windows, 1, None, report["seconds"])
    with request_errors(f"--format {format}"):
        rows = [loaded.task.leaderboard_row(format, about, report["metrics"] | report["unlisted"])]
        for row in report["rows"]:
            named = _about(loaded, windows, 1, None, row["seconds"], f" ({row['title']})")
            rows.append(loaded.task.leaderboard_row(format, named, row["metrics"] | report["unlisted"]))
    return rows


def backtest_rows(format: str, report: Mapping[str, Any], *, trust: bool = False) -> list[dict[str, Any]]:
    """The row of what `gatelab.run.scoring.backtest.backtest` returned."""
    loaded = load_task(report["run"], trust=trust)
    windows, spec = report["windows"], loaded.task.spec
    cutoff = -(spec.horizon + (len(windows) - 1) * report["step"])
    about = _about(loaded, len(windows), report["step"], cutoff, report["seconds"])
    metrics = {**report["metrics"], **report["unlisted"], **fev_means(windows)}
    with request_errors(f"--format {format}"):
        return [loaded.task.leaderboard_row(format, about, metrics)]


def _about(
    loaded: LoadedRun, windows: int, step: int, cutoff: int | None, seconds: float, more: str = ""
) -> About:
    config, result = loaded.config, loaded.run.result() or {}
    node = config["data"]
    path = node.get("path")
    dataset = Path(path).stem if isinstance(path, str) else str(node.get("series", config["name"]))
    return About(
        model=str(config["name"]) + more,
        dataset=dataset,
        windows=windows,
        step=step,
        cutoff=cutoff,
        training_seconds=result.get("seconds", {}).get("fit"),
        inference_seconds=seconds,
        version=version("gatelab"),
    )
