"""The queue of a study: n rows made in advance, claimed one at a time, given back when their owner dies.

A row is an Optuna trial and stays the same one for good: WAITING, RUNNING while a worker owns it, WAITING again if
it was interrupted or lost, and in the end COMPLETE, PRUNED or FAIL. Of two who take a row the storage lets one have
it; then the owner is noted. All this happens under one lock (`StudyDirectory.locked`), which is shared, so that
nobody waits; who looks for the rows of the dead holds it alone, so that nobody is in the middle of it, and a row that
runs without an owner is one whose claimer was killed. Nothing is trained here.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study._tell import _tell_with_warning  # `tell` without a deep copy of the trial
from optuna.trial import FrozenTrial, TrialState

from gatelab.run.errors import RequestError
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.liveness import is_alive
from gatelab.study.engine.samplers import RandomByName, make_pruner, make_sampler
from gatelab.study.engine.storage import batch, open_storage, sync, take

FOLDER = "gatelab"
"""The study's attribute that names its folder."""
AT_ONCE = 16
"""Who was too late for the first row that waits takes any of so many."""


@dataclass(frozen=True)
class Claim:
    """A row that a slot owns.

    Attributes:
        number: of the trial, from 0; the index of its point.
        owner: `<worker id>/<slot>`.
        attempts: how often the row was lost before.
        trial: Optuna's, with the sampler of this number and the study's pruner.
    """

    number: int
    owner: str
    attempts: int
    trial: optuna.Trial

    @property
    def trial_id(self) -> int:
        """The storage's number for the trial."""
        return self.trial._trial_id


