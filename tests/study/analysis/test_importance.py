"""The importance of parameters: known shares are found, noise gets none, and too little data is said."""

import random

import numpy as np
import pytest

from gatelab.study.analysis.importance import ENOUGH, FEW, _ranks, importance
from gatelab.study.analysis.read import read_study


def shares(found):
    return {share.name: share.share for share in found.shares}


def grid_of(make_study, entries, function, seeds=(0,), a=(0, 1, 2), b=(0, 1, 2, 3)):
    choice, _ = entries
    space = [choice("a", *a), choice("b", *b)]
    trials = [
        {"params": {"a": i, "b": j}, "values": [function(i, j, seed) for seed in seeds]} for i in a for j in b
    ]
    return read_study(make_study("s", space, trials, seeds=list(seeds) if len(seeds) > 1 else []))


def test_an_additive_grid_is_shared_out_exactly(make_study, entries):
    found = importance(grid_of(make_study, entries, lambda a, b, _: 3.0 * a + b))
    variance = {"a": 9 * np.var([0, 1, 2]), "b": np.var([0, 1, 2, 3])}
    total = sum(variance.values())
    assert found.method == "variance"
    assert shares(found) == pytest.approx(
        {"a": variance["a"] / total, "b": variance["b"] / total, "interactions and chance": 0.0}, abs=1e-9
    )


def test_a_pure_interaction_is_nobodys_main_effect(make_study, entries):
    found = importance(grid_of(make_study, entries, lambda a, b, _: (a - 1) * (b - 1.5)))
    assert shares(found) == pytest.approx({"a": 0.0, "b": 0.0, "interactions and chance": 1.0}, abs=1e-9)


def test_with_seeds_the_shares_sum_to_one_and_noise_gets_none(make_study, entries):
    noise = random.Random(0)
    found = importance(
        grid_of(make_study, entries, lambda a, b, _: a + noise.gauss(0, 0.5), seeds=(0, 1, 2, 3))
    )
    result = shares(found)
    assert sum(result.values()) == pytest.approx(1.0, abs=0.01)
    assert result["a"] > 0.5
    assert result["b"] < 0.03
    # omega squared of what is left: the deviation 0.5 against the effect's variance 2/3
    assert result["chance (runs of one point differ)"] == pytest.approx(0.25 / (0.25 + 2 / 3), abs=0.08)


def test_one_diverged_run_does_not_hide_what_matters(make_study, entries):
    def value(a, b, seed):
        return 1e4 if (a, b, seed) == (0, 1, 1) else a + 0.1 * b + 0.001 * seed

    found = importance(grid_of(make_study, entries, value, seeds=(0, 1, 2)))
    assert found.shares[0].name == "a"
    assert shares(found)["a"] > 0.6
    assert "one run alone (of trial 1) makes 97% of the variance" in found.notes[0]


def test_ranks_of_equal_values_are_their_mean():
    assert _ranks(np.array([3.0, 1.0, 3.0, 7.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_a_grid_with_gaps_still_gives_the_strong_one_more(make_study, entries):
    choice, _ = entries
    points = [(a, b) for a in range(3) for b in range(4) if (a, b) not in {(0, 1), (2, 3), (1, 0)}]
    trials = [{"params": {"a": a, "b": b}, "values": [3.0 * a + 0.1 * b]} for a, b in points]
    found = importance(read_study(make_study("s", [choice("a", 0, 1, 2), choice("b", 0, 1, 2, 3)], trials)))
    assert found.method == "variance"
    assert found.shares[0].name == "a"
    assert shares(found)["a"] > 50 * shares(found)["b"]


def test_a_single_parameter_is_set_against_chance(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"a": n}, "values": [n + 0.1, n - 0.1]} for n in range(4)]
    found = importance(read_study(make_study("s", [choice("a", 0, 1, 2, 3)], trials, seeds=[0, 1])))
    assert list(shares(found)) == ["a", "chance (runs of one point differ)"]
    assert shares(found)["a"] > 0.95


def test_a_single_parameter_with_one_run_is_not_told_from_chance(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"a": n}, "values": [1.0 * n]} for n in range(4)]
    found = importance(read_study(make_study("s", [choice("a", 0, 1, 2, 3)], trials)))
    assert found.method is None
    assert "chance cannot be told from the effect of a" in found.notes[0]


