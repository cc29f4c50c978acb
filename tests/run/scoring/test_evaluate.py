"""How a finished run is scored where its files lie elsewhere now, and with which threads."""

import pytest
import torch

from gatelab.run import RequestError
from gatelab.run.scoring.evaluate import evaluate
from gatelab.run.train import train

SMALL = [
    "data=pairs",
    "model.hidden_size=8",
    "trainer.max_epochs=1",
    "callbacks=none",
    "test=false",
    "threads=1",
]


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A run of two files of pairs, and the folder that they were moved to."""
    root = tmp_path_factory.mktemp("pairs")
    for name, word in (("a", "yes"), ("b", "ja")):
        (root / f"{name}.txt").write_text(f"{word} and {word}\n{word}\n" * 20)
    request = [*SMALL, f"data.source={root}/a.txt", f"data.target={root}/b.txt", f"paths.root={root}"]
    run = train(request)["run_dir"]
    (there := root / "there").mkdir()
    for name in ("a.txt", "b.txt"):
        (root / name).rename(there / name)
    return run, there


def test_files_that_were_moved(moved):
    run, there = moved
    with pytest.raises(RequestError, match=r"a\.txt"):
        evaluate(run, "valid")
    report = evaluate(run, "valid", overrides=[f"data.source={there}/a.txt", f"data.target={there}/b.txt"])
    assert report["metrics"]["sentences"] == 2


def test_files_that_changed_places(moved):
    run, there = moved
    with pytest.raises(RequestError, match=r"data\.source=.*the run's file is named a\.txt"):
        evaluate(run, "valid", overrides=[f"data.source={there}/b.txt", f"data.target={there}/a.txt"])


def test_a_setting_that_names_no_file(moved):
    run, _ = moved
    with pytest.raises(RequestError, match=r"only .*data\.source, data\.target can be given"):
        evaluate(run, "valid", overrides=["data.valid_source=a.txt"])


@pytest.mark.parametrize(("asked", "threads"), [(None, 1), ("2", 2)])
def test_threads_are_the_runs_own_unless_the_user_says_otherwise(asked, threads, moved, monkeypatch):
    run, there = moved
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)  # as PyTorch does where it reads that variable
        evaluate(run, "valid", overrides=[f"data.source={there}/a.txt", f"data.target={there}/b.txt"])
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
