"""What `scripts/bench/overhead.py` says about its rounds."""

import pytest

from scripts.bench.overhead import disagreement, other_values, ratios


def one_round(ours, other, value=0.5):
    return {
        "gatelab": {"seconds": ours, "values": [0.5, 0.25]},
        "optuna": {"seconds": other, "values": [value, 0.25]},
    }


def test_a_ratio_is_taken_within_a_round():
    # the machine was three times slower in the last round, for both
    assert ratios([one_round(12.0, 10.0), one_round(11.0, 10.0), one_round(39.0, 30.0)])["optuna"] == 1.2


def test_a_tool_that_was_left_out_of_a_round_is_compared_in_the_others():
    alone = {"gatelab": {"seconds": 90.0, "values": [0.5, 0.25]}}
    assert ratios([one_round(12.0, 10.0), alone]) == {"gatelab": 1.0, "optuna": 1.2}


def test_values_that_differ_are_told():
    assert disagreement([one_round(1.0, 1.0), one_round(1.0, 1.0)]) == 0
    assert other_values([one_round(1.0, 1.0), one_round(1.0, 1.0, value=0.55)], "optuna") == 1
    assert disagreement([one_round(1.0, 1.0), one_round(1.0, 1.0, value=0.55)]) == pytest.approx(0.1)
