"""Optuna's replay of a journal with less work for each line: every worker replays what all the others write.

What comes of a journal is Optuna's own answer to the last bit; the same distribution is only read and compared once,
and a trial is copied without the general machinery. The file itself is `journal.py`.
"""

from __future__ import annotations

import functools
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages.journal._storage import JournalStorageReplayResult
from optuna.trial import FrozenTrial


class Replay(JournalStorageReplayResult):
    """The state that the lines read so far amount to.

    Args:
        prefix: of the names under which this process' threads write.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self._accepted: dict[tuple[int, str], str] = {}  # (study, parameter) -> the last distribution

    def _apply_set_trial_param(self, log: dict[str, Any]) -> None:
        trial_id, name, text = log["trial_id"], log["param_name"], log["distribution"]
        before = self._trials.get(trial_id)
        key = (self._trial_id_to_study_id.get(trial_id, -1), name)
        if self._accepted.get(key) != text:  # to be compared with the study's other trials
            super()._apply_set_trial_param(log)
            if self._trials.get(trial_id) is not before:
                self._accepted[key] = text
        elif self._trial_exists_and_updatable(trial_id, log):
            distribution = _distribution(text)
            value = distribution.to_external_repr(log["param_value_internal"])
            trial = self._trials[trial_id] = _copy(self._trials[trial_id])
            trial.params = {**trial.params, name: value}
            trial.distributions = {**trial.distributions, name: distribution}

    def _apply_set_trial_user_attr(self, log: dict[str, Any]) -> None:
        trial_id = log["trial_id"]
        if self._trial_exists_and_updatable(trial_id, log):
            trial = self._trials[trial_id] = _copy(self._trials[trial_id])
            trial.user_attrs = {**trial.user_attrs, **log["user_attr"]}


@functools.lru_cache(maxsize=1024)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _copy(trial: FrozenTrial) -> FrozenTrial:
    """What `copy.copy` gives: others may hold the one before, which never changes."""
    new = object.__new__(FrozenTrial)
    new.__dict__.update(trial.__dict__)
    return new