def ranged(make_study, entries, count, function, seed=0):
    _, interval = entries
    draw = random.Random(seed)
    points = [{"x": draw.random(), "y": draw.random()} for _ in range(count)]
    trials = [{"params": p, "values": [function(p["x"], p["y"])]} for p in points]
    return read_study(make_study("r", [interval("x", 0.0, 1.0), interval("y", 0.0, 1.0)], trials))


def test_ranges_are_judged_by_ped_anova(make_study, entries):
    found = importance(ranged(make_study, entries, 60, lambda x, y: (x - 0.3) ** 2 + 0.01 * y))
    assert found.method == "ped-anova"
    assert shares(found)["x"] > 0.8
    assert sum(shares(found).values()) == pytest.approx(1.0)


@pytest.mark.parametrize(("count", "method"), [(FEW - 1, None), (FEW, "ped-anova"), (ENOUGH, "ped-anova")])
def test_too_few_trials_are_said(make_study, entries, count, method):
    found = importance(ranged(make_study, entries, count, lambda x, y: x))
    assert found.method == method
    text = " ".join(found.notes)
    assert ("Nothing can be said from" in text) == (count < FEW)
    assert ("a hint only" in text) == (FEW <= count < ENOUGH)


def test_a_conditional_parameter_is_counted_where_it_is(make_study, entries):
    choice, interval = entries
    draw = random.Random(1)
    trials = []
    for n in range(60):
        params = {"m": "a"} if n % 2 else {"m": "b", "depth": draw.uniform(0, 1)}
        trials.append({"params": params, "values": [1.0 + params.get("depth", 0.5)]})
    found = importance(
        read_study(make_study("s", [choice("m", "a", "b"), interval("depth", 0.0, 1.0)], trials))
    )
    assert {share.name: share.trials for share in found.shares} == {"m": 60, "depth": 30}
    assert found.shares[0].name == "depth"


def test_a_conditional_choice_gets_what_is_beyond_its_condition(make_study, entries):
    choice, _ = entries
    points = [{"m": "a"}, {"m": "b", "d": 1}, {"m": "b", "d": 2}]
    values = {None: 1.0, 1: 5.0, 2: 5.2}
    trials = [{"params": p, "values": [values[p.get("d")] + e for e in (-0.01, 0.0, 0.01)]} for p in points]
    found = importance(
        read_study(make_study("s", [choice("m", "a", "b"), choice("d", 1, 2)], trials, seeds=[0, 1, 2]))
    )
    assert shares(found)["m"] > 0.95
    assert shares(found)["d"] < 0.05
    assert any("Only some trials have d" in note for note in found.notes)


def test_several_objectives_ask_for_the_front(make_study, entries):
    _, interval = entries
    draw = random.Random(2)
    trials = []
    for _ in range(40):
        x, y = draw.random(), draw.random()
        trials.append({"params": {"x": x, "y": y}, "values": [x], "objectives": [x, (x - 0.1) ** 2]})
    space = [interval("x", 0.0, 1.0), interval("y", 0.0, 1.0)]
    found = importance(
        read_study(make_study("s", space, trials, objectives=["val/a:minimize", "val/b:minimize"]))
    )
    assert found.shares[0].name == "x"
    assert "Pareto front" in found.notes[0]


@pytest.mark.parametrize("trials", [[], [{"params": {"a": 1}, "values": [2.0]}]])
def test_nothing_is_said_where_nothing_varies(make_study, entries, trials):
    choice, _ = entries
    found = importance(read_study(make_study("s", [choice("a", 1, 2)], trials)))
    assert (found.method, found.shares) == (None, ())
    assert found.notes[0].startswith("Nothing can be said")


def test_equal_values_everywhere_say_nothing(make_study, entries):
    assert importance(grid_of(make_study, entries, lambda *_: 1.0)).method is None


def test_what_is_left_out_is_said(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"a": n, "b": 1}, "values": [1.0 * n, 1.1 * n]} for n in range(3)]
    trials.append({"params": {"a": 3, "b": 2}, "state": "pruned", "reported": [9.0]})
    space = [choice("a", 0, 1, 2, 3), choice("b", 1, 2)]
    found = importance(read_study(make_study("s", space, trials, seeds=[0, 1])))
    assert any("Not varied" in note and "b" in note for note in found.notes)
    assert any("1 pruned" in note for note in found.notes)
