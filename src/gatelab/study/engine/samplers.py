"""Samplers and pruners by name, with keyword options; and the seed that makes a trial independent of its worker.

A name is a short one (`random`, `tpe`, `median`...) or a class of `optuna.samplers` or `optuna.pruners`. What is
wrong with it is said before anything runs.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import logging
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler

from gatelab.data.messages import did_you_mean
from gatelab.run import RequestError
from gatelab.study.settings import LISTED

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

SAMPLERS = {**dict.fromkeys(LISTED, "RandomByName"), "random": "RandomByName", "tpe": "TPESampler"}
PRUNERS = {
    "none": "NopPruner",
    "median": "MedianPruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "wilcoxon": "WilcoxonPruner",
}
ONE_SEQUENCE = ("QMCSampler",)
"""Samplers whose trials are points of one sequence: they need the same seed for all of them."""
NEEDED = {"CmaEsSampler": "cmaes", "GPSampler": "scipy", "QMCSampler": "scipy"}
"""What some samplers import only in the middle of a study."""


def seed_of(seed: int, part: int | str) -> int:
    """The seed of a part (a trial's number, a parameter's name), below 2**32: it depends on nothing but the two."""
    digest = hashlib.sha256(f"{seed}/{part}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def quiet_optuna() -> None:
    """Silence Optuna's remarks about its own progress; what matters is in the study."""
    optuna.logging.set_verbosity(logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class RandomByName(BaseSampler):
    """Random sampler seeded per parameter: by a hash of `seed` and the parameter's name.

    A value depends neither on the order of the parameters nor on which others there are, and a trial that was
    killed while it drew goes on with the same values. It reads nothing of the study.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing: every parameter is drawn alone."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value of one parameter."""
        one = RandomSampler(seed_of(self.seed, param_name))
        return one.sample_independent(study, trial, param_name, param_distribution)


def make_sampler(
    strategy: str, seed: int, number: int = 0, options: Mapping[str, Any] | None = None
) -> BaseSampler:
    """The sampler for one trial.

    Args:
        strategy: grid, one_at_a_time (values are fixed, so nothing is sampled), random, tpe, or a class of
            `optuna.samplers`.
        seed: the study's; number: the trial's.
        options: keyword arguments of the sampler.

    Raises:
        RequestError: no such sampler, or not one of its options; with the nearest spelling.
    """
    kind = _find("study.strategy", strategy, SAMPLERS, optuna.samplers, "Sampler")
    given = dict(options or {})
    if kind is optuna.samplers.TPESampler:
        given = {"constant_liar": True, **given}
    if "seed" in _parameters(kind):
        given.setdefault("seed", seed if kind.__name__ in ONE_SEQUENCE else seed_of(seed, number))
    return _make("study.sampler_options", kind, given)


def make_pruner(name: str, options: Mapping[str, Any] | None = None) -> BasePruner:
    """The pruner.

    Args:
        name: none, median, successive_halving, hyperband, wilcoxon, or a class of `optuna.pruners`.
        options: keyword arguments; `wrapped_pruner` (of PatientPruner) may be a name.

    Raises:
        RequestError: no such pruner, or not one of its options; with the nearest spelling.
    """
    kind = _find("study.pruner", name, PRUNERS, optuna.pruners, "Pruner")
    given = dict(options or {})
    if isinstance(given.get("wrapped_pruner"), str):
        given["wrapped_pruner"] = make_pruner(given["wrapped_pruner"])
    return _make("study.pruner_options", kind, given)


@functools.cache
def _parameters(kind: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind).parameters


def _find(key: str, name: str, short: Mapping[str, str], module: Any, suffix: str) -> Any:
    classes = {n: c for n in module.__all__ if inspect.isclass(c := getattr(module, n))}
    usable: dict[str, Any] = {
        n: c for n, c in classes.items() if n.endswith(suffix) and not inspect.isabstract(c)
    }
    usable |= {"RandomByName": RandomByName} if module is optuna.samplers else {}
    chosen = short.get(name, name.removeprefix(f"{module.__name__}."))
    if chosen in usable:
        return usable[chosen]
    known = [*short, *(name for name in usable if name in classes)]
    raise RequestError(
        f"{key}={name}: no such {suffix.lower()}.{did_you_mean(name, known)} Choices: {', '.join(known)}."
    )


def _make(key: str, kind: Any, given: dict[str, Any]) -> Any:
    quiet_optuna()
    parameters = _parameters(kind)
    for option in given:
        if option not in parameters:
            raise RequestError(
                f"{key}.{option}: {kind.__name__} takes no '{option}'.{did_you_mean(option, parameters)}"
            )
    needed = [n for n, p in parameters.items() if p.default is p.empty and n not in given]
    if needed:
        raise RequestError(f"{key}: {kind.__name__} needs '{needed[0]}'; give {key}.{needed[0]}=...")
    package = NEEDED.get(kind.__name__)
    if package and importlib.util.find_spec(package) is None:
        raise RequestError(f"{key}: {kind.__name__} needs a package: pip install {package}.")
    try:
        return kind(**given)
    except (ValueError, TypeError, ImportError) as error:
        raise RequestError(f"{key}: {kind.__name__}: {error}") from None
