"""The package gives every public name of the core, and the model configs name what exists."""

from pathlib import Path

import pytest
import yaml

import gatelab
import gatelab.core

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "conf" / "model").glob("*.yaml"))


def test_the_package_gives_every_public_name_of_the_core() -> None:
    of_the_api = set(gatelab._HOME)
    assert set(gatelab.__all__) - {"__version__"} == set(gatelab.core.__all__) | of_the_api
    assert not set(gatelab.core.__all__) & of_the_api
    for name in gatelab.core.__all__:
        assert getattr(gatelab, name) is getattr(gatelab.core, name)
    assert gatelab.__version__.count(".") >= 1
    assert set(gatelab.__all__) <= set(dir(gatelab))
    with pytest.raises(AttributeError, match="no attribute 'GRUU'"):
        _ = gatelab.GRUU


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.stem)
def test_a_model_config_fits_the_signature_of_its_class(file: Path) -> None:
    options = yaml.safe_load(file.read_text())
    name = options.pop("_target_").removeprefix("gatelab.core.")
    assert options.pop("_partial_") is True
    core = getattr(gatelab.core, name)
    made = core(input_size=3, **options)
    assert made.hidden_size == made.output_size == 128


def test_every_promised_model_has_a_config() -> None:
    names = {"gru", "nn_gru", "lstm", "nn_lstm", "rnn", "nn_rnn", "mingru"}
    assert {f.stem for f in CONFIGS} == names
