"""Specs are plain data: they survive JSON and a checkpoint that is loaded with weights_only."""

import io
import json

import pytest
import torch

from gatelab.data.messages import DataError
from gatelab.data.specs import SeriesSpec, TextSpec

TEXT = TextSpec(
    vocabulary=10,
    level="word",
    seed_token=1,
    tokens={"train": 8, "test": 4},
    characters={"train": 40, "test": 0},
)
SERIES = SeriesSpec(
    channels=("a", "b"),
    targets=("b",),
    target_index=(1,),
    lookback=4,
    horizon=2,
    season=24,
    frequency="h",
    mean=(0.5, 1.0),
    std=(1.0, 2.0),
    mase_scale=(0.3,),
    windows={"train": 5},
)


@pytest.mark.parametrize("spec", [TEXT, SERIES])
def test_spec_survives_json(spec):
    assert type(spec).from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("spec", [TEXT, SERIES])
def test_spec_survives_a_weights_only_checkpoint(spec):
    file = io.BytesIO()
    torch.save(spec.to_dict(), file)
    file.seek(0)
    assert type(spec).from_dict(torch.load(file, weights_only=True)) == spec


def test_missing_and_unknown_keys_are_named():
    data = TEXT.to_dict()
    data["vocab"] = data.pop("vocabulary")
    with pytest.raises(DataError, match=r"missing keys \['vocabulary'\], unknown keys \['vocab'\]"):
        TextSpec.from_dict(data)
    with pytest.raises(DataError, match="expected 'language_model'"):
        TextSpec.from_dict(SERIES.to_dict())


def test_characters_per_token_turn_bits_per_token_into_bits_per_character():
    assert TEXT.characters_per_token("train") == 5.0
    assert TEXT.characters_per_token("test") == 1.0, "no text behind the tokens: bits stay per token"


@pytest.mark.parametrize("spec", [TEXT, SERIES])
@pytest.mark.parametrize(
    "value", [None, "x", [], [[]], {}, {"train": "x"}, 3, 0.5, True, [None], ["a", 1]], ids=repr
)
def test_a_value_of_another_type_is_named(spec, value):
    fits = {("level", "x"), ("frequency", "x")}
    for key, kept in spec.to_dict().items():
        given = {**spec.to_dict(), key: value}
        same = type(value) is type(kept) and not (isinstance(value, list | dict) and value)
        number = type(kept) in (int, float) and type(value) is int
        if key != "kind" and (
            same or number or (key, value) in fits if not isinstance(value, list | dict) else same
        ):
            type(spec).from_dict(given)
        else:
            with pytest.raises(DataError, match=key):
                type(spec).from_dict(given)
