"""Samplers and pruners by name and options; a trial's draws follow from the study's seed and its number."""

import importlib.util
import inspect

import optuna
import pytest

from gatelab.run import RequestError
from gatelab.study.engine.samplers import NEEDED, RandomByName, make_pruner, make_sampler, seed_of

FLOAT = optuna.distributions.FloatDistribution(0.0, 1.0)


def draw(sampler, names):
    study = optuna.create_study(sampler=sampler)
    trial = study.ask()
    return {name: trial.suggest_float(name, 0, 1) for name in names}


def test_a_seed_follows_from_the_study_and_the_number():
    assert seed_of(0, 7) == seed_of(0, 7) < 2**32
    assert len({seed_of(seed, number) for seed in range(3) for number in range(100)}) == 300


def test_a_random_value_depends_on_seed_number_and_name_and_on_nothing_else():
    both, other_order = draw(make_sampler("random", 1, 5), "ab"), draw(make_sampler("random", 1, 5), "ba")
    alone = draw(make_sampler("random", 1, 5), "b")
    assert both == other_order
    assert alone["b"] == both["b"] != both["a"]
    assert draw(make_sampler("random", 1, 6), "b") != alone
    assert draw(make_sampler("random", 2, 5), "b") != alone


def test_a_random_value_is_what_optuna_draws_from_the_seed_of_its_name():
    expected = optuna.samplers.RandomSampler(seed=seed_of(7, "b")).sample_independent(None, None, "b", FLOAT)
    for name in ("a", "b", "a"):
        drawn = RandomByName(7).sample_independent(None, None, name, FLOAT)
    again = RandomByName(7).sample_independent(None, None, "b", FLOAT)
    assert again == expected != drawn


def test_random_values_spread_over_the_interval():
    values = sorted(draw(make_sampler("random", 0, number), "x")["x"] for number in range(200))
    assert all(abs(value - (index + 0.5) / 200) < 0.12 for index, value in enumerate(values))


def test_tpe_lies_about_running_trials_unless_told_otherwise():
    assert make_sampler("tpe", 0)._constant_liar
    assert not make_sampler("tpe", 0, options={"constant_liar": False})._constant_liar


@pytest.mark.parametrize(
    "name", ["grid", "random", "tpe", "NSGAIISampler", "TPESampler", "optuna.samplers.RandomSampler"]
)
def test_a_sampler_is_found_by_its_name(name):
    assert isinstance(make_sampler(name, 0), optuna.samplers.BaseSampler)
    assert isinstance(make_sampler("grid", 0), RandomByName)


@pytest.mark.parametrize("name", [n for n in optuna.samplers.__all__ if n.endswith("Sampler")])
def test_every_sampler_of_optuna_is_made_or_refused_with_the_reason(name):
    if inspect.isabstract(getattr(optuna.samplers, name)):
        expected = "no such sampler"
    elif name in ("GridSampler", "PartialFixedSampler"):
        expected = "needs '(search_space|fixed_params)'"
    elif name in NEEDED and not importlib.util.find_spec(NEEDED[name]):
        expected = f"pip install {NEEDED[name]}"
    else:
        assert isinstance(make_sampler(name, 0), getattr(optuna.samplers, name))
        return
    with pytest.raises(RequestError, match=expected):
        make_sampler(name, 0)


def test_one_sequence_of_points_has_one_seed():
    pytest.importorskip("scipy")
    assert make_sampler("QMCSampler", 3, 0)._seed == make_sampler("QMCSampler", 3, 9)._seed == 3


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", "NopPruner"),
        ("median", "MedianPruner"),
        ("successive_halving", "SuccessiveHalvingPruner"),
        ("hyperband", "HyperbandPruner"),
        ("wilcoxon", "WilcoxonPruner"),
        ("PercentilePruner", "PercentilePruner"),
    ],
)
def test_a_pruner_is_found_by_its_name(name, kind):
    options = {"percentile": 25.0} if kind == "PercentilePruner" else {}
    assert type(make_pruner(name, options)).__name__ == kind


def test_a_pruner_inside_another_is_named():
    pruner = make_pruner("PatientPruner", {"wrapped_pruner": "median", "patience": 2})
    assert isinstance(pruner._wrapped_pruner, optuna.pruners.MedianPruner)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: make_sampler("tpo", 0), r"study\.strategy=tpo.*Did you mean 'tpe'"),
        (lambda: make_sampler("NSGASampler", 0), r"Did you mean 'NSGAI+Sampler'"),
        (
            lambda: make_sampler("tpe", 0, options={"n_startup": 3}),
            r"sampler_options\.n_startup.*'n_startup_trials'",
        ),
        (
            lambda: make_sampler(
                "tpe", 0, options={"n_startup_trials": "x", "group": 3, "multivariate": False}
            ),
            "TPESampler",
        ),
        (lambda: make_pruner("medium"), r"study\.pruner=medium.*Did you mean 'median'"),
        (lambda: make_pruner("median", {"warmup": 1}), r"pruner_options\.warmup"),
        (
            lambda: make_pruner("PercentilePruner"),
            r"needs 'percentile'; give study\.pruner_options\.percentile",
        ),
        (lambda: make_pruner("median", {"n_startup_trials": -1}), "MedianPruner"),
    ],
)
def test_a_wrong_name_or_option_is_refused_with_the_nearest_spelling(make, expected):
    with pytest.raises(RequestError, match=expected):
        make()
