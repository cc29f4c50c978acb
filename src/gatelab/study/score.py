"""Score the finished runs of a study on a split, one after the other; each keeps its own scores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatelab.run import RequestError
from gatelab.run.record.directory import DAMAGED, RunDirectory
from gatelab.run.scoring.evaluate import evaluate
from gatelab.study.analysis.leaderboard import leaderboard
from gatelab.study.analysis.state import StudyState


@dataclass(frozen=True)
class Scored:
    """A run of a study.

    Attributes:
        trial: its number; run: the directory.
        metrics: on the split; empty where it could not be scored.
        error: why not.
        kept: as `evaluate` says; None where the scores were there before.
    """

    trial: int
    run: Path
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    kept: str | None = None


def finished_runs(state: StudyState) -> list[tuple[int, Path]]:
    """The runs of the finished trials with their trial's number, in the order of the leaderboard."""
    return [(row.trial.number, run.directory) for row in leaderboard(state) for run in row.trial.runs]


def score_study(
    state: StudyState,
    split: str,
    *,
    overrides: Sequence[str] = (),
    rows: Sequence[str] = (),
    accelerator: str | None = None,
    trust: bool = False,
) -> Iterator[Scored]:
    """Score each of `finished_runs` on a split, as `evaluate` does; one that cannot be scored holds up no other.

    The kept scores of a run are taken as they are where nothing else is asked for, so that a second call goes on where
    the first was stopped.
    """
    for number, directory in finished_runs(state):
        kept: Any = None
        if not (overrides or rows or accelerator):
            with contextlib.suppress(RequestError, OSError, *DAMAGED):
                kept = (RunDirectory(directory).result() or {})["splits"][split]["metrics"]
        if isinstance(kept, dict):
            yield Scored(number, directory, metrics=kept)
            continue
        try:
            report = evaluate(
                directory, split, overrides=overrides, rows=rows, accelerator=accelerator, trust=trust
            )
        except RequestError as error:
            yield Scored(number, directory, error=str(error))
        else:
            yield Scored(number, directory, metrics=report["metrics"], kept=report["kept"])
