"""Means, deviations and intervals of runs, against scipy's own."""

from pathlib import Path

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from gatelab.study.analysis.state import Objective, Run, StudyState
from gatelab.study.analysis.statistics import (
    Summary,
    decimals,
    fixed,
    over_what,
    paired_p,
    shown_p,
    summarise,
    values_of,
)

numbers = st.lists(
    st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda x: round(x, 3)), min_size=2, max_size=9
)


@given(numbers)
def test_the_interval_is_students_t(values):
    found = summarise(values)
    if len(set(values)) == 1:
        assert found.half == 0.0
        return
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, found.mean, scipy.stats.sem(values))
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)
    assert found.sd == pytest.approx(scipy.stats.tstd(values))


def test_one_value_has_no_interval():
    assert summarise([2.0]) == Summary(1, 2.0, None, None)
    assert summarise([2.0]).low is None


def test_no_value_is_refused():
    with pytest.raises(ValueError, match="no values"):
        summarise([])


def test_seeds_are_averaged_inside_their_fold():
    values = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 10.0, (1, 1): 20.0}
    runs = [Run(Path(), value, seed, fold) for (fold, seed), value in values.items()]
    assert values_of(runs) == {(0,): 2.0, (1,): 15.0}
    assert summarise(list(values_of(runs).values())).n == 2


def test_runs_without_a_value_do_not_count():
    assert values_of([Run(Path(), 1.0, 0), Run(Path(), None, 1)]) == {(0,): 1.0}


@given(numbers, st.data())
def test_the_paired_test_is_scipys(one, data):
    other = data.draw(
        st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=len(one), max_size=len(one))
    )
    differences = [a - b for a, b in zip(one, other, strict=True)]
    if max(differences) - min(differences) < 1e-6:
        return
    found = paired_p(dict(enumerate(one)), dict(enumerate(other)))
    assert found == pytest.approx(scipy.stats.ttest_rel(one, other).pvalue, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("other", "expected"), [({0: 1.0, 1: 2.0}, 1.0), ({0: 2.0, 1: 3.0}, 0.0), ({0: 1.0, 5: 2.0}, None)]
)
def test_the_paired_test_without_spread_or_pairs(other, expected):
    assert paired_p({0: 1.0, 1: 2.0}, other) == expected


@pytest.mark.parametrize(
    ("summaries", "texts"),
    [
        (
            [Summary(3, 1.83621, 0.01, 0.0041), Summary(3, 2.1, 0.1, 0.2)],
            ["1.8362 ± 0.0041", "2.1000 ± 0.2000"],
        ),
        ([Summary(3, 1.83621, 0.01, 0.0041)], ["1.8362 ± 0.0041"]),
        ([Summary(3, 144.21, 9.0, 12.6)], ["144 ± 13"]),
        ([Summary(1, 1.83621)], ["1.8362"]),
        ([Summary(1, 144.21)], ["144.21"]),
        ([Summary(2, 0.5, 0.0, 0.0)], ["0.50000 ± 0.00000"]),
    ],
)
def test_figures_have_the_digits_that_the_interval_gives_meaning(summaries, texts):
    assert [summary.text(decimals(summaries)) for summary in summaries] == texts


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seeds": [0, 1, 2]}, "over 3 seeds"),
        ({"folds": 5, "seeds": [0, 1]}, "over 5 folds, each the mean of 2 seeds"),
        ({"folds": 5}, "over 5 folds"),
        ({}, "no interval"),
        ({"seeds": [4]}, "no interval"),
    ],
)
def test_it_is_said_what_is_averaged(settings, words):
    state = StudyState(Path("/s"), "s", settings, (), (), (Objective("val/loss"),), ())
    assert words in over_what(state)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5678, "1,234.57"),
        (-0.004, "-0.00"),
        (9.9e11, "990,000,000,000.00"),
        (6e30, "6e+30"),
        (-2.5e12, "-2.5e+12"),
    ],
)
def test_a_number_too_large_to_be_read_has_a_power(value, text):
    assert fixed(value, 2) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "< 0.001"), (0.001, "0.001"), (0.0324, "0.032"), (1.0, "1")]
)
def test_a_p_has_two_digits_and_an_end(p, text):
    assert shown_p(p) == text
