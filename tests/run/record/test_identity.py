"""Identity: what changes a result changes the hash, what does not, does not; the seed stays outside."""

import pytest

from gatelab.run.config import compose
from gatelab.run.record.identity import hash_of, identify


def identity(*overrides):
    return identify(compose(["experiment=quickstart", *overrides]))


@pytest.mark.parametrize(
    "override",
    [
        "model.hidden_size=257",
        "optim.lr=1e-3",
        "data.window=65",
        "trainer.max_epochs=9",
        "matmul_precision=medium",
        "compile=default",
    ],
)
def test_what_changes_results_changes_the_hash(override):
    assert identity(override).hash8 != identity().hash8


@pytest.mark.parametrize(
    "override",
    [
        "paths.root=/elsewhere",
        "logger=wandb",
        "trainer.devices=4",
        "data.num_workers=2",
        "data.mirror=/m",
        "threads=1",
    ],
)
def test_paths_loggers_and_hardware_do_not(override):
    assert identity(override) == identity()


def test_every_fold_is_another_run_and_none_is_the_run_of_before_these_keys():
    folds = [identity("data.folds=3", f"data.fold={fold}").hash8 for fold in range(3)]
    assert len({*folds, identity("data.folds=4", "data.fold=0").hash8, identity().hash8}) == 5
    config = compose(["experiment=quickstart"]).resolved()
    before = {**config, "data": {k: v for k, v in config["data"].items() if k not in ("folds", "fold")}}
    del before["matmul_precision"], before["compile"]
    assert hash_of(before) == hash_of(config)
    assert len(config["data"]) - len(before["data"]) == 2


def test_a_forecaster_without_a_cycle_is_the_run_of_before_there_were_cycles():
    config = compose(["data=embedded_series"]).resolved()
    before = {key: value for key, value in config["task"]["net"].items() if key != "cycle"}
    assert hash_of({**config, "task": {**config["task"], "net": before}}) == hash_of(config)
    assert "cycle" in config["task"]["net"], "the configuration itself stays whole"
    with_cycle = compose(["data=embedded_series", "task.net.cycle=24"]).resolved()
    assert hash_of(with_cycle) != hash_of(config)


def test_seeds_share_their_hash():
    first, second = identity("seed=1"), identity("seed=2")
    assert first.hash8 == second.hash8
    assert first.directory("runs") != second.directory("runs")


def test_the_directory_is_name_hash_and_seed():
    found = identity("seed=3")
    assert str(found.directory("runs")) == f"runs/quickstart/{found.hash8}-s3"


def test_every_spelling_of_a_path_is_the_same_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    spellings = ["t.txt", "./t.txt", "inner/../t.txt", str(tmp_path / "t.txt")]
    hashes = {identify(compose(["data=text", f"data.path={path}"])).hash8 for path in spellings}
    assert len(hashes) == 1
    assert identify(compose(["data=text", "data.path=inner/t.txt"])).hash8 not in hashes


def test_every_spelling_of_two_files_is_the_same_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spellings = ["t.txt", "./t.txt", str(tmp_path / "t.txt")]
    hashes = {
        identify(compose(["data=pairs", f"data.source={path}", f"data.target={path}"])).hash8
        for path in spellings
    }
    assert len(hashes) == 1
