"""Every private name of PyTorch that the core uses, in one place. Tried with torch 2.13.

`tests/core/test_torch_internals.py` fails when one of them is gone or means something else.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def scan(combine: Callable[..., Any], init: Any, xs: Tensor) -> tuple[Any, Tensor]:
    """Run `combine(carry, x) -> (carry, y)` over the first dimension of `xs`, as one operation of an exported graph.

    Returns the last carry and the stacked y. Its import loads the compiler, hence not before it is called.
    """
    from torch._higher_order_ops.scan import scan as scan_operation

    carry, ys = scan_operation(combine, init, xs)
    return carry, ys


def is_view(tensor: Tensor) -> bool:
    """Whether autograd takes the tensor for a view of another, which nobody may change in place."""
    return bool(tensor._is_view())


def version(tensor: Tensor) -> int:
    """The number of changes in place, through the tensor or another that shares its version counter."""
    return int(tensor._version)


def gru(x: Tensor, h0: Tensor, weights: list[Tensor], bias: bool, training: bool) -> tuple[Tensor, Tensor]:
    """The function behind `torch.nn.GRU`, for one layer in one direction: x [T, B, D], h0 [1, B, H]."""
    y, h_n = torch._VF.gru(x, h0, weights, bias, 1, 0.0, training, False, False)
    return y, h_n
