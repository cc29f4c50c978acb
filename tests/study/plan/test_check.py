"""Every job is checked before the first one starts; a mistake is named with its job, its key and the fix."""

import pytest

from gatelab.run import RequestError
from gatelab.study.sweep import plan

from ..front_tools import TINY, planned

FIFTY = ",".join(str(size) for size in range(8, 57))  # 49 of them


def refused(*lines):
    with pytest.raises(RequestError) as error:
        planned("study=mine", *TINY, *lines)
    return str(error.value)


@pytest.mark.parametrize(
    ("swept", "expected"),
    [
        (
            f"model.hidden_size={FIFTY},abc",
            "job 49 (model.hidden_size=abc): model.hidden_size: 'abc' is not of type int.",
        ),
        (f"data.steps={FIFTY},1.5", "job 49 (data.steps=1.5): data.steps: 1.5 is not of type int."),
        (f"seed={FIFTY},x", "study.seeds"),
        ("model=gru,lstm,mingru,gruu", "job 3 (model=gruu): model=gruu: no such choice. Did you mean"),
        (
            "model.hiden_size=8,16",
            "job 0 (model.hiden_size=8): model.hiden_size: no such key. Did you mean 'model.hidden_size'?",
        ),
        ("optim.lr=1e-3,fast", "job 1 (optim.lr=fast): optim.lr: 'fast' is not of type float."),
        ("trainer.max_epochs=1,2.5", "trainer.max_epochs: 2.5 is no"),
    ],
)  # fmt: skip
@pytest.mark.quick(1, rest="ci")
def test_one_wrong_value_is_named_with_its_job(swept, expected):
    assert expected in refused(swept)


def test_every_mistake_is_told_once():
    text = refused("model.hidden_size=8,x", "optim.lr=1e-3,y", "data.steps=8,9")
    assert text.startswith("none of the 8 jobs was started:")
    assert text.count("is not of type int") == text.count("is not of type float") == 1


def test_a_key_that_one_of_the_models_lacks_is_named_with_it():
    text = refused("model=gru,lstm", "model.reset_after=true,false")
    assert "job 2 (model=lstm model.reset_after=True): model.reset_after: no such key" in text


def test_both_ends_of_an_interval_and_every_choice_are_checked_though_a_sampler_draws():
    text = refused("model.hidden_size=interval(8,16.5)", "task.loss=mse,msee")
    assert "a job with" in text
    assert "16.5 is not of type int" in text
    assert "'msee'" in text


