"""TensorBoard event files in `<run directory>/tensorboard`: what `metrics.csv` holds, and a line of the HPARAMS tab.

Steps are those of `metrics.csv`. A resumed run hides the points that it computes again. An error here ends this tracker
with one message, and the run goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from gatelab.data.messages import say
from gatelab.run.loggers import finished_steps, last_line
from gatelab.run.record.identity import defining, flat
from gatelab.trackers.follow import STEP, Best, Follow


class TensorBoardTracker(Logger):
    """Write event files; `run_dir` is the run directory."""

    name = "tensorboard"
    version = ""

    def __init__(self, run_dir: str | Path) -> None:
        super().__init__()
        self._run_dir = Path(run_dir)
        self._purge_step: int | None = None
        self._writer: Any = None
        self._broken = False

    def continue_from(self, step: int | None) -> None:
        """Hide what earlier parts have written of later steps than `step`; all of it if that is None."""
        if any((self._run_dir / "tensorboard").glob("events.out.*")):
            self._purge_step = 0 if step is None else step + 1

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics under the number of finished steps, as `metrics.csv` does."""
        finished = finished_steps(step) or 0

        def write(writer: Any) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, float(value), finished)

        self._write(write)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Write the configuration of `run.json` for the HPARAMS tab; the score comes at the end."""
        self._write(lambda writer: self._write_hparams(writer, 0, 1))

    def save(self) -> None:
        """Write what is pending to the disk; `metrics.csv` does so at the same moment."""
        self._write(lambda writer: writer.flush())

    def conclude(self, outcome: str, error: str | None) -> None:
        """Write the best value of a run that is finished, and close the file."""
        if outcome in ("done", "pruned"):
            self._write(self._write_score)
        self._write(lambda writer: writer.close())

    def _write_score(self, writer: Any) -> None:
        rows, best = Follow(self._run_dir / "metrics.csv").rows(), Best(self._config())
        for row in rows:
            best.update(row)
        if best.value is not None:
            writer.add_scalar(f"best/{best.name}", best.value, rows[-1][STEP])
        self._write_hparams(writer, 2)

    def _write_hparams(self, writer: Any, *parts: int) -> None:
        """Write summaries of the plugin: 0 what is compared, 1 this run's parameters, 2 that it is finished."""
        from torch.utils.tensorboard.summary import hparams

        config = self._config()
        found = {k: v for k, v in flat(defining(config)).items() if not k.startswith("callbacks.")}
        given = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in found.items()}
        summaries = hparams(given, {f"best/{Best(config).name}": 0.0})
        for part in parts:
            writer.file_writer.add_summary(summaries[part])

    def _config(self) -> dict[str, Any]:
        return dict(json.loads((self._run_dir / "run.json").read_text())["config"])

    @rank_zero_only
    def _write(self, act: Callable[[Any], Any]) -> None:
        if self._broken:
            return
        try:
            if self._writer is None:
                from torch.utils.tensorboard import SummaryWriter

                folder = str(self._run_dir / "tensorboard")
                self._writer = SummaryWriter(folder, purge_step=self._purge_step)
            act(self._writer)
        except Exception as error:
            self._broken = True
            say(f"TensorBoard: {last_line(error)}; metrics.csv goes on without it")
