"""The trackers of a run: made before training, told its outcome at the end. None can stop the run, or another."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gatelab.data.messages import say
from gatelab.run.build import build_trackers
from gatelab.run.record.directory import RunDirectory
from gatelab.tasks.callbacks import RunInterrupted
from gatelab.trackers.pictures import draw_run, draw_sample
from gatelab.trackers.wandb.agent import started_by_agent


@contextlib.contextmanager
def tracked(run: RunDirectory, plain: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Open the trackers that the configuration asks for; when the block ends, tell them how the run ended.

    Raises:
        RequestError: a tracker cannot be made, e.g. because its package is missing.
    """
    trackers = build_trackers(plain, run.path, run.read()["tracker_id"])
    outcome, error = "failed", None
    try:
        yield trackers
        outcome = run.state()
    except RunInterrupted as stopped:
        outcome, error = "interrupted", str(stopped)
        raise
    except BaseException as failure:
        error = f"{type(failure).__name__}: {failure}"
        raise
    finally:
        _conclude(trackers, run, outcome, error)


def show_finished(run: RunDirectory, plain: Mapping[str, Any]) -> None:
    """Give a finished run to the agent that asked for it: its sweep waits for the values under an id of its own."""
    wandb = (plain["logger"] or {}).get("wandb")
    if wandb is None or not started_by_agent():
        return
    with tracked(run, {**plain, "logger": {"wandb": wandb}}) as trackers:
        for tracker in trackers:
            tracker.log_graph(None)


def continue_from(trackers: Sequence[Any], step: int | None) -> None:
    """Tell those that want to know from which finished step a run continues (None: it begins)."""
    for tracker in trackers:
        if hasattr(tracker, "continue_from"):
            guarded(lambda tracker=tracker: tracker.continue_from(step), tracker.name)


def _conclude(trackers: Sequence[Any], run: RunDirectory, outcome: str, error: str | None) -> None:
    waiting = [tracker for tracker in trackers if hasattr(tracker, "conclude")]
    if not waiting:
        return
    pictures: list[Path] = []
    if any(getattr(tracker, "shows_pictures", False) for tracker in waiting):
        for draw in (draw_run, draw_sample):
            pictures += guarded(lambda draw=draw: draw(run), "a picture of the run") or []
    for tracker in waiting:
        guarded(lambda tracker=tracker: tracker.conclude(outcome, error, pictures), tracker.name)


def guarded(act: Any, what: str) -> Any:
    """Do it; an error is a remark with its last line, and None."""
    try:
        return act()
    except Exception as error:
        say(f"{what}: {traceback.format_exception_only(error)[-1].strip()}; the run itself is not concerned")
        return None
