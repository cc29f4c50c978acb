"""The settings of a study: wrong keys, types and values are named before anything else happens."""

import dataclasses

import pytest

from gatelab.run.errors import RequestError
from gatelab.study.settings import LEAST, OPERATIONAL, StudySettings, setting_names


def refused(**values):
    with pytest.raises(RequestError) as error:
        StudySettings.from_dict({"name": "size", **values})
    return str(error.value)


def test_plain_data_gives_the_same_settings_back():
    settings = StudySettings.from_dict(
        {"name": "a-1", "seeds": [0, 1], "pruner_options": {"n_min_trials": 3}}
    )
    assert StudySettings.from_dict(settings.to_dict()) == settings


def test_an_unknown_key_is_named_with_the_nearest():
    assert "study.slot: no such key. Did you mean 'slots'?" in refused(slot=2)


def test_every_mistake_is_named_at_once():
    text = refused(slot=2, workers="two", seeds=["a"])
    assert all(key in text for key in ("study.slot:", "study.workers:", "study.seeds:"))


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
        *(({key: least - 1}, f"study.{key}=") for key, least in LEAST.items() if key != "stale_after"),
    ],
)
def test_an_impossible_value_is_refused(values, expected):
    assert expected in refused(**values)


def test_one_item_stands_for_a_list_of_one():
    settings = StudySettings.from_dict({"name": "x", "objectives": "val/bpc", "seeds": 3, "gpus": 0})
    assert (settings.objectives, settings.seeds, settings.gpus) == (["val/bpc"], [3], [0])


def test_whole_numbers_are_real_numbers_too():
    assert StudySettings.from_dict({"name": "x", "timeout": 60, "stale_after": 10}).timeout == 60


def test_the_operational_settings_exist():
    assert set(setting_names()) > OPERATIONAL
    assert [f.name for f in dataclasses.fields(StudySettings)] == setting_names()
