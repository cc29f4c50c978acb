"""What the core's tests share: the error measure of the parity bars, and one seed for every test."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def error() -> Callable[[Tensor, Tensor], float]:
    """Largest deviation from the second tensor, relative to its largest value."""

    def measure(got: Tensor, want: Tensor) -> float:
        assert got.shape == want.shape
        if want.numel() == 0:
            return 0.0
        scale = want.abs().max().item()
        deviation = (got.double() - want.double()).abs().max().item()
        return deviation / scale if scale else deviation

    return measure
