"""A budget gives every point the largest hidden size that fits, and what cannot be solved is refused."""

from functools import partial

import pytest

from gatelab.core import GRU, LSTM, Forecaster, LanguageModel, MinGRU
from gatelab.data import TextDataModule
from gatelab.run import RequestError
from gatelab.study.sweep import plan, submit

from .front_tools import TINY, planned

pytestmark = pytest.mark.ci

CELLS = {"gru": GRU, "lstm": LSTM, "mingru": MinGRU}


def adding(cell, hidden, **more):
    core = partial(CELLS[cell], hidden_size=hidden, **more)
    model = Forecaster(2, 1, core, targets=[0], normalization="none")
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_budget_is_the_largest_size_within_it():
    lines = [
        "study=mine",
        *TINY,
        "model=gru,lstm,mingru",
        "model.num_layers=1,2",
        "study.budget=parameters:5e3",
    ]
    frozen = plan(lines).spec
    for cell in CELLS:
        for layers in (1, 2):
            params = {"model": cell, "model.num_layers": layers}
            size = frozen.solved(params)
            assert size["parameters"] == adding(cell, size["hidden"], num_layers=layers) <= 5000
            assert adding(cell, size["hidden"] + 1, num_layers=layers) > 5000
            assert frozen.config(params)[0]["model"]["hidden_size"] == size["hidden"]


def test_a_match_is_the_nearest_size_at_each_hidden_size_of_the_reference():
    lines = ["study=mine", *TINY, "model=gru,lstm,mingru", "model.hidden_size=8,64"]
    frozen = plan([*lines, "study.budget=parameters:match(gru)"]).spec
    for hidden in (8, 64):
        target = adding("gru", hidden)
        for cell in CELLS:
            params = {"model": cell, "model.hidden_size": hidden}
            size = frozen.solved(params)
            found = size["hidden"]
            assert size["parameters"] == adding(cell, found)
            distances = [abs(adding(cell, h) - target) for h in (found - 1, found, found + 1)]
            assert distances[1] == min(distances)
        assert frozen.solved({"model": "gru", "model.hidden_size": hidden})["hidden"] == hidden


@pytest.mark.parametrize(("layers", "warned"), [(1, ["MinGRU"]), (2, [])])
def test_a_layer_that_must_be_many_times_as_wide_is_warned_of(layers, warned):
    lines = ["study=mine", *TINY, "model=gru,lstm,mingru", "model.hidden_size=8,64"]
    made = plan([*lines, f"model.num_layers={layers}", "study.budget=parameters:match(gru)"])
    wide = [note for note in made.notes if "So wide a layer" in note]
    assert [note.split(": ")[2].split()[0] for note in wide] == warned
    for note in wide:
        units = made.spec.solved({"model": "mingru", "model.hidden_size": 64})["hidden"]
        assert f"{units:,} units to have the parameters of 64." in note


def test_the_vocabulary_counts(tmp_path):
    (tmp_path / "text.txt").write_text("abcdefgh " * 400)
    lines = ["study=mine", "data=text", f"data.path={tmp_path}/text.txt", "model=gru,lstm"]
    frozen = plan([*lines, "study.budget=parameters:3000"]).spec
    size = frozen.solved({"model": "gru"})
    data = TextDataModule("text", level="char", path=str(tmp_path / "text.txt"))
    data.setup()
    core = partial(GRU, hidden_size=size["hidden"])
    model = LanguageModel(data.spec.vocabulary, core)
    assert size["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_the_solved_sizes_are_frozen_with_the_study(tmp_path):
    lines = ["study=mine", *TINY, "model=gru,lstm", "study.budget=parameters:900", f"paths.root={tmp_path}"]
    made = plan(lines)
    submit(made)
    again = planned(*lines)  # its helper refuses to solve anything
    assert again.spec.config({"model": "lstm"}) == made.spec.config({"model": "lstm"})


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["model.hidden_size=8,16", "study.budget=parameters:1e4"], "Leave one of them out"),
        (["model.hidden_size=8", "study.budget=parameters:1e4"], "Leave one of them out"),
        (["model.hidden_size=8", "study.budget=parameters:match(gruu)"], "there is no model=gruu"),
        (["study.budget=1e4"], "parameters:1e6 or parameters:match"),
        (
            ["data=stdlib", "task.net.embedding_size=${model.hidden_size}", "study.budget=parameters:1e4"],
            "follows",
        ),
    ],
)
def test_what_cannot_be_solved_is_refused(lines, expected):
    kept = TINY if not any(line.startswith("data=") for line in lines) else []
    with pytest.raises(RequestError, match=expected):
        planned("study=mine", *kept, *lines)


def test_a_budget_that_is_too_small_says_what_is_needed():
    with pytest.raises(RequestError, match=r"a budget of 10 parameters is too small: hidden size 1 needs 17"):
        plan(["study=mine", *TINY, "study.budget=parameters:10"])


def test_a_study_without_a_budget_solves_nothing():
    made = planned("study=mine", *TINY, "model.hidden_size=8,16")
    assert made.spec.solved({"model.hidden_size": 8}) is None
