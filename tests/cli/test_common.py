"""Figures and tables of the commands."""

import pytest

from gatelab.cli.common import number


@pytest.mark.parametrize(
    ("value", "shown"),
    [(3.7239e18, "3.724e+18"), (-2e15, "-2e+15"), (2.5e12, "2.5e+12"), (1234567.0, "1,234,567"), (0.0, "0")],
)
def test_a_large_figure_is_as_short_as_a_small_one(value, shown):
    assert number(value) == shown
