"""Tests of the native kernel: skipped, with the reason, where it cannot be had; every dispatch path is reached."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from gatelab.core.backends.native import unavailable

sys.path.insert(0, str(Path(__file__).parent))  # native_cases.py


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set PyTorch's number of threads, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = unavailable()
    for item in items:
        if why is not None and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=why))
