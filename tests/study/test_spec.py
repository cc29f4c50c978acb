"""A point's configuration is the one that `gatelab train` would compose, frozen once and for all."""

import shutil

import pytest

from gatelab.run import CONF_DIR, RequestError
from gatelab.run.config import compose
from gatelab.run.record.identity import identify
from gatelab.study import spec
from gatelab.study.plan import grid, new_study
from gatelab.study.plan.request import read_request
from gatelab.study.spec import StudySpec

ETTH1 = ["experiment=etth1_gru", "model.num_layers=2"]
SWEPT = ["model=gru,lstm", "model.hidden_size=8,16", "data.target=[OT],[OT,HUFL]", "task.seed=3,4"]


def drafted(*lines, sources=(CONF_DIR,)):
    return new_study.draft(read_request(lines, sources), "mine", sources)


@pytest.fixture
def study(tmp_path):
    """A function that writes a study and reads it back."""

    def make(*lines, sources=(CONF_DIR,)):
        frozen = drafted(*lines, f"paths.root={tmp_path}", sources=sources)
        return new_study.write(frozen, grid.grid(frozen.space), tmp_path / "studies" / "mine", tmp_path)

    return make


def same_as_train(plain, identity, overrides):
    composed = compose([*overrides, "test=false"])
    expected = composed.resolved()
    expected["data"]["cache"] = plain["data"]["cache"]  # absolute
    assert identity == identify(composed)
    for key in expected:
        if key not in ("paths", "logger"):
            assert plain[key] == expected[key], key


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.quick(1, rest="ci")
def test_a_point_is_what_train_would_run(study, written, tmp_path):
    frozen = study(*ETTH1, *SWEPT) if written else drafted(*ETTH1, *SWEPT)
    for point in grid.grid(frozen.space)[::3]:
        texts = [f"{key}={value}" for key, value in point.items()]
        plain, identity = frozen.config(point)
        same_as_train(plain, identity, [*ETTH1, *texts, f"paths.root={tmp_path}"])


@pytest.mark.parametrize(
    "swept",
    [
        ["callbacks.progress={},null"],
        ["data.mirror=x,y"],
        ["+model.bias=true,false"],
        ["++model.bias=true,false"],
        ["task.net.embedding_size=${model.hidden_size},7"],
    ],
)
@pytest.mark.quick(1, rest="ci")
def test_a_value_that_is_added_merged_or_follows_another_is_what_train_would_run(swept, tmp_path):
    (key, _, values) = swept[0].partition("=")
    made = drafted("data=stdlib", f"paths.root={tmp_path}", *swept)
    for point, value in zip(grid.grid(made.space), values.split(","), strict=True):
        config, identity = made.config(point)
        same_as_train(config, identity, ["data=stdlib", f"paths.root={tmp_path}", f"{key}={value}"])


def test_seeds_share_a_hash_and_reach_every_key_that_follows_them(study):
    frozen = study("data=stdlib", "model.hidden_size=8,16", "study.seeds=[4,5]")
    runs = [frozen.config({"model.hidden_size": 8}, seed, fold) for seed, fold in frozen.replicates()]
    assert [plain["data"]["seed"] for plain, _ in runs] == [4, 5]
    assert [identity.seed for _, identity in runs] == [4, 5]
    assert len({identity.hash8 for _, identity in runs}) == 1


def test_folds_are_runs_of_a_point(study):
    frozen = study("experiment=etth1_gru", "study.folds=3", "study.seeds=[0,1]")
    assert frozen.replicates() == [(seed, fold) for seed in (0, 1) for fold in range(3)]
    found = [frozen.config({}, seed, fold) for seed, fold in frozen.replicates()]
    assert [(plain["data"]["folds"], plain["data"]["fold"]) for plain, _ in found] == [
        (3, f) for f in range(3)
    ] * 2
    assert len({(identity.hash8, identity.seed) for _, identity in found}) == 6


def test_what_a_caller_changes_stays_with_the_caller(study):
    frozen = study("data=stdlib", "model.hidden_size=8,16")
    plain, _ = frozen.config({"model.hidden_size": 8})
    plain["model"]["hidden_size"] = plain["data"]["window"] = -1
    again, _ = frozen.config({"model.hidden_size": 8})
    assert (again["model"]["hidden_size"], again["data"]["window"]) == (8, 100)


def test_nothing_is_tested_and_trackers_know_the_study(study):
    frozen = study("data=stdlib", "logger=wandb", "model.hidden_size=8,16")
    plain, _ = frozen.config({"model.hidden_size": 8})
    assert plain["test"] is False
    assert plain["logger"]["wandb"]["group"] == "mine"
    named = study_group("logger.wandb.group=other")
    assert named == "other"


