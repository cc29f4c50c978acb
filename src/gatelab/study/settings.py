"""The settings of a study: every key that `study.` takes, what it means and what it may be.

Which values a study tries is its space (`space.py`); how workers are started is the launcher's business.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gatelab.data.messages import did_you_mean
from gatelab.run import RequestError

BUDGET = re.compile(r"parameters:(?:match\(([A-Za-z0-9_-]+)\)|([0-9.]+(?:[eE][+-]?[0-9]+)?))")
OBJECTIVE = re.compile(r"[^:\s]+(:(minimize|maximize))?")
DEFAULT_TRIALS = 20
ONE_AT_A_TIME = "one_at_a_time"
LISTED = ("grid", ONE_AT_A_TIME)
"""Strategies whose points are listed before the first one runs; of any other a sampler proposes them."""
LISTS = ("seeds", "objectives", "gpus")
"""Settings that hold several values; on the command line also written without brackets: study.seeds=0,1,2."""
OPERATIONAL = frozenset(
    {
        *("n_trials", "workers", "slots", "threads", "gpus", "isolation"),
        *("retries", "max_failures", "stale_after", "timeout"),
    }
)
"""Settings that decide how a study is run, not what it is: the same study may be continued with others."""
MOST_RUNS = 1000
"""Runs of a point (seeds, folds) and runs or workers at a time: as many as Slurm takes into an array by default."""
MOST_TRIALS = 1_000_000
"""Points of a study."""


class StudySettings(BaseModel):
    """The values of `study.KEY=VALUE`; the descriptions are those of `gatelab sweep --help`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="folder below <paths.root>/studies/"
    )
    strategy: str | None = Field(
        None,
        description="grid, one_at_a_time (an ablation: the first value of each key, then every other one alone), "
        "random, tpe, or a sampler class of Optuna; by default grid if everything can be listed, else tpe",
    )
    sampler_options: dict[str, Any] = Field({}, description="keyword arguments of the sampler")
    n_trials: int | None = Field(
        None, ge=1, le=MOST_TRIALS, description="points to try; by default as many as are listed, else 20"
    )
    pruner: str = Field(
        "none",
        description="none, median, successive_halving, hyperband, wilcoxon, or a pruner class of Optuna",
    )
    pruner_options: dict[str, Any] = Field({}, description="keyword arguments of the pruner")
    seeds: list[int] = Field(
        [],
        description="every point is run with each: [0,1,2], or 3, which means the same; by default the "
        "configuration's seed alone",
    )
    folds: int | None = Field(
        None, ge=2, le=MOST_RUNS, description="every point is run on this many folds of the data"
    )
    budget: str | None = Field(
        None,
        description="parameters:1e6 solves model.hidden_size for equal size; parameters:match(gru) gives every "
        "model the size that model=gru would have at the point's hidden size",
    )
    space: str | None = Field(
        None, description="dotted name of a function that suggests (further) values, for conditional spaces"
    )
    objectives: list[str] = Field(
        [], description="METRIC or METRIC:maximize each; by default the metric that the task monitors"
    )
    storage: str | None = Field(
        None,
        description="of Optuna: a database's URL or grpc://host:port; by default a journal in the folder",
    )
    workers: int = Field(1, ge=1, le=MOST_RUNS, description="processes that the launcher starts")
    slots: int = Field(1, ge=1, le=MOST_RUNS, description="runs at the same time in each worker")
    threads: int | None = Field(
        None,
        ge=1,
        description="of the tensor library in each run; by default the machine's cores / its slots",
    )
    gpus: list[int] | None = Field(
        None, description="GPUs that the slots share; by default those that are found"
    )
    isolation: Literal["fork", "process"] = Field(
        "fork",
        description="fork (of a process that has imported everything) or process (a fresh interpreter)",
    )
    retries: int = Field(3, ge=0, description="how often a run that was killed is started again")
    max_failures: int | None = Field(
        None, ge=1, description="failed trials after which the study stops; by default it goes on"
    )
    stale_after: float = Field(
        30.0,
        ge=1,
        description="seconds without a heartbeat after which a worker on another machine counts as dead",
    )
    timeout: float | None = Field(None, ge=1, description="seconds after which no further trial begins")
    seed: int = Field(0, ge=0, description="of the sampler")

    @property
    def listed(self) -> bool:
        """Whether the points are listed before the first one runs."""
        return self.strategy in LISTED

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_of_seeds(cls, value: Any) -> Any:
        """`study.seeds=3` means three seeds: 0, 1, 2."""
        if type(value) is not int:
            return value
        if not 1 <= value <= MOST_RUNS:
            raise ValueError(
                f"give a number of seeds (3 means 0, 1, 2) up to {MOST_RUNS:,}, or list them: [0,1,2]"
            )
        return list(range(value))

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, value: list[int]) -> list[int]:
        if any(seed < 0 for seed in value):
            raise ValueError("a seed is 0 or more")
        if twice := sorted({seed for seed in value if value.count(seed) > 1}):
            raise ValueError(f"{', '.join(map(str, twice))} is there more than once")
        return value

    @field_validator("objectives", "gpus", mode="before")
    @classmethod
    def _one_item(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | int) else value

    @field_validator("objectives")
    @classmethod
    def _readable_objectives(cls, value: list[str]) -> list[str]:
        for text in value:
            if not OBJECTIVE.fullmatch(text):
                raise ValueError(f"'{text}' is not METRIC, METRIC:minimize or METRIC:maximize")
        return value

    @field_validator("budget", mode="before")
    @classmethod
    def _readable_budget(cls, value: Any) -> Any:
        if value is not None and not BUDGET.fullmatch(str(value)):
            raise ValueError("give parameters:1e6 or parameters:match(gru)")
        return value

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Settings from plain data.

        Raises:
            RequestError: every key that does not exist and every value that cannot be, one a line.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            problems = [_explain(dict(item)) for item in error.errors()]
        raise RequestError("\n".join(problems)) from None


def replicates(seeds: Sequence[int] | None, folds: int | None) -> list[tuple[int | None, int | None]]:
    """(seed, fold) of each run of a point, in order; None: as the configuration says."""
    of_seeds: Sequence[int | None] = seeds or [None]
    of_folds: Sequence[int | None] = range(folds) if folds else [None]
    return list(itertools.product(of_seeds, of_folds))


def _explain(error: Mapping[str, Any]) -> str:
    """One error of pydantic as a line that names the setting."""
    key = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"study.{key}: no such key.{did_you_mean(key, StudySettings.model_fields)}"
    if error["type"] == "missing":
        return f"study.{key}: missing; give study=NAME."
    if key == "name":
        return f"study={error['input']}: a name is letters, digits, '.', '_' and '-', as a folder's is"
    text = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"study.{key}={error['input']}: {text}"
