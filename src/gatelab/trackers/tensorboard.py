"""TensorBoard event files in `<run directory>/tensorboard`: what `metrics.csv` holds, and a line of the HPARAMS tab.

Steps are those of `metrics.csv`. A resumed run hides the points that it computes again. Whatever goes wrong here ends
this tracker with one remark, and nothing else.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger

from gatelab.run.diff import flat
from gatelab.run.messages import say
from gatelab.run.record.identity import defining
from gatelab.trackers.follow import STEP, Best, Follow


class TensorBoardTracker(TensorBoardLogger):
    """Write event files.

    Args:
        run_dir: the run directory.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
    """

    def __init__(self, run_dir: str | Path) -> None:
        super().__init__(save_dir=run_dir, name="tensorboard", version="", default_hp_metric=False)
        self._run_dir = Path(run_dir)
        self._broken = False

    def continue_from(self, step: int | None) -> None:
        """Hide what earlier parts have written of later steps than `step`; all of it if that is None."""
        if any((self._run_dir / "tensorboard").glob("events.out.*")):
            self._kwargs["purge_step"] = 0 if step is None else step + 1

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics under the number of finished steps, as `metrics.csv` does."""
        finished = 0 if step is None else step + 1
        self._try(lambda: super(TensorBoardTracker, self).log_metrics(metrics, finished))

    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Write the configuration of `run.json` for the HPARAMS tab; the score comes at the end."""
        self._try(lambda: self._hparams(0, 1))

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Nothing: the graph of a recurrent network over many steps is no picture."""

    def save(self) -> None:
        """Write what is pending to the disk; `metrics.csv` does so at the same moment."""
        self._try(lambda: self.experiment.flush())

    def finalize(self, status: str) -> None:
        """Write what is pending and close the file."""
        if self._experiment is not None:
            self._try(self._experiment.close)

    def conclude(self, outcome: str, error: str | None, pictures: Sequence[Path]) -> None:
        """Write the best value of a run that is finished; the other arguments are for other trackers."""
        if outcome in ("done", "pruned"):
            self._try(self._score)

    def _score(self) -> None:
        rows, best = Follow(self._run_dir / "metrics.csv").rows(), Best(self._config())
        for row in rows:
            best.update(row)
        if best.value is not None:
            self.experiment.add_scalar(f"best/{best.name}", best.value, rows[-1][STEP])
        self._hparams(2)
        self.experiment.close()

    def _hparams(self, *parts: int) -> None:
        """Summaries that the plugin wants: 0 what is compared, 1 this run's parameters, 2 that it is finished."""
        from torch.utils.tensorboard.summary import hparams

        config = self._config()
        found = {k: v for k, v in flat(defining(config)).items() if not k.startswith("callbacks.")}
        given = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in found.items()}
        summaries = hparams(given, {f"best/{Best(config).name}": 0.0})
        for part in parts:
            self.experiment._get_file_writer().add_summary(summaries[part])

    def _config(self) -> dict[str, Any]:
        return dict(json.loads((self._run_dir / "run.json").read_text())["config"])

    def _try(self, act: Callable[[], Any]) -> None:
        if self._broken:
            return
        try:
            act()
        except Exception as error:
            self._broken = True
            say(
                f"TensorBoard: {traceback.format_exception_only(error)[-1].strip()}; metrics.csv goes on without it"
            )
