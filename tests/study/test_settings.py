"""The settings of a study: wrong keys, types and values are named before anything else happens."""

import pytest

from gatelab.run import RequestError
from gatelab.study.settings import OPERATIONAL, StudySettings


def refused(**values):
    with pytest.raises(RequestError) as error:
        StudySettings.from_dict({"name": "size", **values})
    return str(error.value)


def test_plain_data_gives_the_same_settings_back():
    settings = StudySettings.from_dict(
        {"name": "a-1", "seeds": [0, 1], "pruner_options": {"n_min_trials": 3}}
    )
    assert StudySettings.from_dict(settings.model_dump()) == settings


def test_an_unknown_key_is_named_with_the_nearest():
    assert "study.slot: no such key. Did you mean 'slots'?" in refused(slot=2)


def test_every_mistake_is_named_at_once():
    text = refused(slot=2, workers="two", seeds=["a"])
    assert all(key in text for key in ("study.slot:", "study.workers=two:", "study.seeds="))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"seeds": [0, 1, 1]}, "1 is there more than once"),
        ({"seeds": [-1]}, "a seed is 0 or more"),
        ({"name": "../x"}, "study=../x"),
        ({"name": ".x"}, "study=.x"),
        ({"budget": "1e6"}, "parameters:1e6"),
        ({"objectives": ["val/loss:min"]}, "val/loss:min"),
        ({"isolation": "forks"}, "study.isolation"),
        ({"threads": 0}, "study.threads=0"),
        ({"seeds": 0}, "3 means 0, 1, 2"),
        ({"n_trials": 0}, "study.n_trials=0: should be greater than or equal to 1"),
        ({"folds": 1}, "study.folds=1"),
        ({"workers": 0}, "study.workers=0"),
        ({"slots": 0}, "study.slots=0"),
        ({"retries": -1}, "study.retries=-1"),
        ({"max_failures": 0}, "study.max_failures=0"),
        ({"stale_after": 0.5}, "study.stale_after=0.5"),
        ({"timeout": 0}, "study.timeout=0"),
        ({"seed": -1}, "study.seed=-1"),
    ],
)
def test_an_impossible_value_is_refused(values, expected):
    assert expected in refused(**values)


def test_one_item_stands_for_a_list_of_one():
    settings = StudySettings.from_dict({"name": "x", "objectives": "val/bpc", "gpus": 0})
    assert (settings.objectives, settings.gpus) == (["val/bpc"], [0])


def test_a_number_of_seeds_means_that_many():
    assert StudySettings.from_dict({"name": "x", "seeds": 3}).seeds == [0, 1, 2]
    assert StudySettings.from_dict({"name": "x", "seeds": [3]}).seeds == [3]


def test_whole_numbers_are_real_numbers_too():
    assert StudySettings.from_dict({"name": "x", "timeout": 60, "stale_after": 10}).timeout == 60


def test_the_operational_settings_exist_and_all_are_described():
    assert set(StudySettings.model_fields) > OPERATIONAL
    assert all(field.description for field in StudySettings.model_fields.values())
