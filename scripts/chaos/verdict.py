"""The verdict on a study that was killed again and again, beside an undisturbed one: lost, twice, different.

Read from what the study itself wrote: Optuna's journal, each run's `run.json`, `result.json`, `metrics.csv`,
`trace.csv` and checkpoints. Nothing is repaired or excused.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.storages.journal._storage import JournalOperation
from optuna.trial import TrialState

from scripts.compare import first_difference
from scripts.harness import read_json


@dataclass
class Verdict:
    """What is wrong, as sentences; empty lists if nothing is.

    Attributes:
        lost: trials and runs that have no result.
        twice: trials that were given out, told or trained again although they were at work or finished.
        different: runs and values that are not those of the undisturbed study.
        left_behind: processes that outlive their sweep.
        counts: `trials`, `runs`, `claims` (a trial was given to a slot), `attempts` (a run was begun), and runs that
            were `resumed` or begun again.
    """

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def wrong(self) -> list[str]:
        """All that is wrong."""
        return [*self.lost, *self.twice, *self.different, *self.left_behind]

    def add(self, other: Verdict) -> None:
        """Take in another study's."""
        for kind in ("lost", "twice", "different", "left_behind"):
            getattr(self, kind).extend(getattr(other, kind))
        self.counts += other.counts


@dataclass
class Row:
    """A trial in the journal: how often it was set RUNNING (`owned_twice`: without waiting) and ended, and its end."""

    state: TrialState = TrialState.WAITING
    claims: int = 0
    ends: int = 0
    owned_twice: int = 0
    error: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    values: list[float] | None = None


def judge(root: Path, reference: Path, name: str) -> Verdict:
    """Compare the study `name` below `root` with the undisturbed one below `reference`."""
    rows, wanted = read_journal(root / "studies" / name), read_journal(reference / "studies" / name)
    verdict = Verdict(counts=Counter(trials=len(wanted), claims=sum(row.claims for row in rows.values())))
    if len(rows) > len(wanted):
        verdict.twice.append(f"{len(rows)} trials in the journal, {len(wanted)} points")
    for number, expected in wanted.items():
        if (row := rows.get(number)) is None:
            verdict.lost.append(f"trial {number}: not in the journal")
            continue
        _judge_row(verdict, f"trial {number}", row, expected)
        for run in expected.runs:
            _judge_run(verdict, f"trial {number}, {run}", root / run, reference / run, row.claims)
    mine, theirs = (
        {str(f.parent.relative_to(r)) for f in r.glob("runs/*/*/run.json")} for r in (root, reference)
    )
    verdict.twice += [f"{run}: the undisturbed study has no such run" for run in sorted(mine - theirs)]
    return verdict


def read_journal(study: Path) -> dict[int, Row]:
    """The history of each trial, by its number."""
    rows: dict[int, Row] = {}
    path = study / "journal.log"
    for line in path.read_text().splitlines() if path.is_file() else ():
        entry = json.loads(line)
        if entry["op_code"] == JournalOperation.CREATE_TRIAL:
            rows[len(rows)] = Row()
        elif "trial_id" in entry:
            _replay(rows[entry["trial_id"]], entry["op_code"], entry)
    return rows


def _replay(row: Row, operation: int, entry: dict[str, Any]) -> None:
    if operation == JournalOperation.SET_TRIAL_STATE_VALUES:
        state = TrialState(entry["state"])
        if state is TrialState.RUNNING:
            row.claims += 1
            row.owned_twice += row.state is not TrialState.WAITING
        row.ends += state.is_finished()
        row.state, row.values = state, entry.get("values")
    elif operation == JournalOperation.SET_TRIAL_PARAM:
        row.params[entry["param_name"]] = entry["param_value_internal"]
    elif operation == JournalOperation.SET_TRIAL_USER_ATTR:
        row.runs = entry["user_attr"].get("runs", row.runs)
        row.error = entry["user_attr"].get("error", row.error)


def _judge_row(verdict: Verdict, name: str, row: Row, expected: Row) -> None:
    if row.state is not TrialState.COMPLETE:
        verdict.lost.append(f"{name}: {row.state.name.lower()} at the end {row.error}".rstrip())
    if row.owned_twice:
        verdict.twice.append(f"{name}: given to a slot while it was not waiting, {row.owned_twice} times")
    if row.ends > 1:
        verdict.twice.append(f"{name}: ended {row.ends} times")
    for what in ("params", "runs", "values"):
        mine, other = getattr(row, what), getattr(expected, what)
        if mine != other and row.state is TrialState.COMPLETE:
            verdict.different.append(f"{name}: {what} {mine}, undisturbed {other}")


def _judge_run(verdict: Verdict, name: str, run: Path, reference: Path, claims: int) -> None:
    result = read_json(run / "result.json")
    verdict.counts["runs"] += 1
    if result is None or result["outcome"] != "done":
        verdict.lost.append(f"{name}: {'no result' if result is None else result['outcome']}")
        return
    attempts = (read_json(run / "run.json") or {}).get("attempts", [])
    verdict.counts["attempts"] += len(attempts)
    verdict.counts["resumed"] += len(attempts) > 1
    if len(attempts) > claims:
        verdict.twice.append(f"{name}: begun {len(attempts)} times, given out {claims} times")
    if any(attempt.get("result", {}).get("outcome") == "done" for attempt in attempts):
        verdict.twice.append(f"{name}: trained again after it was done")
    if difference := first_difference(run, reference):
        verdict.different.append(f"{name}: {difference}")
