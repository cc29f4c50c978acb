"""The importance of parameters: what matters comes first, noise gets little, and too little data is said."""

import random

import pytest

from gatelab.study.analysis.importance import ENOUGH, FEW, importance
from gatelab.study.analysis.read import read_study


def shares(found):
    return {share.key: share.share for share in found.shares}


def grid_of(make_study, entries, function, seeds=(0,), a=(0, 1, 2), b=(0, 1, 2, 3)):
    choice, _ = entries
    space = [choice("a", *a), choice("b", *b)]
    trials = [
        {"params": {"a": i, "b": j}, "values": [function(i, j, seed) for seed in seeds]} for i in a for j in b
    ]
    return read_study(make_study("s", space, trials, seeds=list(seeds) if len(seeds) > 1 else []))


def test_in_a_grid_with_seeds_what_matters_comes_first_and_noise_gets_little(make_study, entries):
    noise = random.Random(0)
    found = importance(
        grid_of(make_study, entries, lambda a, b, _: a + noise.gauss(0, 0.2), seeds=(0, 1, 2, 3))
    )
    assert list(shares(found)) == ["a", "b"]
    assert sum(shares(found).values()) == pytest.approx(1.0)
    assert shares(found)["a"] > 0.85


def test_the_share_does_not_depend_on_which_way_is_better(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"a": n % 3, "b": n // 3}, "values": [float(n % 3)] * 2} for n in range(9)]
    space = [choice("a", 0, 1, 2), choice("b", 0, 1, 2)]
    folder = make_study("m", space, trials, seeds=[0, 1], objectives=["val/accuracy:maximize"])
    assert shares(importance(read_study(folder)))["a"] > 0.9


def test_one_diverged_run_does_not_hide_what_matters(make_study, entries):
    def value(a, b, seed):
        return 1e4 if (a, b, seed) == (0, 1, 1) else a + 0.01 * b + 0.001 * seed

    found = importance(grid_of(make_study, entries, value, seeds=(0, 1, 2)))
    assert found.shares[0].key == "a"
    assert shares(found)["a"] > 0.8


def test_a_grid_with_gaps_still_gives_the_strong_one_more(make_study, entries):
    choice, _ = entries
    points = [(a, b) for a in range(3) for b in range(4) if (a, b) not in {(0, 1), (2, 3), (1, 0)}]
    trials = [{"params": {"a": a, "b": b}, "values": [3.0 * a + 0.1 * b]} for a, b in points]
    found = importance(read_study(make_study("s", [choice("a", 0, 1, 2), choice("b", 0, 1, 2, 3)], trials)))
    assert found.shares[0].key == "a"


def test_a_single_parameter_has_nothing_to_be_compared_with(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"a": n}, "values": [1.0 * n]} for n in range(10)]
    found = importance(read_study(make_study("s", [choice("a", *range(10))], trials)))
    assert (found.shares, found.notes) == ((), ())


def ranged(make_study, entries, count, function, seed=0):
    _, interval = entries
    draw = random.Random(seed)
    points = [{"x": draw.random(), "y": draw.random()} for _ in range(count)]
    trials = [{"params": p, "values": [function(p["x"], p["y"])]} for p in points]
    return read_study(make_study("r", [interval("x", 0.0, 1.0), interval("y", 0.0, 1.0)], trials))


def test_ranges_are_judged(make_study, entries):
    found = importance(ranged(make_study, entries, 60, lambda x, y: (x - 0.3) ** 2 + 0.01 * y))
    assert shares(found)["x"] > 0.8
    assert sum(shares(found).values()) == pytest.approx(1.0)


@pytest.mark.parametrize("count", [FEW - 1, FEW, ENOUGH])
def test_too_few_runs_are_said(make_study, entries, count):
    found = importance(ranged(make_study, entries, count, lambda x, y: x))
    assert bool(found.shares) == (count >= FEW)
    text = " ".join(found.notes)
    assert ("nothing can be said" in text) == (count < FEW)
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
    assert {share.key: share.trials for share in found.shares} == {"m": 60, "depth": 30}
    assert found.shares[0].key == "depth"


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
    assert found.shares[0].key == "x"
    assert "Pareto front" in found.notes[0]


def test_equal_values_everywhere_say_nothing(make_study, entries):
    assert importance(grid_of(make_study, entries, lambda *_: 1.0)).shares == ()


def test_what_is_left_out_is_said(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"a": n % 3, "b": 1, "c": n % 2}, "values": [1.0 * n, 1.1 * n]} for n in range(6)]
    trials.append({"params": {"a": 3, "b": 2, "c": 0}, "state": "pruned", "reported": [9.0]})
    space = [choice("a", 0, 1, 2, 3), choice("b", 1, 2), choice("c", 0, 1)]
    found = importance(read_study(make_study("s", space, trials, seeds=[0, 1])))
    assert any("Not varied" in note and "b" in note for note in found.notes)
    assert any("Pruned trials (1)" in note for note in found.notes)
