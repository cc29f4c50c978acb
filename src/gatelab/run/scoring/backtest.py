"""Backtest of a finished run: rolling origin over the end of its data, with or without training anew at each origin.

Without `refit` only the test split is forecast, which the run has not seen. With it every window has a run of its own,
trained on what lies before its origin (the data's `settings_before`), kept below the run's `backtest/` and continued or
reported like any other. How windows are scored, the task says (`Task.backtest`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gatelab.data.messages import say
from gatelab.run import RequestError
from gatelab.run.build import request_errors
from gatelab.run.load import LoadedRun, load_task, with_own_places
from gatelab.run.record.identity import Identity, hash_of
from gatelab.run.reproduce import frozen_config
from gatelab.run.scoring.evaluate import use_calibration


def backtest(
    path: str | Path,
    windows: int | None = None,
    step: int | None = None,
    *,
    refit: bool = False,
    conformal: bool = False,
    baselines: Sequence[str] = (),
    trust: bool = False,
) -> dict[str, Any]:
    """Forecast the last `windows` windows of the run's data, `step` rows apart, and score them.

    Args:
        windows: None: as many as fit into the test split. step: None: the horizon.
        refit: train a run for each window on all rows before it; as many rows as the validation split has validate.
        conformal: with intervals calibrated on the validation split.
        baselines: models beside the trivial ones, `auto_ets` or `auto_arima`.
        trust: as `load_task`.

    Returns:
        `run`, `refit`, `step`, `seconds`, what `Task.backtest` returns, and `sample` (a `SeriesSample`).

    Raises:
        RequestError: no such run, a task or data without rolling windows, or no room for them.
    """
    loaded = load_task(path, trust=trust)
    data = loaded.data
    if not hasattr(data, "rolling"):
        raise RequestError(f"{path}: its data have no rolling windows; backtest is for forecasts of tables.")
    with request_errors(""):
        rolling = data.rolling(windows, step, seen=refit)
        bars = data.rolling_baselines([window.row for window in rolling], baselines)
    if conformal:
        use_calibration(loaded)
    started = time.perf_counter()

    def task_of(place: int) -> tuple[Any, Any]:
        """The task for a window, and the window as its data have it."""
        if not refit:
            return loaded.task, rolling[place]
        say(f"window {place + 1} of {len(rolling)}: train on the rows before {rolling[place].row:,}")
        again = _refit(loaded, data, rolling[place].row, trust=trust)
        if conformal:
            use_calibration(again)
        return again.task, again.data.rolling(1)[0]

    with request_errors(""):
        report = loaded.task.backtest(rolling, task_of, bars)
    return {
        "run": str(loaded.run.path),
        "refit": refit,
        "step": step or data.spec.horizon,
        "seconds": round(time.perf_counter() - started, 2),
        **report,
    }


def _refit(loaded: LoadedRun, data: Any, row: int, *, trust: bool) -> LoadedRun:
    """The run's configuration trained on the rows before `row`, which is where its only test window begins."""
    from gatelab.run.train import train_frozen

    record = loaded.record if trust else with_own_places(loaded.run, loaded.record)
    config = frozen_config(record, (), loaded.run.path.absolute() / "backtest", trust=trust)
    node = config["data"]
    node |= data.settings_before(row)
    if isinstance(node.get("path"), str):
        node["path"] = str(Path(record["attempts"][-1]["cwd"]) / node["path"])
    identity = Identity(str(config["name"]), hash_of(config)[:8], int(config["seed"]))
    result = train_frozen(config, identity)
    return load_task(result["run_dir"], trust=trust)
