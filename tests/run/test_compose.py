"""Composition: what is asked for is what is composed, and every mistake is named with its nearest spelling."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from gatelab.data.messages import to_type
from gatelab.run import RequestError
from gatelab.run.config import compose


def test_data_chooses_its_task():
    assert compose(["data=etth1"]).choices["task"] == "forecasting"
    assert compose(["data=ptb_word"]).choices["task"] == "language_model"


def test_a_task_given_by_hand_wins():
    assert compose(["data=etth1", "task=language_model"]).choices["task"] == "language_model"


def test_the_command_line_wins_over_the_experiment():
    assert compose(["experiment=ptb_gru", "model.hidden_size=7"]).resolved()["model"]["hidden_size"] == 7


def test_a_folder_of_ones_own_adds_experiments(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nmodel:\n  hidden_size: 9\n")
    composed = compose(["experiment=mine"], config_dirs=[tmp_path])
    assert composed.resolved()["model"]["hidden_size"] == 9
    assert composed.config.name == "mine"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("experiment=ptb_gruu", "Did you mean 'ptb_gru'?"),
        ("model.hiden_size=3", "Did you mean 'model.hidden_size'?"),
        ("modle=gru", "Did you mean 'model'?"),
        ("data=exchang", "Did you mean 'exchange'?"),
        ("hidden_size", "key=value"),
        ("model.hidden_size=[1", "key=value"),
    ],
)
def test_a_wrong_override_is_named_with_the_nearest_spelling(override, expected):
    with pytest.raises(RequestError) as error:
        compose([override])
    assert expected in str(error.value)
    assert override.split("=")[0] in str(error.value)


def test_invalid_yaml_names_its_file(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "broken.yaml").write_text("# @package _global_\nmodel: [1\n")
    with pytest.raises(RequestError, match=r"broken\.yaml"):
        compose(["experiment=broken"], config_dirs=[tmp_path])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RequestError, match="no such folder"):
        compose(config_dirs=[tmp_path / "absent"])


NAMES = [
    "T (degC)",
    "säule",
    "x[0]",
    "100%",
    "a,b",
    "p{mbar}",
    'say "hi"',
    "it's",
    "0",
    "null",
    "${seed}",
    "a=b",
    "a b",
    "OT",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_line_to_type_for_any_name_is_read_as_that_name(name):
    for value in (name, [name, "load"]):
        typed = to_type("data.target", value)
        (word,) = shlex.split(typed)
        override = OverridesParser.create().parse_override(word)
        assert override.value() == value


def test_an_experiment_in_a_subfolder_names_one_folder_of_runs(tmp_path):
    file = tmp_path / "experiment" / "ablation" / "no_dropout.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "# @package _global_\ndefaults:\n  - /experiment/quickstart\ntask:\n  net:\n    dropout: 0.0\n"
    )
    composed = compose(["experiment=ablation/no_dropout"], config_dirs=[tmp_path])
    assert composed.config.name == "ablation-no_dropout"
    assert composed.config.task.net.dropout == 0.0
    with pytest.raises(
        RequestError,
        match=r"no such choice\. Did you mean 'ablation/no_dropout'",
    ):
        compose(["experiment=ablation/no_dropot"], config_dirs=[tmp_path])
