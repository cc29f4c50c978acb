"""Score the finished runs of a study on a split, one after the other; each keeps its own scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gatelab.run import RequestError
from gatelab.run.record.directory import RunDirectory
from gatelab.run.scoring.evaluate import evaluate
from gatelab.study.analysis.leaderboard import leaderboard
from gatelab.study.analysis.state import StudyState


@dataclass(frozen=True)
class Scored:
    """A run of a study.

    Attributes:
        trial: its number; run: the directory.
        split: that was scored.
        metrics: on it; empty where it could not be scored.
        how: where the scores are kept, why they are not, or that they were there; or why there are none.
    """

    trial: int
    run: Path
    split: str
    how: str
    metrics: dict[str, float] = field(default_factory=dict)


def finished_runs(state: StudyState) -> list[tuple[int, Path]]:
    """The runs of the finished trials with their trial's number, in the order of the leaderboard."""
    return [(row.trial.number, run.directory) for row in leaderboard(state) for run in row.trial.runs]


def score_study(
    state: StudyState,
    split: str | None = None,
    *,
    overrides: Sequence[str] = (),
    rows: Sequence[str] = (),
    accelerator: str | None = None,
    trust: bool = False,
) -> Iterator[Scored]:
    """Score each of `finished_runs` on a split, as `evaluate` does; one that cannot be scored holds up no other.

    The kept scores of a run are taken as they are where nothing else is asked for, so that a second call goes on where
    the first was stopped.

    Raises:
        RequestError: what was asked for can be had of no run.
    """
    named = split or "test"
    asked = bool(overrides or rows or accelerator)
    for number, directory in finished_runs(state):
        try:
            if not asked and (kept := RunDirectory(directory).scores(named)):
                yield Scored(number, directory, named, "there already", kept)
                continue
            report = evaluate(
                directory, split, overrides=overrides, rows=rows, accelerator=accelerator, trust=trust
            )
        except RequestError as error:
            if (asked or split) and str(directory) not in str(error):
                raise
            yield Scored(number, directory, named, str(error))
        else:
            how = report["kept"] or "there already"
            yield Scored(number, directory, report["split"], how, report["metrics"])
