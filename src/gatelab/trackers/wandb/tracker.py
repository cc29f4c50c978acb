"""The run's side of Weights & Biases: starts the process that does everything, draws pictures of the run at its end.

wandb is neither imported nor called here. The other process (`daemon.py`) follows `metrics.csv`, so that training
neither waits for a server nor shares its interpreter with its client, and cannot be stopped by either.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from gatelab.data.messages import say
from gatelab.run.loggers import guarded
from gatelab.run.process_group import OF_ONE_RUN
from gatelab.run.record.directory import RunDirectory, read_metrics
from gatelab.tasks.contract import SeriesSample, as_text, metric_of

PATIENCE = 30.0
"""Seconds that a run waits at its end for the last upload; the other process goes on after that."""
TRAIN, VALID, TRUTH = "#9aa5b1", "#1f6fb2", "#333333"
SIZE, DPI = (4.6, 3.6), 120  # inches, dots an inch


class WandbTracker(Logger):
    """Follow a run with Weights & Biases.

    Args:
        run_dir: the run directory.
        settings: `id`, `name`, `project`, `entity`, `group`, `job_type`, `tags`, `mode` ("auto", "online", "offline"),
            and `sweep_id` if an agent asked for the run.
    """

    name = "wandb"
    version = ""

    def __init__(self, run_dir: str | Path, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.run_dir = Path(run_dir).absolute()
        self.version = str(settings["id"])
        self._settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None

    @rank_zero_only
    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Start following: the run begins now."""
        if self._process is not None:
            return
        folder = self.run_dir / "wandb"
        # the agent is in the settings, and wandb would drop half of those if it saw it here
        environment = {k: v for k, v in os.environ.items() if k not in ("WANDB_SERVICE", *OF_ONE_RUN)}
        environment.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "tracker.log").open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "gatelab.trackers.wandb.daemon"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the run, which says how it ended
                    env=environment,
                )
        except OSError as error:
            say(f"W&B: cannot start ({error}); metrics.csv goes on")
            return
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._tell({"run_dir": str(self.run_dir), **self._settings})

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Pass on what the other process says; it takes the metrics from `metrics.csv`."""
        self._pass_on()

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the other process takes the configuration from `run.json`."""

    @rank_zero_only
    def conclude(self, outcome: str, error: str | None) -> None:
        """Say how the run ended, with pictures of it, and wait a while for the last upload.

        Args:
            outcome: `done`, `pruned`, `interrupted`, or another word for a run that failed.
            error: what went wrong.
        """
        if self._process is None:
            return
        pictures: list[Path] = []
        for draw in (draw_run, draw_sample):
            pictures += guarded("a picture of the run", draw, RunDirectory(self.run_dir)) or []
        self._tell({"outcome": outcome, "error": error, "pictures": [str(path) for path in pictures]})
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = 0
            say(
                f"W&B: not everything was sent within {PATIENCE:g} s. This goes on in the background for some "
                f"minutes; afterwards `gatelab sync {self.run_dir}` sends what is missing."
            )
        self._pass_on()
        if code:
            say("W&B: its process was stopped; metrics.csv is complete")
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def _tell(self, message: Mapping[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it may have ended, and has said why
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def _pass_on(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            for line in (self._process.stdout.read() or b"").decode(errors="replace").splitlines():
                say(f"W&B: {line}")


def draw_run(run: RunDirectory) -> list[Path]:
    """The learning curves beside the baselines, in `<run directory>/wandb`; nothing of a run that has no scores."""
    from matplotlib.figure import Figure

    result = run.result()
    if result is None or not result.get("splits"):
        return []
    metric = str(result["monitor"]).rpartition("/")[2]
    figure = Figure(SIZE, layout="constrained")
    axes = figure.subplots()
    rows = read_metrics(run.metrics_file)
    for name, colour, marker in (("train/loss", TRAIN, ""), (f"val/{metric}", VALID, "o")):
        known = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
        if known:
            axes.plot(*zip(*known, strict=True), color=colour, marker=marker, label=name)
    baselines = result["splits"].get("valid", {}).get("baselines", {})
    for index, (name, scores) in enumerate(baselines.items()):
        if metric in scores:
            axes.axhline(scores[metric], color=f"C{index + 1}", ls="--", label=name.replace("_", " "))
    axes.set(xlabel="optimiser step", ylabel=metric_of(run.read(), metric).label)
    axes.legend(frameon=False, fontsize=8)
    path = run.path / "wandb" / "curves.png"
    figure.savefig(path, dpi=DPI)
    return [path]


def draw_sample(run: RunDirectory) -> list[Path]:
    """What the task shows of the best checkpoint: a picture, a text or a table; nothing where it shows nothing."""
    import numpy as np
    from matplotlib.figure import Figure

    from gatelab.run.load import load_task

    if run.result() is None or not run.best.is_file():
        return []
    loaded = load_task(run.path, trust=True)
    sample = loaded.task.sample(loaded)
    if sample is None:
        return []
    path = run.path / "wandb" / ("sample.png" if isinstance(sample, SeriesSample) else "sample.txt")
    if not isinstance(sample, SeriesSample):
        path.write_text(as_text(sample), "utf-8")
        return [path]
    figure = Figure(SIZE, layout="constrained")
    axes = figure.subplots()
    for number, window in enumerate(sample.windows):
        steps: Any = np.arange(window.start - len(window.past), window.start + len(window.future))
        if window.times:
            steps = np.array(window.times, "datetime64[m]")
        after = steps[len(window.past) :]
        truth, forecast = (None, None) if number else ("truth", "forecast")
        axes.plot(steps, [*window.past, *window.future], color=TRUTH, lw=1.2, label=truth)
        axes.plot(after, window.forecast, color=VALID, lw=1.8, label=forecast)
        axes.axvline(after[0], color=TRAIN, lw=1)
    axes.set(xlabel=sample.steps, ylabel=sample.label)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=DPI)
    return [path]
