"""The Python API does what the command line does, from any thread, and records the command that does the same."""

import os
import signal
import threading
from pathlib import Path

import pandas as pd
import pytest

import gatelab
import gatelab.api
from gatelab.data.stop_signals import STOP
from gatelab.run.record.directory import RunDirectory

SMALL = (
    *("data=lorenz", "data.lookback=8", "data.horizon=4", "data.batch_size=512", "model.hidden_size=4"),
    *("trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.max_epochs=1", "test=false"),
    *("callbacks.throughput=null", "callbacks.memory=null"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("api"))
        yield folder


@pytest.fixture(scope="module")
def run(place):
    return gatelab.train(*SMALL, "note=its first")


def test_a_run_gives_its_model_data_scores_and_log(run):
    assert run.state == "done"
    assert run.results["valid"] == run.evaluate("valid")["metrics"]
    assert run.metrics["val/mse"].dropna().iloc[-1] == run.result["best"]
    assert run.metrics["step"].is_monotonic_increasing
    assert not run.model.training
    assert run.model.core.hidden_size == 4
    assert run.data.spec.horizon == 4
    assert run.record["attempts"][0]["command"] == f"gatelab train {' '.join(SMALL)} 'note=its first'"


def test_the_same_call_is_the_same_run_and_force_keeps_the_earlier(run):
    assert gatelab.train(*SMALL).path == run.path
    assert len(gatelab.runs()) == 1
    before = RunDirectory(run.path).read()["attempts"]
    gatelab.train(*SMALL, force=True)
    assert RunDirectory(f"{run.path}.old-1").read()["attempts"] == before
    found = gatelab.load(run.path.name)
    assert (found.path, found.record["config"]["note"]) == (run.path, None)


def test_a_run_may_be_trained_in_any_thread(place):
    found = []
    thread = threading.Thread(target=lambda: found.append(gatelab.train(*SMALL, "seed=5")))
    thread.start()
    thread.join()
    assert [run.state for run in found] == ["done"]


def test_predictions_are_the_same_from_a_table_and_from_its_file(run, place):
    table = pd.DataFrame({name: range(20) for name in "xyz"}, dtype=float)
    table.to_csv(place / "new.csv", index=False)
    pd.testing.assert_frame_equal(run.predict(table), run.predict(place / "new.csv"))
    with pytest.raises(gatelab.RequestError, match="generates no text"):
        run.generate("x")


@pytest.mark.ci
def test_a_sweep_gives_its_leaderboard_and_its_best_run(place):
    study = gatelab.sweep(*SMALL[:4], *SMALL[5:], "study=size", "model.hidden_size=3,5", "study.seeds=2")
    board = study.leaderboard()
    assert list(board["rank"]) == [1, 2]
    assert sorted(board["model.hidden_size"]) == [3, 5]
    assert board["val/mse"].is_monotonic_increasing
    best = study.best()
    assert best.record["config"]["model"]["hidden_size"] == board["model.hidden_size"][0]
    assert Path(board["runs"][0].split()[0]).name == best.path.name
    assert gatelab.Study("size").path == study.path
    rows = gatelab.runs(where="hidden_size=5", sort="-value")
    assert len(rows) == 2
    assert rows["value"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: gatelab.train("model.hiden_size=3"), "Did you mean 'model.hidden_size'"),
        (lambda: gatelab.train(list(SMALL)), "with a star"),
        (lambda: gatelab.train("data=adding seed=1"), "several overrides in one"),
        (lambda: gatelab.train(*SMALL, "data.lookback=0"), "data.lookback"),
        (lambda: gatelab.train(config_dirs=["nowhere"]), "nowhere: no such folder"),
        (lambda: gatelab.sweep(*SMALL, "study=x", "model._target_=__main__.Cell", "seed=1,2"), "beside it"),
        (lambda: gatelab.load("zzz"), "no such run"),
        (lambda: gatelab.Study("zzz"), "no study 'zzz'"),
        (lambda: gatelab.runs("zzz"), "no such run"),
        (lambda: gatelab.runs(where="zzz=1"), "no run has such a key"),
    ],
)
def test_what_is_wrong_is_a_request_error(call, said, run):
    with pytest.raises(gatelab.RequestError, match=said):
        call()


def test_a_second_training_at_once_is_refused(run):
    """Both would draw from the process's random numbers."""
    with gatelab.api.TRAINING, pytest.raises(gatelab.RequestError, match="another run trains"):
        gatelab.train(*SMALL, "seed=7")
    assert gatelab.train(*SMALL).path == run.path


def test_a_run_and_a_study_are_paths_and_stand_where_they_are_when_the_folder_changes(
    run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert (gatelab.load(run).path, run.state) == (run.path, "done")
    assert len(gatelab.runs(run)) == 1
    assert not run.metrics.empty


@pytest.mark.usefixtures("no_alarm")
@pytest.mark.parametrize("number", STOP)
@pytest.mark.parametrize(("call", "module"), [("train", "training"), ("sweep", "sweeping")])
def test_the_notebooks_stop_button_is_one_error_at_any_moment(call, module, number, monkeypatch):
    """Never a SystemExit, which ends a script, and is what Lightning makes of a KeyboardInterrupt."""
    before = [signal.getsignal(other) for other in STOP]
    monkeypatch.setattr(getattr(gatelab.api, module), call, lambda *_, **__: os.kill(os.getpid(), number))
    with pytest.raises(gatelab.Interrupted, match="the same command continues it"):
        getattr(gatelab, call)(*SMALL)
    assert [signal.getsignal(other) for other in STOP] == before
