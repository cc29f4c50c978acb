"""The loggers of a run: `metrics.csv`, which is always on, and what `logger=` names.

The latter are made before training and told its outcome at the end. A logger that has `continue_from(step)` is told
from which finished step the run continues (None: it begins), one that has `conclude(outcome, error)` how it ended: a
word of `RunDirectory.state` or `failed`, and what went wrong. None can stop the run, or another logger.
"""

from __future__ import annotations

import contextlib
import csv
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from gatelab.data.files import atomic_write_text, csv_text
from gatelab.data.messages import say
from gatelab.run import RequestError
from gatelab.run.build import instantiate, request_errors
from gatelab.run.config.signatures import signature_of
from gatelab.run.record.directory import RunDirectory, read_metrics
from gatelab.run.record.secrets import without_secrets
from gatelab.tasks.callbacks import RunInterrupted


def build_loggers(config: Mapping[str, Any], run_dir: Path, run_id: str) -> list[Any]:
    """The loggers of `logger=` (besides `metrics.csv`, which is always on); one that fails is told and left out.

    Raises:
        RequestError: the package that one needs is not installed.
    """
    made = []
    for name, node in (config["logger"] or {}).items():
        try:
            with request_errors(f"logger.{name}", (ModuleNotFoundError,)):
                made.append(_made(name, node, {"run_dir": str(run_dir), "run_id": run_id}))
        except RequestError:
            raise
        except Exception as error:
            _say_without(name, error)
    return [logger for logger in made if logger is not None]


def _made(name: str, node: Any, places: Mapping[str, str]) -> Any:
    """A logger; one that knows nothing of Gatelab writes below the run directory, unless told otherwise."""
    if node is None:
        return None
    takes = signature_of(str(node["_target_"])).names
    given = {key: value for key, value in places.items() if key in takes}
    if not given and "save_dir" in takes and node.get("save_dir") is None:
        given = {"save_dir": places["run_dir"]}
    logger = instantiate(node, **given)
    if logger is not None and not isinstance(logger, Logger):
        raise TypeError(
            f"{node['_target_']} makes no pytorch_lightning Logger, but a {type(logger).__name__}"
        )
    return (
        logger
        if logger is None or type(logger).__module__.startswith("gatelab.")
        else PlainLogger(name, logger)
    )


