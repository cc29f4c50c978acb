"""The queue of a study: a fixed number of Optuna trials, made in advance and claimed one at a time.

A trial stays the same one for good: WAITING, RUNNING while a worker's slot owns it, WAITING again if it was requeued,
and in the end COMPLETE, PRUNED or FAIL. Its owner stands in its attributes. Workers claim one after the other (the
study's lock `claim`). Requeueing the trials of dead workers holds the lock `queue` alone; claiming and ending a trial
share it, so that neither is half done then. Nothing is trained here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from gatelab.run import RequestError
from gatelab.study.engine.directory import StudyDirectory
from gatelab.study.engine.samplers import make_pruner, make_sampler
from gatelab.study.engine.storage import open_storage

FOLDER = "gatelab"
"""The study's attribute that names its folder."""
FIXED = "fixed_params"
"""The trial's system attribute under which `Study.enqueue_trial` keeps the parameters that it was given."""


@dataclass(frozen=True)
class Claim:
    """A trial that a slot owns.

    Attributes:
        number: of the trial, from 0; the index of its point.
        owner: `<worker id>/<slot>`.
        trial_id: the storage's number for the trial.
        trial: Optuna's, with the sampler of this number and the study's pruner.
    """

    number: int
    owner: str
    trial_id: int
    trial: optuna.Trial


