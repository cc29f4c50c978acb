"""Parameters counted in closed form, and the hidden size that a parameter budget buys.

Cells are compared at equal size, not at equal hidden size: an LSTM has four thirds of a GRU's parameters.
Every core class and both models have a static `parameter_count` with the arguments of their constructor;
this file holds what they share and the inverse. Nothing is allocated.
"""

from collections.abc import Callable
from typing import Any


def core_count(core: Callable[..., Any], input_size: int) -> int:
    """Parameters of the core that `core(input_size=...)` would make.

    `core` is `functools.partial(Class, hidden_size=..., ...)` of a class with a `parameter_count`; anything
    else is a TypeError, because its size is known only after it is built.
    """
    counter = getattr(getattr(core, "func", None), "parameter_count", None)
    if counter is None:
        raise TypeError(
            "core must be functools.partial(CoreClass, hidden_size=...) of a class with parameter_count, "
            f"got {core!r}"
        )
    return int(counter(input_size, **core.keywords))  # type: ignore[attr-defined]


def hidden_size_for(budget: int, count: Callable[[int], int]) -> int:
    """The largest hidden size H with `count(H) <= budget`, exactly.

    Args:
        budget: number of parameters.
        count: parameters as a function of H; it must not decrease.

    Raises ValueError when even H = 1 is over the budget.

    Example: `hidden_size_for(1_000_000, lambda h: GRU.parameter_count(h, h, num_layers=2))` is 288.
    """
    if count(1) > budget:
        raise ValueError(f"a budget of {budget} parameters is too small: hidden size 1 needs {count(1)}")
    high = 2
    while count(high) <= budget:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= budget else (low, middle)
    return low
