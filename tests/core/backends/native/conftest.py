"""Tests of the native kernel: skipped, with the reason, where it cannot be had; every dispatch path is reached."""

import sys
from pathlib import Path

import pytest

from gatelab.core.backends.native import unavailable

sys.path.insert(0, str(Path(__file__).parent))  # native_cases.py


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = unavailable()
    for item in items:
        if why is not None and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=why))
