"""Learning-rate schedules in optimiser steps, each a function `(optimizer, total_steps, ...) -> LRScheduler`.

`scheduler_for` calls these and those of torch or of one's own, each with what its signature asks for.

The optimiser's own `lr` is always the peak. All shapes but `plateau` are closed-form factors of the step
index, so a resumed run needs nothing but that index, and checkpoints hold numbers only. `None` instead of a
schedule means a constant rate. A length given as a number below 1 is a share of all steps; 1 or more is a
number of steps.

`plateau` is the exception that reads a metric: it is stepped by the task after each validation.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

LENGTHS = ("total_steps", "num_training_steps", "T_max")
"""Names of the argument that takes the run's number of steps, here and in other libraries."""


def scheduler_for(make: Callable[..., Any], optimizer: Optimizer, total_steps: int) -> Any:
    """The scheduler that `make` (a class, function or `functools.partial`) makes for the optimiser.

    It is given the optimiser first and, unless it is bound already, the run's number of steps by one of the names in
    `LENGTHS`; a function that needs one more argument gets the number as that, whatever its name. Schedules in a bound
    list, e.g. those of torch's `SequentialLR`, are made in the same way.

    Raises:
        ValueError: an argument without a default is missing.
    """
    parameters = dict(inspect.signature(make).parameters)
    function, bound = (
        (make.func, make.keywords) if isinstance(make, functools.partial) else (make, dict[str, Any]())
    )
    given: dict[str, Any] = {
        name: total_steps for name in LENGTHS if name in parameters and name not in bound
    }
    for name, value in bound.items():
        if isinstance(value, list) and any(isinstance(item, functools.partial) for item in value):
            given[name] = [scheduler_for(item, optimizer, total_steps) for item in value]
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [
        name
        for name, parameter in [*parameters.items()][1:]
        if parameter.default is parameter.empty and parameter.kind not in several and name not in given
    ]
    if len(needed) == 1 and inspect.isroutine(function):
        given[needed.pop()] = total_steps
    if needed:
        raise ValueError(
            f"schedule.{needed[0]}: {function.__qualname__} needs it; give schedule.{needed[0]}=... (the run's number "
            f"of steps is given as {', '.join(LENGTHS)})"
        )
    return make(optimizer, **given)


def constant(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.0) -> LRScheduler:
    """Hold the rate, after a linear rise over `warmup` steps."""
    return _scheduler(optimizer, total_steps, warmup, lambda progress: 1.0)


def cosine(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.0, floor: float = 0.0) -> LRScheduler:
    """Fall along half a cosine to `floor` times the peak (Loshchilov & Hutter 2017, without restarts)."""
    _check_floor(floor)
    return _scheduler(
        optimizer, total_steps, warmup, lambda u: floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * u))
    )


def linear(optimizer: Optimizer, total_steps: int, *, warmup: float = 0.0, floor: float = 0.0) -> LRScheduler:
    """Fall along a line from the peak to `floor` times the peak."""
    _check_floor(floor)
    return _scheduler(optimizer, total_steps, warmup, lambda u: floor + (1.0 - floor) * (1.0 - u))


def step(
    optimizer: Optimizer, total_steps: int, *, every: float = 0.25, gamma: float = 0.5, warmup: float = 0.0
) -> LRScheduler:
    """Multiply the rate by `gamma` after every `every` steps, those of the warm-up included."""
    length = _steps("every", every, total_steps)
    if length == 0:
        raise ValueError("every must be positive: a share of all steps (below 1) or a number of steps")
    rise = _steps("warmup", warmup, total_steps)
    return LambdaLR(optimizer, lambda i: _rise(i, rise) * gamma ** (i // length))


def onecycle(
    optimizer: Optimizer,
    total_steps: int,
    *,
    rise: float = 0.3,
    start: float = 0.04,
    floor: float = 4e-6,
) -> LRScheduler:
    """Rise from `start` times the peak and fall to `floor` times it, both along half a cosine (Smith & Topin
    2019).

    Args:
        rise: share of the steps (or number of steps) until the peak.
    """
    _check_floor(start, "start")
    _check_floor(floor)
    top = _steps("rise", rise, total_steps)

    def factor(i: int) -> float:
        if i < top:
            return start + (1.0 - start) * 0.5 * (1.0 - math.cos(math.pi * i / top))
        u = min(1.0, (i - top) / max(1, total_steps - 1 - top))
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * u))

    return LambdaLR(optimizer, factor)


def slanted(optimizer: Optimizer, total_steps: int, *, cut: float = 0.1, ratio: float = 32.0) -> LRScheduler:
    """Rise along a line from the peak divided by `ratio`, and fall along a longer one back to it: a slanted triangle.

    Of ULMFiT (Howard and Ruder 2018, arXiv:1801.06146, section 3.2).

    Args:
        cut: share of the steps (or number of steps) until the peak.
    """
    if ratio < 1:
        raise ValueError(
            f"ratio says how much smaller the lowest rate is than the peak: at least 1, not {ratio}"
        )
    top = _steps("cut", cut, total_steps)

    def factor(i: int) -> float:
        p = i / top if i < top else max(0.0, 1.0 - (i - top) / max(1, total_steps - 1 - top))
        return (1.0 + p * (ratio - 1.0)) / ratio

    return LambdaLR(optimizer, factor)


def plateau(
    optimizer: Optimizer,
    total_steps: int,
    *,
    factor: float = 0.25,
    patience: int = 0,
    threshold: float = 0.0,
    min_lr: float = 0.0,
) -> ReduceLROnPlateau:
    """Multiply the rate by `factor` when the task's monitored metric has not improved for a while.

    Args:
        patience: validations without an improvement that are let pass.
        threshold: an improvement by no more than this, in the metric's unit, does not count.
        min_lr: the rate never falls below it.

    The classic schedule of recurrent language models is `factor=0.25, patience=0`, with SGD.
    """
    return ReduceLROnPlateau(
        optimizer,
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode="abs",
        min_lr=min_lr,
    )


def _scheduler(
    optimizer: Optimizer, total_steps: int, warmup: float, shape: Callable[[float], float]
) -> LRScheduler:
    """Make the factor: a rise over the warm-up, then `shape(u)` with u from 0 to 1 at the last step."""
    rise = _steps("warmup", warmup, total_steps)
    fall = max(1, total_steps - 1 - rise)

    def factor(i: int) -> float:
        return _rise(i, rise) if i < rise else shape(min(1.0, (i - rise) / fall))

    return LambdaLR(optimizer, factor)


def _rise(i: int, rise: int) -> float:
    """Linear warm-up that never takes a step of rate zero: 1/rise, 2/rise, ..., 1."""
    return min(1.0, (i + 1) / rise) if rise else 1.0


def _steps(name: str, length: float, total_steps: int) -> int:
    """Turn a share of all steps (below 1) or a number of steps into a number of steps."""
    if length < 0 or (length >= 1 and length != int(length)):
        raise ValueError(
            f"{name} must be a share of all steps in [0, 1) or a whole number of steps, not {length}"
        )
    if length < 1:
        return round(length * total_steps)
    if length >= total_steps:
        raise ValueError(f"{name}={length:g} steps do not fit into a run of {total_steps} steps")
    return int(length)


def _check_floor(value: float, name: str = "floor") -> None:
    """Refuse a factor outside [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is a factor of the peak rate in [0, 1], not {value}")