class Queue:
    """The trials of one study; several threads may share it.

    Args:
        directory: with `study.json` written.

    Raises:
        RequestError: the storage cannot be opened, or holds a study of this name that belongs elsewhere.
    """

    def __init__(self, directory: StudyDirectory) -> None:
        record = directory.read()
        self.directory, self.settings = directory, record["settings"]
        self.storage = open_storage(directory.storage_url())
        directions = [objective["direction"] for objective in record["objectives"]]
        self.name, self.several = str(self.settings["name"]), len(directions) > 1
        with directory.locked():
            study = optuna.create_study(
                study_name=self.name, storage=self.storage, directions=directions, load_if_exists=True
            )
            self._claim_folder(study, directions)
        self.study_id = self.storage.get_study_id_from_name(self.name)
        self.grown = bool(record.get("grown"))  # Optuna keeps no further choices of a parameter
        self.pruner = make_pruner(self.settings["pruner"], self.settings["pruner_options"])
        self._study(0)  # a sampler that cannot be made is refused now

    def _claim_folder(self, study: optuna.Study, directions: Sequence[str]) -> None:
        mine, other = str(self.directory.path), study.user_attrs.get(FOLDER)
        if other not in (None, mine) and StudyDirectory(other).file.is_file():
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
        """Make the trials that are still missing; the same call again makes none.

        Args:
            points: for each trial its parameters, or None where the sampler proposes them.

        Returns:
            How many trials were made.

        Raises:
            RequestError: a trial that is there has other parameters.
        """
        with self.directory.locked():
            trials = self.trials()
            for trial, point in zip(trials, points, strict=False):
                fixed = trial.system_attrs.get(FIXED, {})
                if fixed != dict(point or {}):
                    raise RequestError(
                        f"study {self.name}: trial {trial.number} is there with {fixed}, and is now asked for with "
                        f"{dict(point or {})}. A study keeps its points; take another name for other ones."
                    )
            study, missing = self._study(0), points[len(trials) :]
            for point in missing:
                study.enqueue_trial(dict(point or {}))
        return len(missing)

    def claim(self, owner: str) -> Claim | None:
        """Take the first trial that waits, or None if none does.

        Args:
            owner: `<worker id>/<slot>`; the worker has registered itself.
        """
        claimed = self._claim_first(owner)
        if claimed is None:
            return None
        number, trial_id = claimed
        try:
            trial = optuna.Trial(self._study(number), trial_id)
        except BaseException as error:
            with self.directory.locked(shared=True):
                self._requeue(trial_id, f"it could not be begun: {error}", lost=True)
            raise
        return Claim(number, owner, trial_id, trial)

    def _claim_first(self, owner: str) -> tuple[int, int] | None:
        if not self.trials(TrialState.WAITING):
            return None
        with self.directory.locked(shared=True), self.directory.locked(name="claim"):
            for waiting in self.trials(TrialState.WAITING):
                trial_id = self._id_of(waiting)
                # the owner first: a trial that runs has one, also if this process is killed between the two
                self.storage.set_trial_user_attr(trial_id, "owner", owner)
                if self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                    return waiting.number, trial_id
        return None

    def propose(self, claim: Claim, suggest: Callable[[optuna.Trial], Any]) -> dict[str, Any]:
        """The parameters of a claimed trial: those it has, else the fixed ones, else what the sampler proposes.

        Args:
            suggest: calls `trial.suggest_...` for everything that the study tries.

        Returns:
            Parameters by key.
        """
        fixed = self.storage.get_trial(claim.trial_id).system_attrs.get(FIXED, {})
        if fixed and self.grown:
            return dict(fixed)
        suggest(claim.trial)
        return dict(claim.trial.params)

    def owns(self, claim: Claim) -> bool:
        """Whether the trial is still this claim's: it was not requeued in the meantime."""
        trial = self.storage.get_trial(claim.trial_id)
        return trial.state is TrialState.RUNNING and trial.user_attrs.get("owner") == claim.owner

    def note(self, claim: Claim, attributes: Mapping[str, Any]) -> None:
        """Write attributes of a claimed trial."""
        for key, value in attributes.items():
            self.storage.set_trial_user_attr(claim.trial_id, key, value)

    def report(self, claim: Claim, step: int, value: float) -> bool:
        """Note an intermediate value, unless that step has one already; tell whether the pruner would stop now.

        With several objectives nothing is noted and nothing pruned.
        """
        if self.several:
            return False
        if step not in self.storage.get_trial(claim.trial_id).intermediate_values:
            claim.trial.report(value, step)
        return bool(claim.trial.should_prune())

    def tell(
        self,
        claim: Claim,
        values: Sequence[float] | None = None,
        *,
        state: TrialState = TrialState.COMPLETE,
        attributes: Mapping[str, Any] | None = None,
    ) -> TrialState | None:
        """End a trial: COMPLETE with `values`, PRUNED or FAIL. Its state now; None if it is no longer this claim's.

        A value that is not a number makes it FAIL, since Optuna could not order it.
        """
        notes = dict(attributes or {})
        if values is not None and any(math.isnan(value) for value in values):
            notes["error"] = f"the objective is not a number: {list(values)}"
            values, state = None, TrialState.FAIL
        with self.directory.locked(shared=True):
            if not self.owns(claim):
                return None
            self.note(claim, notes)
            claim.trial.study.tell(claim.trial, None if values is None else list(values), state)
        return state

    def requeue(self, claim: Claim, why: str, *, lost: bool) -> bool:
        """Let a trial wait again: its run was interrupted, or with `lost` killed, at most `study.retries` times.

        Returns:
            False if it is no longer this claim's.
        """
        with self.directory.locked(shared=True):
            if not self.owns(claim):
                return False
            self._requeue(claim.trial_id, why, lost)
        return True

    def requeue_orphans(self) -> list[int]:
        """Let the trials of dead workers wait again; returns their numbers."""
        found: list[int] = []
        if not self.trials(TrialState.RUNNING):
            return found
        with self.directory.locked() as time:
            alive = self.directory.living(time)
            for trial in self.trials(TrialState.RUNNING):
                worker = str(trial.user_attrs.get("owner", "")).partition("/")[0]
                if worker not in alive:
                    self._requeue(self._id_of(trial), f"the worker {worker} died", lost=True)
                    found.append(trial.number)
        return found

    def _requeue(self, trial_id: int, why: str, lost: bool) -> None:
        attempts = self.storage.get_trial(trial_id).user_attrs.get("attempts", 0) + lost
        spent = attempts > int(self.settings["retries"])
        notes: dict[str, Any] = {"attempts": attempts} if lost else {}
        if spent:
            notes["error"] = f"lost {attempts} times; the last time: {why}"
        else:
            notes |= {"returned": why, "owner": ""}
        for key, value in notes.items():
            self.storage.set_trial_user_attr(trial_id, key, value)
        self.storage.set_trial_state_values(trial_id, TrialState.FAIL if spent else TrialState.WAITING)

    def counts(self) -> dict[str, int]:
        """Trials by state: waiting, running, complete, pruned, fail."""
        found = Counter(trial.state.name.lower() for trial in self.trials())
        return {state.name.lower(): found[state.name.lower()] for state in TrialState}

    def unfinished(self) -> int:
        """Trials that wait, or that run and might be requeued."""
        return len(self.trials(TrialState.WAITING, TrialState.RUNNING))

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in one of `states`, or all, by number."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False, states=states or None)

    def close(self) -> None:
        """Let go of connections."""
        for name in ("close", "remove_session"):
            if hasattr(self.storage, name):
                getattr(self.storage, name)()

    def _id_of(self, trial: FrozenTrial) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self.study_id, trial.number)

    def _study(self, number: int) -> optuna.Study:
        chosen = self.settings
        name = chosen["strategy"] or "tpe"
        sampler = make_sampler(name, chosen["seed"], number, chosen["sampler_options"])
        return optuna.Study(self.name, self.storage, sampler, self.pruner)
