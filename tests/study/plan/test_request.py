"""The command line of a sweep is sorted into settings, launcher, fixed overrides and swept ones."""

import pytest

from gatelab.run import CONF_DIR, RequestError
from gatelab.study.plan.request import read_request, read_search, root_of

SOURCES = (CONF_DIR,)


def read(*lines, sources=SOURCES):
    return read_request(lines, sources)


def refused(*lines, sources=SOURCES):
    with pytest.raises(RequestError) as error:
        read(*lines, sources=sources)
    return str(error.value)


def swept(request):
    return [str(override.input_line) for override in request.swept]


def test_everything_finds_its_place():
    request = read(
        "experiment=ptb_gru",
        "study=size",
        "study.seeds=[0,1]",
        "study.sampler_options.n_startup_trials=5",
        "model.hidden_size=64,128",
        "optim.lr=tag(log,interval(1e-4,1e-2))",
        "launcher=ray",
        "launcher.ray.init.address=auto",
    )
    assert request.given == {"name": "size", "seeds": [0, 1], "sampler_options": {"n_startup_trials": 5}}
    assert (request.launcher, request.options) == ("ray", ("launcher.ray.init.address=auto",))
    assert request.fixed == ("experiment=ptb_gru",)
    assert swept(request) == ["model.hidden_size=64,128", "optim.lr=tag(log,interval(1e-4,1e-2))"]


def test_a_name_is_text_whatever_it_looks_like():
    assert read("study=007").given["name"] == "007"
    assert read("study.name=mine").given["name"] == "mine"


def test_a_budget_needs_no_quotes():
    assert read("study.budget=parameters:match(gru)").given["budget"] == "parameters:match(gru)"


def test_a_committed_space_gives_way_to_the_command_line():
    request = read("search=hidden_size", "model.hidden_size=8,16", "study.strategy=random")
    assert swept(request) == ["model.hidden_size=8,16"]
    assert request.given["strategy"] == "random"
    assert request.given["seeds"] == [0, 1, 2]
    fixed = read("search=hidden_size_lr", "model.hidden_size=64")
    assert fixed.fixed == ("model.hidden_size=64",)
    assert len(fixed.swept) == 1


@pytest.mark.parametrize("file", sorted((CONF_DIR / "search").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_committed_space_can_be_read(file):
    params, settings = read_search(file.stem, SOURCES)
    assert all(override.is_sweep_override() for override in params)
    assert settings


def test_the_first_folder_with_a_committed_space_counts(tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "mine.yaml").write_text(
        "params:\n  model.hidden_size: 3,4\n  model.num_layers: 2\n"
    )
    request = read("search=mine", sources=(CONF_DIR, tmp_path))
    assert (request.fixed, swept(request)) == (("model.num_layers=2",), ["model.hidden_size=3,4"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("parms: {a: '1,2'}", "Did you mean 'params'"),
        ("study: {sead: 1}", "Did you mean 'seed'"),
        ("params: {a: [1, 2]}", "as on a command line"),
        ("- a", "give `params:` and `study:`"),
    ],
)
def test_a_wrong_committed_space_is_named(tmp_path, content, expected):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "mine.yaml").write_text(content)
    text = refused("search=mine", sources=(CONF_DIR, tmp_path))
    assert expected in text
    assert "search/mine.yaml" in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("search=hiden_size", "Did you mean 'hidden_size'"),
        ("study.slots=1,2", "study.slots cannot be swept"),
        ("launcher=local,ray", "launcher cannot be swept"),
        ("~study.slots", "cannot be taken away"),
        ("study.slots.x=1", "holds no further keys"),
        ("hydra.sweep.dir=x", "paths.root=DIR moves everything"),
        ("model.hidden_size=interval(1,2", "cannot read the override"),
    ],
)
def test_a_wrong_override_is_named(line, expected):
    assert expected in refused(line)


def test_the_root_is_found_without_composing(tmp_path, monkeypatch):
    monkeypatch.delenv("GATELAB_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert root_of([], SOURCES) == tmp_path
    assert root_of([f"paths.root={tmp_path}/there", "no.such.key=1"], SOURCES) == tmp_path / "there"
    monkeypatch.setenv("GATELAB_ROOT", str(tmp_path / "other"))
    assert root_of([], SOURCES) == tmp_path / "other"
