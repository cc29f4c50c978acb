"""The loggers of a run besides `metrics.csv`: made before training, told its outcome at the end.

They are what `logger=` names, and known here by two protocols only. None can stop the run, or another logger.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gatelab.data.messages import say
from gatelab.run.build import instantiate, request_errors
from gatelab.run.errors import RequestError
from gatelab.run.record.directory import RunDirectory
from gatelab.tasks.callbacks import RunInterrupted


@runtime_checkable
class Continues(Protocol):
    """A logger that wants to know from which finished step a run continues (None: it begins)."""

    name: str

    def continue_from(self, step: int | None) -> None:
        """Called before training."""


@runtime_checkable
class Concludes(Protocol):
    """A logger that wants to know how the run ended."""

    name: str

    def conclude(self, outcome: str, error: str | None) -> None:
        """Called once, with a word of `RunDirectory.state` or `failed`, and what went wrong."""


def build_loggers(config: Mapping[str, Any], run_dir: Path, run_id: str) -> list[Any]:
    """The loggers of `logger=` (besides `metrics.csv`, which is always on); one that fails is told and left out.

    Raises:
        RequestError: the package that one needs is not installed.
    """
    made = []
    for name, node in (config["logger"] or {}).items():
        try:
            with request_errors(f"logger.{name}", (ModuleNotFoundError,)):
                made.append(instantiate(node, run_dir=str(run_dir), run_id=run_id))
        except RequestError:
            raise
        except Exception as error:
            what = traceback.format_exception_only(error)[-1].strip()
            say(
                f"logger.{name} cannot be used: {what}. The run goes on without it; metrics.csv has everything."
            )
    return [logger for logger in made if logger is not None]


@contextlib.contextmanager
def opened_loggers(run: RunDirectory, config: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Open the loggers that the configuration asks for; when the block ends, tell them how the run ended.

    Raises:
        RequestError: a logger cannot be made, e.g. because its package is missing.
    """
    loggers = build_loggers(config, run.path, run.read()["tracker_id"])
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
            if isinstance(logger, Concludes):
                guarded(logger.name, logger.conclude, outcome, error)


def show_finished(run: RunDirectory, config: Mapping[str, Any], names: Collection[str]) -> None:
    """Open those of the configured loggers that are called `names`, and show them a finished run."""
    chosen = {name: node for name, node in (config["logger"] or {}).items() if name in names}
    if not chosen:
        return
    with opened_loggers(run, {**config, "logger": chosen}) as loggers:
        for logger in loggers:
            logger.log_graph(None)


def continue_from(loggers: Sequence[Any], step: int | None) -> None:
    """Tell those that want to know from which finished step a run continues (None: it begins)."""
    for logger in loggers:
        if isinstance(logger, Continues):
            guarded(logger.name, logger.continue_from, step)


def guarded(what: str, act: Callable[..., Any], *arguments: Any) -> Any:
    """Call `act`; an error is a remark with its last line about `what`, and None."""
    try:
        return act(*arguments)
    except Exception as error:
        say(f"{what}: {traceback.format_exception_only(error)[-1].strip()}; the run itself is not concerned")
        return None
