"""The settings of a study: every key that `study.` takes, what it means and what it may be.

The dataclass is the schema: a wrong key or type is named with the nearest spelling, as everywhere. Which
values a study tries is its space (`space.py`); how workers are started is the launcher's business.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from gatelab.run.errors import RequestError
from gatelab.run.messages import nearest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
OBJECTIVE = re.compile(r"[^:\s]+(:(minimize|maximize))?")
BUDGET = re.compile(r"parameters:(?:match\(([A-Za-z0-9_-]+)\)|([0-9.]+(?:[eE][+-]?[0-9]+)?))")
DEFAULT_TRIALS = 20
OPERATIONAL = frozenset(
    {
        "n_trials",
        "workers",
        "slots",
        "threads",
        "gpus",
        "isolation",
        "retries",
        "max_failures",
        "stale_after",
        "timeout",
    }
)
"""Settings that decide how a study is run, not what it is: the same study may be continued with others."""


@dataclass
class StudySettings:
    """What `study.KEY=VALUE` sets.

    Attributes:
        name: folder below `<paths.root>/studies/`.
        strategy: grid, random, tpe, or a sampler class of Optuna; None: grid if everything can be listed, else tpe.
        sampler_options: keyword arguments of the sampler.
        n_trials: points to try; None: the size of the grid, else 20.
        pruner: none, median, successive_halving, hyperband, wilcoxon, or a pruner class of Optuna.
        pruner_options: keyword arguments of the pruner.
        seeds: every point is run with each of them; empty: the configuration's seed alone.
        folds: every point is run on this many folds of the data; None: on its validation split.
        budget: `parameters:1e6` solves model.hidden_size for equal size; `parameters:match(gru)` gives every model
            the size that model=gru would have at the point's hidden size.
        space: dotted name of a function that suggests (further) values, for conditional spaces.
        objectives: `metric` or `metric:maximize` each; empty: the metric that the task monitors.
        storage: of Optuna; None: a journal file in the folder. A database's URL, or grpc://host:port.
        workers: processes that the launcher starts.
        slots: runs at the same time in each worker.
        threads: of the tensor library in each run; None: the machine's cores divided by its slots.
        gpus: GPUs that the slots share; None: those that are found.
        isolation: fork (from a process that has imported everything) or process (a fresh interpreter).
        retries: how often a run that was killed is begun again.
        max_failures: failed trials after which the study stops; None: it goes on.
        stale_after: seconds without a sign of life after which a worker on another machine counts as dead.
        timeout: seconds after which no further trial begins.
        seed: of the sampler.
    """

    name: str
    strategy: str | None = None
    sampler_options: dict[str, Any] = field(default_factory=dict)
    n_trials: int | None = None
    pruner: str = "none"
    pruner_options: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    folds: int | None = None
    budget: str | None = None
    space: str | None = None
    objectives: list[str] = field(default_factory=list)
    storage: str | None = None
    workers: int = 1
    slots: int = 1
    threads: int | None = None
    gpus: list[int] | None = None
    isolation: Literal["fork", "process"] = "fork"
    retries: int = 3
    max_failures: int | None = None
    stale_after: float = 30.0
    timeout: float | None = None
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in study.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StudySettings:
        """Settings from plain data.

        Raises:
            RequestError: every key that does not exist, and every value that cannot be, one a line.
        """
        from gatelab.run.config.schema import type_problems  # brings Hydra, which --help does not need

        values = {key: [value] if _single(key, value) else value for key, value in values.items()}
        if isinstance(values.get("budget"), int | float):  # its own message says how it is written
            values["budget"] = str(values["budget"])
        hints = typing.get_type_hints(cls)
        problems = [f"study.{k}: no such key.{nearest(k, hints)}" for k in values if k not in hints]
        for key, value in values.items():
            if key in hints:
                problems += [
                    f"{name}: {text}" for name, text in type_problems(value, hints[key], f"study.{key}")
                ]
        if "name" not in values:
            problems.append("study.name: missing; give study=NAME.")
        if not problems:
            settings = cls(**values)
            problems = settings.problems()
        if problems:
            raise RequestError("\n".join(problems))
        return settings

    def problems(self) -> list[str]:
        """What is wrong with the values, each with its key."""
        found = [
            f"study.{key}={getattr(self, key)}: give at least {least}"
            for key, least in LEAST.items()
            if getattr(self, key) is not None and getattr(self, key) < least
        ]
        if not NAME.fullmatch(self.name):
            found.append(f"study={self.name}: a name is letters, digits, '.', '_' and '-', as a folder's is")
        if len(set(self.seeds)) < len(self.seeds):
            twice = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
            found.append(f"study.seeds={self.seeds}: {', '.join(map(str, twice))} is there more than once")
        found += [f"study.seeds={self.seeds}: a seed is 0 or more" for seed in self.seeds if seed < 0][:1]
        if self.budget is not None and not BUDGET.fullmatch(self.budget):
            found.append(f"study.budget={self.budget}: give parameters:1e6 or parameters:match(gru)")
        for text in self.objectives:
            if not OBJECTIVE.fullmatch(text):
                found.append(f"study.objectives: '{text}' is not METRIC, METRIC:minimize or METRIC:maximize")
        if self.threads is not None and self.threads < 1:
            found.append(f"study.threads={self.threads}: give at least 1")
        return found


LEAST: dict[str, float] = {
    "n_trials": 1,
    "folds": 2,
    "workers": 1,
    "slots": 1,
    "retries": 0,
    "max_failures": 1,
    "stale_after": 1,
    "timeout": 1,
    "seed": 0,
}


def _single(key: str, value: Any) -> bool:
    """Whether one item stands for a list of one: study.objectives=val/bpc, study.seeds=3."""
    return key in ("objectives", "seeds", "gpus") and isinstance(value, str | int) and value is not None


def setting_names() -> list[str]:
    """Every key below `study.`."""
    return [item.name for item in fields(StudySettings)]