@contextlib.contextmanager
def opened_loggers(run: RunDirectory, config: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Open the loggers that the configuration asks for; when the block ends, tell them how the run ended.

    Raises:
        RequestError: a logger cannot be made, e.g. because its package is missing.
    """
    loggers = build_loggers(config, run.path, run.read()["tracker_id"])
    for logger in loggers:
        if isinstance(logger, PlainLogger):
            logger.log_hyperparams(without_secrets(dict(config)))
    outcome, error = "failed", None
    try:
        yield loggers
        outcome = run.state()
    except RunInterrupted as stopped:
        outcome, error = "interrupted", str(stopped)
        raise
    except BaseException as failure:
        error = f"{type(failure).__name__}: {failure}"
        raise
    finally:
        for logger in loggers:
            if hasattr(logger, "conclude"):
                guarded(logger.name, logger.conclude, outcome, error)


def show_finished(run: RunDirectory, config: Mapping[str, Any], names: Collection[str]) -> None:
    """Open those of the configured loggers that are called `names`, and show them a finished run."""
    chosen = {name: node for name, node in (config["logger"] or {}).items() if name in names}
    if not chosen:
        return
    with opened_loggers(run, {**config, "logger": chosen}) as loggers:
        for logger in loggers:
            guarded(logger.name, logger.log_graph, None)


def continue_from(loggers: Sequence[Any], step: int | None) -> None:
    """Tell the loggers that want to know from which finished step a run continues (None: it begins)."""
    for logger in loggers:
        if hasattr(logger, "continue_from"):
            guarded(logger.name, logger.continue_from, step)


def guarded(what: str, act: Callable[..., Any], *arguments: Any) -> Any:
    """Call `act`; an error is a remark with its last line about `what`, and None."""
    try:
        return act(*arguments)
    except Exception as error:
        say(f"{what}: {last_line(error)}; the run itself is not concerned")
        return None


def last_line(error: Exception) -> str:
    """The last line of an error's traceback: its class and what it says."""
    return traceback.format_exception_only(error)[-1].strip()


def _say_without(name: str, error: Exception) -> None:
    """Say that a run goes on without the logger of this name."""
    say(
        f"logger.{name} cannot be used: {last_line(error)}. The run goes on without it; metrics.csv has everything."
    )


def finished_steps(step: int | None) -> int | None:
    """The number of finished optimiser steps of Lightning's step, which counts from 0."""
    return None if step is None else step + 1


class PlainLogger(Logger):
    """A logger of Lightning or of a third party, whose errors do not reach the run: the first is told and ends it."""

    def __init__(self, key: str, logger: Logger) -> None:
        super().__init__()
        self._key, self._logger, self._broken = key, logger, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_logger"], name)

    @property
    def name(self) -> str | None:
        """The logger's own."""
        return self._logger.name

    @property
    def version(self) -> int | str | None:
        """The logger's own."""
        return self._logger.version

    @property
    def save_dir(self) -> str | None:
        """The logger's own."""
        return self._logger.save_dir

    def _act(self, method: str, *arguments: Any, **options: Any) -> None:
        if self._broken:
            return
        try:
            getattr(self._logger, method)(*arguments, **options)
        except Exception as error:
            self._broken = True
            _say_without(self._key, error)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hand on the metrics of a step, counted as in metrics.csv: optimiser steps that are finished."""
        self._act("log_metrics", dict(metrics), finished_steps(step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Hand on the configuration."""
        self._act("log_hyperparams", params, *args, **kwargs)

    def log_graph(self, model: Any, *args: Any, **kwargs: Any) -> None:
        """Hand on the model."""
        self._act("log_graph", model, *args, **kwargs)

    def save(self) -> None:
        """Save."""
        self._act("save")

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Hand on the checkpoint callback."""
        self._act("after_save_checkpoint", checkpoint_callback)

    def finalize(self, status: str) -> None:
        """Close."""
        self._act("finalize", status)


END = "\r\n"
"""Of a line of metrics.csv, as `csv` ends those that are appended."""


class MetricsCSV(Logger):
    """Write metrics to `<run directory>/metrics.csv`: a row a step, a column for each metric.

    `step` counts the optimiser steps that were finished when the row was measured (Lightning's own count begins at 0).
    Rows are appended as they come, so a killed run keeps them. A resumed run continues the file: rows from after the
    checkpoint are computed again, so they move to `metrics.superseded.csv` first. Two runs that are the same have the
    same file, but for the machine's own columns under `time/` and `memory/`.

    Args:
        path: the file.
        resume_step: the optimiser step from which the run continues; None for a new run.
    """

    def __init__(self, path: str | Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] = ["step", "epoch"]
        self._pending: dict[str, Any] = {}
        if self.path.is_file():
            self._continue(resume_step or 0)

    name, version = "csv", ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration is in `run.json`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Collect the metrics of a step; the row is written when the next step's come, or on `save`."""
        finished = finished_steps(step) or 0
        if self._pending and finished != self._pending["step"]:
            self.save()
        self._pending["step"] = finished
        for key, value in metrics.items():
            self._pending[key] = int(value) if key == "epoch" else float(value)

    @rank_zero_only
    def save(self) -> None:
        """Write the row that is pending."""
        if not self._pending:
            return
        if new := sorted(set(self._pending) - set(self._columns)):
            rows = read_metrics(self.path) if self.path.is_file() else []
            self._columns += new
            atomic_write_text(self.path, csv_text(self._columns, rows, END))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(self._pending)
        self._pending = {}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is pending."""
        self.save()

    @rank_zero_only
    def _continue(self, step: int) -> None:
        rows = read_metrics(self.path)
        kept = [row for row in rows if int(row["step"]) <= step]
        superseded = [row for row in rows if int(row["step"]) > step]
        if rows:
            self._columns = list(rows[0])
        if superseded:
            beside = self.path.with_suffix(".superseded.csv")
            earlier = read_metrics(beside) if beside.is_file() else []
            columns = list(dict.fromkeys([*(earlier[0] if earlier else []), *self._columns]))
            atomic_write_text(beside, csv_text(columns, [*earlier, *superseded], END))
        atomic_write_text(self.path, csv_text(self._columns, kept, END))
