"""The run's side of Weights & Biases: starts the process that does everything, and tells it how the run ended.

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
from gatelab.run.record.directory import RunDirectory
from gatelab.trackers.pictures import draw_run, draw_sample

PATIENCE = 30.0
"""Seconds that a run waits at its end for the last upload; the other process goes on after that."""


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