class Queue:
    """The rows of one study; several threads may share it.

    Args:
        directory: with `study.json` written.
        settings: the study's, as in `study.json`; read from there by default.

    Raises:
        RequestError: the storage cannot be opened, or holds a study of this name that belongs elsewhere.
    """

    def __init__(self, directory: StudyDirectory, settings: Mapping[str, Any] | None = None) -> None:
        record = directory.read()
        self.directory = directory
        self.settings = dict(settings or record["settings"])
        self.storage = open_storage(directory.storage_url())
        directions = [objective["direction"] for objective in record["objectives"]]
        name = str(self.settings["name"])
        with directory.locked():
            study = optuna.create_study(
                study_name=name, storage=self.storage, directions=directions, load_if_exists=True
            )
            self._claim_folder(study, directions)
        self.name, self.study_id, self.several = name, study._study_id, len(directions) > 1
        self.grown = bool(record.get("grown"))  # Optuna keeps no further choices of a parameter
        self.pruner = make_pruner(self.settings["pruner"], self.settings["pruner_options"])
        self._study(0)  # a sampler that cannot be made is refused now

    def _claim_folder(self, study: optuna.Study, directions: Sequence[str]) -> None:
        mine, other = str(self.directory.path), study.user_attrs.get(FOLDER)
        if other not in (None, mine) and (StudyDirectory(other).file).is_file():
            raise RequestError(
                f"study.storage: it already holds a study '{study.study_name}', that of {other}. Take another name."
            )
        there = [direction.name.lower() for direction in study.directions]
        if there != list(directions):
            raise RequestError(
                f"study.objectives: the study '{study.study_name}' has the directions {', '.join(there)}, and "
                f"study.json says {', '.join(directions)}. Take another name."
            )
        if other != mine:
            study.set_user_attr(FOLDER, mine)

    def fill(self, points: Sequence[Mapping[str, Any] | None]) -> int:
        """Make the rows that are still missing; the same call again makes none.

        Args:
            points: for each row its parameters, or None where the sampler proposes them.

        Returns:
            How many rows were made.

        Raises:
            RequestError: a row that is there has other parameters.
        """
        with self.directory.locked():
            rows = self._rows()
            for row, point in zip(rows, points, strict=False):
                fixed = row.system_attrs.get("fixed_params", {})
                if fixed != dict(point or {}):
                    raise RequestError(
                        f"study {self.name}: trial {row.number} is there with {fixed}, and is now asked for with "
                        f"{dict(point or {})}. A study keeps its points; take another name for other ones."
                    )
            missing = points[len(rows) :]
            for begin in range(0, len(missing), 256):
                with batch(self.storage):
                    for point in missing[begin : begin + 256]:
                        self.storage.create_new_trial(self.study_id, _row(point))
        sync(self.storage)
        return len(missing)

    def claim(self, owner: str) -> Claim | None:
        """Take the first row that waits, or None if none does.

        Args:
            owner: `<worker id>/<slot>`; the worker has registered itself.
        """
        row = self._take(owner)
        if row is None:
            return None
        try:
            trial = optuna.Trial(self._study(row.number), row._trial_id)
        except BaseException as error:
            with self.directory.locked(shared=True):
                self._return(row, f"it could not be begun: {error}", lost=True)
            raise
        return Claim(row.number, owner, row.user_attrs.get("attempts", 0), trial)

    def _take(self, owner: str) -> FrozenTrial | None:
        with self.directory.locked(shared=True):
            chosen = 0
            while waiting := self._rows(TrialState.WAITING):
                row = waiting[min(chosen, len(waiting) - 1)]
                chosen = random.randrange(AT_ONCE)  # if somebody was faster: away from the crowd
                if take(self.storage, row._trial_id):
                    self.storage.set_trial_user_attr(row._trial_id, "owner", owner)
                    return row
        return None

    def propose(self, claim: Claim, suggest: Callable[[optuna.Trial], Any]) -> dict[str, Any]:
        """The parameters of a claimed row: those it has, else the fixed ones, else what the sampler proposes.

        Args:
            suggest: calls `trial.suggest_...` for everything that the study tries.

        Returns:
            Parameters by key.
        """
        fixed = claim.trial._cached_frozen_trial.system_attrs.get("fixed_params", {})
        if fixed and self.grown:
            return dict(fixed)
        reads_nothing_back = isinstance(claim.trial.study.sampler, RandomByName)
        with batch(self.storage) if reads_nothing_back else contextlib.nullcontext():
            suggest(claim.trial)
        return dict(claim.trial.params)

    def owns(self, claim: Claim) -> bool:
        """Whether the row is still this claim's: not given to somebody else in the meantime."""
        row = self.storage.get_trial(claim.trial_id)
        return row.state is TrialState.RUNNING and row.user_attrs.get("owner") == claim.owner

    def note(self, claim: Claim, attributes: Mapping[str, Any]) -> None:
        """Write attributes of a claimed row."""
        with batch(self.storage):
            for key, value in attributes.items():
                self.storage.set_trial_user_attr(claim.trial_id, key, value)

    def report(self, claim: Claim, step: int, value: float) -> bool:
        """Note an intermediate value, unless that step has one already; tell whether the pruner would stop now.

        With several objectives nothing is noted and nothing pruned.
        """
        if self.several:
            return False
        trial = claim.trial
        if step not in trial._cached_frozen_trial.intermediate_values:
            trial.report(value, step)
        return bool(trial.should_prune())

    def tell(
        self,
        claim: Claim,
        values: Sequence[float] | None = None,
        *,
        state: TrialState = TrialState.COMPLETE,
        attributes: Mapping[str, Any] | None = None,
    ) -> TrialState | None:
        """End a row: COMPLETE with `values`, PRUNED or FAIL. Its state now; None if it is no longer this claim's.

        A value that is not a number makes it FAIL, since Optuna could not order it.
        """
        notes = dict(attributes or {})
        if values is not None and any(math.isnan(value) for value in values):
            notes["error"] = f"the objective is not a number: {list(values)}"
            values, state = None, TrialState.FAIL
        with self.directory.locked(shared=True):
            if not self.owns(claim):
                return None
            with batch(self.storage):
                for key, value in notes.items():
                    self.storage.set_trial_user_attr(claim.trial_id, key, value)
                _tell_with_warning(
                    claim.trial.study, claim.trial, None if values is None else list(values), state
                )
        return state

    def give_back(self, claim: Claim, why: str, *, lost: bool) -> bool:
        """Let a row wait again: its run was interrupted, or with `lost` killed, which has an end (`retries`).

        Returns:
            False if it is no longer this claim's.
        """
        with self.directory.locked(shared=True):
            if not self.owns(claim):
                return False
            self._return(self.storage.get_trial(claim.trial_id), why, lost)
        return True

    def reap(self) -> list[int]:
        """Let the rows of dead workers wait again; returns their numbers."""
        found, alive = [], {}
        with self.directory.locked() as time:
            for row in self._rows(TrialState.RUNNING):
                worker = str(row.user_attrs.get("owner", "")).partition("/")[0]
                if worker not in alive:
                    stale_after = float(self.settings["stale_after"])
                    alive[worker] = is_alive(self.directory.workers, worker, time, stale_after)
                if not alive[worker]:
                    self._return(row, f"the worker {worker} died", lost=True)
                    found.append(row.number)
        return found

    def _return(self, row: FrozenTrial, why: str, lost: bool) -> None:
        attempts = row.user_attrs.get("attempts", 0) + lost
        spent = attempts > int(self.settings["retries"])
        state = TrialState.FAIL if spent else TrialState.WAITING
        key, text = ("error", f"lost {attempts} times; the last time: {why}") if spent else ("returned", why)
        with batch(self.storage):
            self.storage.set_trial_user_attr(row._trial_id, key, text)
            if lost:
                self.storage.set_trial_user_attr(row._trial_id, "attempts", attempts)
            if not spent:
                self.storage.set_trial_user_attr(row._trial_id, "owner", "")
            self.storage.set_trial_state_values(row._trial_id, state)

    def counts(self) -> dict[str, int]:
        """Rows by state: waiting, running, complete, pruned, fail."""
        found = Counter(row.state.name.lower() for row in self._rows())
        return {state.name.lower(): found[state.name.lower()] for state in TrialState}

    def unfinished(self) -> int:
        """Rows that wait, or that somebody owns and might give back."""
        return len(self._rows(TrialState.WAITING, TrialState.RUNNING))

    def sync(self) -> None:
        """Wait until everything written is on the disk.

        Only a machine that goes down needs it, and even then no training is lost: the row is carried out again, and
        its run, whose own files are on the disk, is found finished.
        """
        sync(self.storage)

    def close(self) -> None:
        """See everything written to the disk, and let go of connections."""
        self.sync()
        for name in ("close", "remove_session"):
            if hasattr(self.storage, name):
                getattr(self.storage, name)()

    def _rows(self, *states: TrialState) -> list[FrozenTrial]:
        return self.storage.get_all_trials(self.study_id, deepcopy=False, states=states or None)

    def _study(self, number: int) -> optuna.Study:
        chosen = self.settings
        name = chosen["strategy"] or "tpe"
        sampler = make_sampler(name, chosen["seed"], number, chosen["sampler_options"])
        return optuna.Study(self.name, self.storage, sampler, self.pruner)


def _row(point: Mapping[str, Any] | None) -> FrozenTrial:
    fixed = {"fixed_params": dict(point)} if point else {}
    return optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=fixed)