@pytest.mark.parametrize("swept", ["trainer.devices=1,2", "data.num_workers=0,1"])
def test_jobs_that_would_be_the_same_run_are_refused(swept):
    text = refused(swept)
    assert "job 0" in text
    assert "are the same run" in text


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["model.hidden_size=8,16", "study.n_trials=1"], "the grid has 2 points"),
        (["model.hidden_size=8,16", "study.n_trials=3"], "the grid has 2 points"),
        (["study.strategy=grid", "optim.lr=interval(0.1,0.2)"], "optim.lr cannot be listed"),
        (["study.strategy=tpee", "optim.lr=interval(0.1,0.2)"], "Did you mean 'tpe'"),
        (["study.pruner=wilcoxon", "optim.lr=0.1,0.2"], "study.seeds"),
        (["study.pruner=median", "study.objectives=[val/mse,seconds]"], "nothing can be pruned"),
        (["study.objectives=[val/mze]"], "Did you mean 'val/mse'"),
        (["study.storage=sqlite:///x.db", "study.slots=2"], "SQLite"),
        (["seed=0,1", "study.seeds=[2]"], "study.seeds is given, too"),
        (["test=true"], "gatelab eval"),
        (["data.fold=0,1"], "study.folds=K"),
        (["paths.root=a,b"], "cannot be swept"),
        (["optim.lr=0.1,0.2", "optim.lr=0.3,0.4"], "swept twice"),
        (["name=a"], "a study decides this itself"),
        (["model.hidden_size=range(2,5,0)"], "model.hidden_size=range(2,5,0): "),
        (["data.steps=range(2,9,0)", "optim.lr=0.1,0.2"], "data.steps=range(2,9,0): "),
        (["model.hidden_size=range(1,1000000000000)"], "lists more than 10,000 values; interval(a, b)"),
        (["optim.lr=range(0.0,1000000.0,0.001)"], "lists more than 10,000 values; interval(a, b)"),
        (["optim.lr=tag(log,choice(0.1,0.2))"], "log is of an interval"),
        (["model.hidden_size=tag(log,range(1,3))"], "log is of an interval"),
        (["optim.lr=0.1,0.2", "optim.lr=0.3"], "is swept, and optim.lr=0.3 after it says one value"),
        (["model=gru,lstm", "model=rnn"], "is swept, and model=rnn after it says one value"),
        (["optim.lr=0.1,0.2", "++optim.lr=0.3"], "is swept, and ++optim.lr=0.3 after it says one value"),
        *(
            ([f"study.{key}=1000000000"], f"study.{key}=1000000000: ")
            for key in ("seeds", "folds", "workers", "slots", "n_trials")
        ),
    ],
)
@pytest.mark.quick(4, rest="ci")
def test_what_cannot_be_is_refused_before_anything_is_written(lines, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert expected in refused(*lines)
    assert not list(tmp_path.iterdir())


def test_a_value_may_be_swept_after_one_was_given():
    made = planned("study=mine", *TINY, "model.hidden_size=8", "model.hidden_size=4,16")
    assert [point["model.hidden_size"] for point in made.points] == [4, 16]


def test_swept_seeds_are_replicates():
    made = planned("study=mine", *TINY, "seed=3,4", "model.hidden_size=8,16")
    assert made.spec.settings.seeds == [3, 4]
    assert len(made.points) == 2


@pytest.mark.ci
def test_the_name_is_the_experiments_where_none_is_given():
    made = planned("experiment=etth1_gru", "model.hidden_size=8,16")
    assert made.path.name == "etth1_gru"
    assert made.notes == ["study=etth1_gru, by its configuration; give study=NAME for another one"]
    assert planned("data=adding", "model.hidden_size=8,16").path.name == "adding-gru"
    with pytest.raises(RequestError, match="study=NAME"):
        planned("model=gru,lstm")


def test_a_whole_interval_is_real_where_the_key_is():
    made = planned("study=mine", *TINY, "model.dropout=interval(0,1)", "model.hidden_size=interval(4,8)")
    assert [p.kind for p in made.spec.space.parameters] == ["float", "int"]


@pytest.mark.parametrize(
    ("swept", "expected"),
    [
        ("model.hidden_size=8,-1", "job 1 (model.hidden_size=-1): model.hidden_size: hidden_size must be"),
        ("model.num_layers=1,0", "job 1 (model.num_layers=0): model.num_layers: "),
        ("model.dropout=0.0,1.5", "job 1 (model.dropout=1.5): model.dropout: "),
        ("task.net.patch=1,0", "job 1 (task.net.patch=0): task.net.patch: patch must be"),
        ("optim.lr=1e-3,-1.0", "job 1 (optim.lr=-1.0): optim: "),
    ],
)
@pytest.mark.quick(1, rest="ci")
def test_what_a_constructor_refuses_is_known_without_training(swept, expected):
    with pytest.raises(RequestError) as error:
        plan(["study=mine", *TINY, swept])
    assert expected in str(error.value)


@pytest.mark.ci
def test_every_shipped_model_and_optimiser_passes():
    plan(["study=mine", *TINY, "model=glob(*)", "optim=glob(*)"])
    plan(["study=mine", "data=stdlib", "model=glob(*)", "task.net.tied=true,false"])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["data.batch_size=0,1"], "job 0 (data.batch_size=0): data.batch_size=0: give at least 1"),
        (["data.num_workers=-1", "optim.lr=1e-3,1e-2"], "data.num_workers=-1"),
        (
            ["data=etth1", "data.lookback=8,0"],
            "job 1 (data.lookback=0): data.lookback=0: give at least 1 step",
        ),
    ],
)
@pytest.mark.quick(1, rest="ci")
def test_what_the_datamodule_refuses_is_known_before_the_first_run(lines, expected):
    kept = TINY if not any(line.startswith("data=") for line in lines) else []
    with pytest.raises(RequestError) as error:
        planned("study=mine", *kept, *lines)
    assert expected in str(error.value)


def test_a_number_of_seeds_and_a_list_without_brackets_are_said():
    made = planned("study=mine", *TINY, "model.hidden_size=8,16", "study.seeds=3")
    assert made.spec.settings.seeds == [0, 1, 2]
    of_data = "synthetic: drawn from data_seed 0"
    assert made.notes == [of_data, "study.seeds=3: the seeds 0, 1, 2; a list names others, e.g. [3,4]"]
    made = planned("study=mine", *TINY, "model.hidden_size=8,16", "study.seeds=3,1")
    assert (made.spec.settings.seeds, made.notes) == ([3, 1], [of_data])
