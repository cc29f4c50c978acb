"""The space of a study follows Hydra's override grammar, and what a study cannot use is refused with the fix."""

import optuna
import pytest

from gatelab.run import RequestError
from gatelab.study.plan.request import parse
from gatelab.study.space import (
    Parameter,
    Space,
    function_file,
    load_function,
    parameter,
)

MODELS = ["gru", "lstm", "mingru", "nn_gru"]


def read(line, *, group=False, seed=0):
    (override,) = parse([line])
    return parameter(override, group=group, options=MODELS, seed=seed)


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ("a.b=1,2", (1, 2)),
        ("a.b=3,x,2.5,true,null", (3, "x", 2.5, True, None)),
        ("a.b=choice(1,x)", (1, "x")),
        ("a.b='x y',z", ("x y", "z")),
        ("a.b=[1,2],[3]", ([1, 2], [3])),
        ("a.b=range(1,4)", (1, 2, 3)),
        ("a.b=range(0.1,0.4,0.1)", (0.1, 0.2, 0.3)),
        ("a.b=sort(3,1,2)", (1, 2, 3)),
        ("a.b=sort(1,3,2,reverse=true)", (3, 2, 1)),
    ],
)
def test_what_can_be_listed_is_a_choice_with_its_types(line, choices):
    found = read(line)
    assert (found.key, found.kind, found.choices) == ("a.b", "choice", choices)
    assert [type(c) for c in found.choices] == [type(c) for c in choices]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a=interval(1,8)", ("int", 1, 8, False)),
        ("a=interval(1.0,8)", ("float", 1.0, 8, False)),
        ("a=float(interval(1,8))", ("float", 1, 8, False)),
        ("a=int(interval(1.0,8.0))", ("int", 1, 8, False)),
        ("a=tag(log,interval(1e-4,1e-2))", ("float", 1e-4, 1e-2, True)),
        ("a=tag(log, interval(32, 512))", ("int", 32, 512, True)),
    ],
)
def test_an_interval_is_of_whole_numbers_if_it_is_written_so(line, expected):
    found = read(line)
    assert (found.kind, found.low, found.high, found.log) == expected


def test_glob_picks_the_files_of_a_group():
    assert read("model=glob(*gru)", group=True).choices == ("gru", "mingru", "nn_gru")
    assert read("model=glob(*,exclude=*gru)", group=True).choices == ("lstm",)


def test_shuffling_is_the_same_each_time_and_follows_the_seed():
    line = "a=shuffle(1,2,3,4,5,6,7,8)"
    assert read(line).choices == read(line).choices
    assert read(line).choices != read(line, seed=1).choices
    assert sorted(read(line).choices) == list(range(1, 9))


@pytest.mark.parametrize(
    ("line", "group", "expected"),
    [
        ("a=1,1", False, "there twice"),
        ("a=1,true", False, "there twice"),
        ("a=interval(2,2)", False, "empty"),
        ("a=tag(log,interval(0,2))", False, "above 0"),
        ("a=tag(lin,interval(0,2))", False, "no such tag: lin"),
        ("a=glob(x*)", False, "'a' is not a group"),
        ("model=glob(x*)", True, "no choice of model matches"),
        ("model=interval(1,2)", True, "a group of files"),
        ("a=range(3,3)", False, "no value"),
    ],
)
def test_what_a_study_cannot_use_is_refused(line, group, expected):
    with pytest.raises(RequestError) as error:
        read(line, group=group)
    assert expected in str(error.value)
    assert line in str(error.value)


def test_prefixes_are_kept_apart_from_the_key():
    assert (read("+a.b=1,2").key, read("+a.b=1,2").prefix) == ("a.b", "+")
    assert read("++a.b=1,2").prefix == "++"


def test_lists_survive_optuna():
    item = read("a=[1,2],[3],x")
    assert item.values() == ["[1, 2]", "[3]", "x"]
    assert [item.decode(value) for value in item.values()] == [[1, 2], [3], "x"]


def test_plain_data_gives_the_same_parameter_back():
    for line in ("a=1,x,[2]", "+a=interval(1,8)", "a=tag(log,interval(0.1,8))"):
        assert Parameter.from_dict(read(line).to_dict()) == read(line)


def test_for_a_sampler_a_range_of_whole_numbers_is_no_set_of_names():
    space = Space((read("a=range(8,65,8)"), read("b=range(0.1,0.3,0.1)"), read("c=8,16"))).ranged()
    kinds = [(p.kind, p.low, p.high, p.step) for p in space.parameters]
    assert kinds == [("int", 8, 64, 8), ("choice", None, None, None), ("choice", None, None, None)]


def ask(space, count=30):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.propose(study.ask()) for _ in range(count)]


def test_proposals_stay_within_the_space():
    space = Space(
        (read("a=range(8,65,8)"), read("b=tag(log,interval(1e-4,1e-2))"), read("c=x,null"))
    ).ranged()
    for point in ask(space):
        assert point["a"] in range(8, 65, 8)
        assert 1e-4 <= point["b"] <= 1e-2
        assert point["c"] in ("x", None)


def test_a_space_function_suggests_what_depends_on_other_values(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def space(suggest):\n"
        "    model = suggest.suggest_categorical('model', ['gru', 'lstm'])\n"
        "    assert suggest.params['model'] == model\n"
        "    suggest.suggest_int('model.hidden_size', 8, 64, step=8)\n"
        "    suggest.suggest_float('optim.lr', 1e-4, 1e-2, log=True)\n"
        "    if model == 'gru':\n"
        "        assert suggest.suggest_categorical('data.target', [['a'], ['a', 'b']]) in (['a'], ['a', 'b'])\n"
    )
    file = function_file("mine.space", tmp_path)
    points = ask(Space((), load_function(file, "mine.space")))
    assert {frozenset(p) for p in points if p["model"] == "lstm"} == {
        frozenset({"model", "model.hidden_size", "optim.lr"})
    }
    assert {p["data.target"] for p in points if p["model"] == "gru"} == {'["a"]', '["a", "b"]'}


@pytest.mark.parametrize(
    ("dotted", "expected"),
    [
        ("space", "MODULE.FUNCTION"),
        ("nosuch.space", "no module 'nosuch'"),
        ("mine.other", "no function 'other'"),
    ],
)
def test_a_missing_space_function_is_named(tmp_path, dotted, expected):
    (tmp_path / "mine.py").write_text("def space(suggest): ...\n")
    with pytest.raises(RequestError, match=expected):
        load_function(function_file(dotted, tmp_path), dotted)


def test_a_space_function_that_cannot_be_read_alone_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text("from . import neighbour\n")
    with pytest.raises(RequestError, match=r"mine\.py: ImportError"):
        load_function(function_file("mine.space", tmp_path), "mine.space")
