"""The number of parameters of a network before it is built, and the hidden size that a parameter budget buys.

Cells are compared at equal size, not at equal hidden size: an LSTM has four thirds of a GRU's parameters.
"""

import warnings
from collections.abc import Callable

import torch
from torch import nn


def parameter_count(make: Callable[[], nn.Module]) -> int:
    """Return the number of parameters of the network that `make()` builds; shared ones count once.

    It is built on the meta device, without memory or random numbers.
    """
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the caller hears of them when the network is built in earnest
        return sum(parameter.numel() for parameter in make().parameters())


def hidden_size_for(budget: int, count: Callable[[int], int]) -> int:
    """Return the largest hidden size H with `count(H) <= budget`, exactly.

    Args:
        budget: number of parameters.
        count: parameters as a function of H; it must not decrease.

    Raises ValueError when even H = 1 is over the budget.

    Example: `hidden_size_for(1_000_000, lambda h: parameter_count(lambda: GRU(h, h, num_layers=2)))` is 288.
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
