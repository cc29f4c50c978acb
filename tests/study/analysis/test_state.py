"""A study's state: counts, the best, the Pareto front, short names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatelab.study.analysis.state import Objective, StudyState, Trial, short_names


def state_of(trials, objectives=("minimize",), workers=frozenset()):
    asked = tuple(Objective(f"val/m{i}", direction) for i, direction in enumerate(objectives))
    return StudyState(Path("/x/studies/s"), "s", {}, (), (), asked, tuple(trials), workers)


def done(number, *values):
    return Trial(number, "done", {"a": number}, values)


@pytest.mark.parametrize(("direction", "best"), [("minimize", 1), ("maximize", 2)])
def test_the_best_follows_the_direction(direction, best):
    state = state_of([done(0, 2.0), done(1, 1.0), done(2, 3.0)], [direction])
    assert state.best.number == best


def test_of_equal_trials_the_first_is_best():
    assert state_of([done(0, 1.0), done(1, 1.0)]).best.number == 0


def test_pruned_and_failed_trials_are_never_best():
    state = state_of([Trial(0, "pruned", {}), Trial(1, "failed", {}), done(2, 9.0)])
    assert state.best.number == 2


def test_several_objectives_have_no_single_best():
    assert state_of([done(0, 1.0, 2.0)], ["minimize", "minimize"]).best is None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_the_front_is_what_nothing_dominates(pairs):
    state = state_of(
        [done(i, float(a), float(b)) for i, (a, b) in enumerate(pairs)], ["minimize", "maximize"]
    )
    front = {
        i
        for i, (a, b) in enumerate(pairs)
        if not any(c <= a and d >= b and (c, d) != (a, b) for c, d in pairs)
    }
    assert {trial.number for trial in state.pareto} == front


@pytest.mark.parametrize(
    ("states", "workers", "expected"),
    [
        ([], (), "empty"),
        (["done", "failed", "pruned"], (), "finished"),
        (["done", "waiting"], ("w",), "running"),
        (["done", "running"], (), "stopped"),
    ],
)
def test_the_state_follows_from_trials_and_workers(states, workers, expected):
    trials = [Trial(i, name, {}, (1.0,) if name == "done" else ()) for i, name in enumerate(states)]
    state = state_of(trials, workers=frozenset(workers))
    assert state.state == expected
    assert sum(state.counts.values()) == len(states)


def test_short_names_tell_the_keys_apart():
    keys = ["model", "model.hidden_size", "model.dropout", "task.net.dropout", "optim.lr"]
    assert list(short_names(keys).values()) == ["model", "hidden_size", "model.dropout", "net.dropout", "lr"]