def study_group(*lines):
    frozen = drafted("data=stdlib", "logger=wandb", "model.hidden_size=8,16", *lines)
    return frozen.config({"model.hidden_size": 8})[0]["logger"]["wandb"]["group"]


def test_places_are_absolute(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATELAB_CACHE", "cache")
    paths = drafted("data=stdlib", "paths.root=here").config({})[0]["paths"]
    assert paths["runs"] == str(tmp_path / "here/runs")
    assert paths["cache"] == str(tmp_path / "cache")


def test_files_that_are_edited_later_change_nothing(study, tmp_path):
    conf = tmp_path / "conf"
    shutil.copytree(CONF_DIR, conf)
    frozen = study("data=stdlib", "model=gru,lstm", "optim.lr=1e-3,1e-2", sources=(conf,))
    before = frozen.config({"model": "gru", "optim.lr": 1e-3})
    rnn_before = drafted("data=stdlib", "model=rnn", f"paths.root={tmp_path}", sources=(conf,)).config({})
    for name in ("gru", "rnn"):
        file = conf / "model" / f"{name}.yaml"
        file.write_text(file.read_text().replace("hidden_size: 128", "hidden_size: 1"))
    (conf / "optim" / "adam.yaml").unlink()
    later = StudySpec.load(tmp_path / "studies" / "mine")
    assert later.config({"model": "gru", "optim.lr": 1e-3}) == before
    # a choice that is new to the study comes from the study's own copies, too
    assert later.unsized({"model": "rnn"})[1] == rnn_before[1]


def test_of_an_own_folder_only_the_groups_that_hydra_could_read_are_copied(study, tmp_path):
    own = tmp_path / "own"
    for name, text in {
        "experiment/mine.yaml": "# @package _global_\ndefaults:\n  - /sizes@model: small\n",
        "sizes/small.yaml": "hidden_size: 8\n",
        "elsewhere/secret.yaml": "a: 1\n",
        "notes.yaml": "b: 2\n",
    }.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text)
    made = study("experiment=mine", "data=stdlib", "optim.lr=1e-3,1e-2", sources=(CONF_DIR, own))
    assert made.config({"optim.lr": 1e-3})[0]["model"]["hidden_size"] == 8
    kept = tmp_path / "studies" / "mine" / "conf"
    assert {str(p.relative_to(kept / "1")) for p in (kept / "1").rglob("*.yaml")} == {
        "experiment/mine.yaml",
        "sizes/small.yaml",
    }
    assert {p.name for p in (kept / "0").iterdir()} >= {"train.yaml", "model", "experiment"}
    # and these copies are enough to compose anew
    assert drafted("experiment=mine", "data=stdlib", sources=spec.kept_sources(kept)).config({})


def test_a_folder_of_thousands_of_files_is_refused(study, tmp_path):
    (tmp_path / "own" / "model").mkdir(parents=True)
    for number in range(spec.MOST_FILES + 1):
        (tmp_path / "own" / "model" / f"{number}.yaml").touch()
    with pytest.raises(RequestError, match="more than 1000 YAML files"):
        study("data=stdlib", "optim.lr=1e-3,1e-2", sources=(CONF_DIR, tmp_path / "own"))
    assert not (tmp_path / "studies" / "mine").exists()


def test_a_space_function_is_frozen_too(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine_space.py"
    file.write_text("def space(suggest):\n    suggest.suggest_int('model.hidden_size', 8, 9)\n")
    study("data=stdlib", "study.space=mine_space.space", "study.strategy=random")
    file.write_text("raise SystemExit\n")
    later = StudySpec.load(tmp_path / "studies" / "mine", code=True)
    (point, *_) = grid.representatives(later)
    assert set(point) == {"model.hidden_size"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"model.hiden_size": 8}, "Did you mean 'model.hidden_size'"),
        ({"model": "grru"}, "Did you mean 'gru'"),
        ({"data.window": "${nosuch}"}, "nosuch"),
    ],
)
def test_a_point_that_cannot_be_is_named(params, expected):
    with pytest.raises(RequestError, match=expected):
        drafted("data=stdlib").config(params)


def test_a_choice_that_is_not_there_is_composed_once_and_refused_each_time(monkeypatch):
    composed = []

    def counted(overrides, **places):
        composed.append(overrides)
        return compose(overrides, **places)

    monkeypatch.setattr(spec, "compose", counted)
    kept = spec.Templates(["experiment=quickstart"], (CONF_DIR,), "s")
    for _ in range(3):
        with pytest.raises(RequestError, match=r"model=grru: no such choice\. Did you mean 'gru'"):
            kept.get({"model": "grru"})
    assert len(composed) == 1
