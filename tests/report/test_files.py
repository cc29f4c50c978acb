"""The best configuration as an experiment: composing it gives exactly the best trial's configuration."""

import json

import pytest
import yaml

from gatelab.report.files import command, write_best
from gatelab.run.config import check, compose
from gatelab.run.record.identity import identify
from gatelab.study.analysis.read import read_study
from gatelab.study.spec import StudySpec


@pytest.fixture
def best_of(make_study, entries):
    """Write the best experiment of a study with one finished trial; return (file, state, frozen)."""
    choice, _ = entries

    def made(overrides, params, space=(), **settings):
        listed = [choice(k, v, group=k in ("model", "data", "optim")) for k, v in params.items()]
        known = {entry["key"] for entry in space}
        folder = make_study(
            "s",
            [*space, *(entry for entry in listed if entry["key"] not in known)],
            [{"params": params, "values": [1.5] * max(1, len(settings.get("seeds", [])))}],
            overrides=overrides,
            **settings,
        )
        state = read_study(folder)
        files = write_best(state)
        return files["best"], state, StudySpec.load(folder)

    return made


CASES = {
    "an experiment and a group": (["experiment=etth1_gru"], {"model": "lstm", "model.hidden_size": 48}),
    "data of another task": (["data=ettm1", "data.horizon=24"], {"task.net.patch": 4}),
    "an optimiser and a schedule": (["optim=adamw", "schedule=onecycle"], {"optim.lr": 0.00123456789012}),
    "a debug file that sets keys everywhere": (["debug=overfit"], {"model": "mingru"}),
    "several loggers": (["logger=[wandb,tensorboard]", "logger.wandb.project=x"], {"model.num_layers": 2}),
    "a key that is added": (["+trainer.benchmark=false"], {"model.dropout": 0.25}),
    "a key that is taken away": (["~trainer.deterministic"], {"model.num_layers": 2}),
    "a callback that is taken away": (["~callbacks.progress"], {"model.num_layers": 2}),
    "a seed of its own": (["seed=7"], {"model.num_layers": 2}),
    "an integer where the file has a float": (["task.net.dropout=0"], {"model.num_layers": 2}),
    "values that look like something else": (["data.max_characters=null"], {"task.label_smoothing": 1e-05}),
}


def test_a_winning_value_that_is_the_default_is_named_too(best_of):
    default = compose(["experiment=etth1_gru"]).config.model.hidden_size
    file, _, _ = best_of(["experiment=etth1_gru"], {"model": "gru", "model.hidden_size": default})
    content = yaml.safe_load(file.read_text())
    assert content["model"]["hidden_size"] == default
    assert {"override /model": "gru"} in content["defaults"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.quick(4)
def test_the_experiment_is_the_trial_and_short(best_of, case):
    overrides, params = CASES[case]
    file, state, frozen = best_of(overrides, params)
    composed = compose(["experiment=best"], config_dirs=[state.directory])
    _, wanted = frozen.config(params)
    assert identify(composed) == wanted
    check(composed)
    text = file.read_text()
    assert text.startswith("# @package _global_\n# Best of the 1 finished trials of the study s: trial 0, ")
    assert "gatelab train --config-dir STUDY_FOLDER experiment=best" in text
    assert not {"paths", "test", "logger"} & set(yaml.safe_load(text))
    if case != "a key that is taken away":  # everything has to be written out
        assert len(text.splitlines()) <= 30


def test_the_first_seed_of_the_study_is_named(best_of):
    file, state, frozen = best_of(["experiment=etth1_gru"], {"model.hidden_size": 16}, seeds=[4, 5])
    identity = identify(compose(["experiment=best"], config_dirs=[state.directory]))
    assert identity == frozen.config({"model.hidden_size": 16}, seed=4)[1]
    assert "over seeds 4, 5" in file.read_text()


def test_the_chosen_configuration_has_no_fold(best_of):
    file, state, _ = best_of(["experiment=etth1_gru"], {"model.hidden_size": 16}, folds=3)
    config = compose(["experiment=best"], config_dirs=[state.directory]).config
    assert config.data.fold is None
    assert "trains on the whole training split" in file.read_text()


def test_a_solved_size_is_written_out(make_study, entries):
    choice, _ = entries
    params = {"model": "rnn"}
    trial = {"params": params, "values": [1.5]}
    settings = {"overrides": ["data=embedded_series"], "budget": "parameters:20000"}
    folder = make_study("s", [choice("model", "rnn", "gru", group=True)], [trial], **settings)
    frozen = StudySpec.load(folder)
    plain, wanted = frozen.config(params)
    record = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**record, "sizes": frozen.sizes}))
    write_best(read_study(folder))
    composed = compose(["experiment=best"], config_dirs=[folder])
    assert composed.config.model.hidden_size == plain["model"]["hidden_size"] > 1
    assert identify(composed) == wanted


def test_files_of_a_folder_of_ones_own_are_written_out(best_of, tmp_path):
    mine = tmp_path / "mine"
    (mine / "data").mkdir(parents=True)
    (mine / "experiment").mkdir()
    (mine / "data" / "texts.yaml").write_text("defaults: [_text, _self_]\ncorpus: stdlib\nwindow: 33\n")
    heads = "# @package _global_\ndefaults:\n  - override /data: texts\n  - override /model: lstm\n"
    (mine / "experiment" / "ex.yaml").write_text(f"{heads}model:\n  hidden_size: 77\n")
    params = {"model.num_layers": 2}
    _, state, frozen = best_of(["experiment=ex"], params, config_dirs=[mine])
    (mine / "data" / "texts.yaml").unlink()
    composed = compose(["experiment=best"], config_dirs=[state.directory])
    assert identify(composed) == frozen.config(params)[1]
    assert composed.config.data.window == 33


def test_the_command_works_from_anywhere(best_of, monkeypatch, tmp_path):
    _, state, _ = best_of([], {"model.num_layers": 2})
    monkeypatch.chdir(tmp_path)
    assert command(state) == "gatelab train --config-dir studies/s experiment=best"
    monkeypatch.chdir("/")
    root = str(tmp_path).lstrip("/")
    assert command(state) == f"gatelab train --config-dir {root}/studies/s experiment=best paths.root={root}"


def test_each_trial_of_the_front_is_an_experiment(make_study, entries):
    choice, _ = entries
    points = [(8, 2.0, 100.0), (16, 1.0, 300.0), (32, 1.5, 900.0)]
    trials = [
        {"params": {"model.hidden_size": h}, "values": [a], "objectives": [a, b], "parameters": int(b)}
        for h, a, b in points
    ]
    asked = ["val/loss:minimize", "parameters:minimize"]
    folder = make_study("s", [choice("model.hidden_size", 8, 16, 32)], trials, objectives=asked)
    files = write_best(read_study(folder))
    assert sorted(files) == ["front_0000", "front_0001"]
    assert compose(["experiment=front_0001"], config_dirs=[folder]).config.model.hidden_size == 16


def test_nothing_is_written_before_a_trial_is_done(make_study):
    folder = make_study("s", [], [])
    assert write_best(read_study(folder)) == {}
    assert not (folder / "experiment").exists()
