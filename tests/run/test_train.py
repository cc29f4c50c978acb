"""A whole run: its record, the same request twice, half-finished runs, refusals before training."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from gatelab.run import RequestError, RunFailed
from gatelab.run.config import check, compose
from gatelab.run.record.directory import RunDirectory, read_metrics
from gatelab.run.record.identity import identify
from gatelab.run.record.listing import list_runs
from gatelab.run.scoring.evaluate import evaluate, generate
from gatelab.run.train import train, train_frozen

SMALL_SERIES = [
    "experiment=quickstart_series",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=5",
    "model.hidden_size=8",
    "callbacks.progress=null",
    "data.lookback=24",
]
SMALL_TEXT = [
    "experiment=quickstart",
    "trainer.max_steps=12",
    "trainer.val_check_interval=6",
    "trainer.log_every_n_steps=1",
    "model.hidden_size=8",
    "data.max_characters=40000",
    "callbacks.progress=null",
]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    root = tmp_path_factory.mktemp("series")
    return root, train([*SMALL_SERIES, f"paths.root={root}"])


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    return root, train([*SMALL_TEXT, f"paths.root={root}"])


def test_a_run_leaves_the_record_that_the_contract_names(series):
    root, result = series
    run = root / "runs/quickstart_series" / os.path.basename(result["run_dir"])
    names = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert names == {
        "run.json",
        "result.json",
        "metrics.csv",
        "trace.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    record = json.loads((run / "run.json").read_text())
    assert record["config"]["model"]["hidden_size"] == 8
    assert all(len(sha256) == 64 for sha256 in record["data"].values())
    told = record["attempts"][0]["environment"]["versions"]["torch"]
    assert told.partition("+")[0] == torch.__version__.partition("+")[0]


def test_checkpoints_are_plain_data(series, text):
    for _, result in (series, text):
        for name in ("best", "last"):
            loaded = torch.load(f"{result['run_dir']}/checkpoints/{name}.ckpt", weights_only=True)
            assert loaded["hyper_parameters"]["config"]["model"]["_target_"] == "gatelab.core.GRU"


def test_every_figure_stands_beside_baselines_over_the_same_count(series, text):
    for (_, result), unit in ((series, "windows"), (text, "tokens")):
        for report in result["splits"].values():
            assert report["baselines"]
            counts = {scores[unit] for scores in report["baselines"].values()}
            assert counts == {report["metrics"][unit]}


def test_the_same_request_twice_is_one_run(series):
    root, result = series
    again = train([*SMALL_SERIES, f"paths.root={root}"])
    assert again["already"]
    assert {**again, "already": False} == result
    assert len(list_runs(root / "runs")) == 1


def test_a_directory_that_holds_another_configuration_is_not_taken_for_the_run(series, tmp_path):
    root, _ = series
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    (file,) = tmp_path.rglob("run.json")
    record = json.loads(file.read_text())
    record["config"]["model"]["hidden_size"] = 9  # as if the 8 digits of two hashes were the same
    file.write_text(json.dumps(record))
    with pytest.raises(
        RequestError, match=r"another configuration, model\.hidden_size is 9 there and 8 here"
    ):
        train([*SMALL_SERIES, f"paths.root={tmp_path}"])


def test_eval_needs_the_run_directory_only(text, monkeypatch, tmp_path):
    _, result = text
    monkeypatch.chdir(tmp_path)
    report = evaluate(result["run_dir"], "test")
    assert report["metrics"] == result["splits"]["test"]["metrics"]


@pytest.mark.parametrize(
    "reading", [["data.eval_window=1"], ["data.eval_window=null", "data.eval_batch_size=1"]], ids=" ".join
)
def test_the_score_does_not_depend_on_how_the_split_is_read(text, reading):
    _, result = text
    scored = evaluate(result["run_dir"], "test", overrides=reading)["metrics"]
    expected = result["splits"]["test"]["metrics"]
    assert scored["tokens"] == expected["tokens"]
    assert scored["ppl"] == pytest.approx(expected["ppl"], rel=1e-6)


def test_a_finished_run_cannot_be_scored_as_another_one(text):
    _, result = text
    with pytest.raises(RequestError, match=r"model\.hidden_size=9: a finished run is scored as it is"):
        evaluate(result["run_dir"], "test", overrides=["model.hidden_size=9"])
    with pytest.raises(RequestError, match=r"data\.eval_window=\[: '\[' cannot be read as a value"):
        evaluate(result["run_dir"], "test", overrides=["data.eval_window=["])


def test_generated_text_continues_the_prompt_and_follows_the_seed(text):
    _, result = text
    first, second, other = (generate(result["run_dir"], "def ", tokens=40, seed=s) for s in (1, 1, 2))
    assert first == second != other
    assert first.startswith("def ")
    assert len(first) == 44


def test_characters_of_a_prompt_that_training_never_saw_are_named(text, capsys):
    _, result = text
    generate(result["run_dir"], "d\u2603d\u2603f", tokens=1)
    assert capsys.readouterr().err == "not in the run's vocabulary, so read as unknown: '\u2603'\n"


def test_test_scores_asked_for_later_are_added(tmp_path):
    request = [*SMALL_SERIES, f"paths.root={tmp_path}", "trainer.max_steps=2"]
    assert set(train([*request, "test=false"])["splits"]) == {"valid"}
    again = train(request)
    assert again["already"]
    assert set(again["splits"]) == {"valid", "test"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("schedule.warmup=100000", "warmup"),
        ("trainer.val_check_interval=100000", "val_check_interval"),
        ("model.backend=cudnn", "cudnn"),
    ],
)
def test_what_shows_only_when_the_run_begins_is_refused_with_one_message(override, expected, tmp_path):
    with pytest.raises(RequestError, match=expected):
        train([*SMALL_SERIES, f"paths.root={tmp_path}", override])
    assert [run["state"] for run in list_runs(tmp_path)] in (
        [],
        ["refused"],
    )  # most are seen before a run is begun


def test_a_damaged_checkpoint_is_named(tmp_path):
    request = [*SMALL_SERIES, f"paths.root={tmp_path}", "trainer.max_steps=2"]
    run = Path(train(request)["run_dir"])
    (run / "result.json").unlink()
    (run / "checkpoints/last.ckpt").write_bytes(b"cut off")
    with pytest.raises(RunFailed, match=r"last\.ckpt"):
        train(request)


def test_force_trains_again_and_keeps_the_earlier_run(tmp_path):
    request = [*SMALL_SERIES, f"paths.root={tmp_path}", "trainer.max_steps=2"]
    first = train(request)
    second = train(request, force=True)
    assert not second["already"]
    assert first["splits"]["test"]["metrics"] == second["splits"]["test"]["metrics"]
    kept = [p.name for p in (tmp_path / "runs/quickstart_series").iterdir() if ".old-" in p.name]
    assert len(kept) == 1


def test_force_without_data_leaves_the_earlier_run_where_it_is(tmp_path):
    text = tmp_path / "my.txt"
    text.write_text("a line of text to learn from\n" * 200)
    request = ["data=text", f"data.path={text}", "model.hidden_size=4", "trainer.max_steps=1"]
    request += ["trainer.max_epochs=1", "callbacks.progress=null", f"paths.root={tmp_path}", "test=false"]
    run = Path(train(request)["run_dir"])
    text.unlink()
    with pytest.raises(RequestError, match=r"my\.txt"):
        train(request, force=True)
    assert (run / "result.json").is_file()
    assert not list(run.parent.glob("*.old-*"))


class Bug(pl.Callback):
    """A mistake in somebody's own code."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        raise RuntimeError("a bug")


def test_an_error_that_nobody_foresaw_is_recorded_and_the_run_goes_on_when_it_is_mended(tmp_path):
    request = [*SMALL_SERIES, f"paths.root={tmp_path}", "trainer.max_steps=2", "test=false"]
    plain = check(compose(request))
    with pytest.raises(RuntimeError, match="a bug"):
        train_frozen(plain, identify(compose(request)), callbacks=[Bug()])
    (facts,) = list_runs(tmp_path / "runs")
    assert facts["state"] == "crashed"
    assert RunDirectory(facts["run_dir"]).read()["attempts"][0]["error"] == "RuntimeError: a bug"
    assert train(request)["outcome"] == "done"


def test_a_loss_that_is_not_finite_fails_the_run_and_says_where(tmp_path):
    with pytest.raises(RunFailed, match=r"step .*learning rate.*gradient norm"):
        train([*SMALL_SERIES, f"paths.root={tmp_path}", "optim.lr=1e30", "task.net.normalization=none"])
    (facts,) = list_runs(tmp_path / "runs")
    assert facts["state"] == "failed"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.lookback=0", "data.lookback"),
        ("trainer.max_steps=0", "trainer.max_steps"),
        ("callbacks.checkpoints=null", "callbacks.checkpoints"),
        ("model.hidden_size=-1", "hidden_size"),
        ("optim.lr=-1.0", "optim"),
        ("model.backend=quick", "backend"),
        ("data.target=[nosuch]", "nosuch"),
        ("trainer.precision=half", "precision"),
    ],
)
def test_an_impossible_value_is_refused_before_training(override, expected, tmp_path):
    with pytest.raises(RequestError, match=expected):
        train([*SMALL_SERIES, f"paths.root={tmp_path}", override])
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_task_that_does_not_fit_the_data_is_refused_with_the_one_that_does(tmp_path):
    with pytest.raises(RequestError, match="choose task=forecasting"):
        train(["data=embedded_series", "task=language_model", f"paths.root={tmp_path}"])


def test_changed_data_is_refused(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("one two three four five six seven\n" * 400)
    request = [
        "data=text",
        f"data.path={file}",
        f"paths.root={tmp_path}",
        "trainer.max_steps=2",
        "trainer.max_epochs=1",
        "model.hidden_size=4",
        "callbacks.progress=null",
        "data.batch_size=2",
    ]
    result = train(request)
    before = file.read_text()
    file.write_text("eight nine ten\n" * 400)
    with pytest.raises(RequestError, match=r"mine\.txt \(data\.path=.*\) has changed .* put the file back"):
        evaluate(result["run_dir"])
    with pytest.raises(RequestError, match=r"mine\.txt .* has changed .*--force"):
        train(request)
    file.write_text(before)
    assert evaluate(result["run_dir"])["metrics"] == result["splits"]["test"]["metrics"]


def test_sentences_that_changed_since_a_run_has_finished_are_refused(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("".join(f"word {n % 7}\n" for n in range(60)))
    request = ["data=pairs", f"data.source={tmp_path / 'a.txt'}", f"data.target={tmp_path / 'b.txt'}"]
    request += [
        f"paths.root={tmp_path}",
        "model.hidden_size=4",
        "trainer.max_epochs=1",
        "callbacks.progress=null",
    ]
    assert not train(request)["already"]
    assert train(request)["already"]
    (tmp_path / "b.txt").write_text("".join(f"other {n % 7}\n" for n in range(60)))
    with pytest.raises(RequestError, match=r"b\.txt has changed .*--force"):
        train(request)


@pytest.mark.ci
def test_data_that_changed_between_a_kill_and_the_resume_is_refused_and_the_run_left_as_it_was(
    tmp_path, monkeypatch
):
    file = tmp_path / "mine.txt"
    file.write_text(text := "one two three four five six seven\n" * 400)
    request = ["data=text", f"data.path={file}", f"paths.root={tmp_path}", "model.hidden_size=4"]
    request += ["trainer.max_epochs=2", "callbacks.progress=null", "callbacks.checkpoints.every_n_steps=1"]
    monkeypatch.setattr("gatelab.tasks.Checkpoints.save_last", save_and_end)
    with pytest.raises(Killed):
        train(request)
    monkeypatch.undo()
    (run,) = (path.parent for path in tmp_path.rglob("run.json"))
    record, checkpoint = (run / "run.json").read_bytes(), (run / "checkpoints/last.ckpt").read_bytes()
    file.write_text(text.replace("one", "eno", 1))
    with pytest.raises(RequestError, match=r"mine\.txt .*has changed .*Put the file back .*--force"):
        train(request)
    assert (run / "run.json").read_bytes() == record
    assert (run / "checkpoints/last.ckpt").read_bytes() == checkpoint
    file.write_text(text)
    assert train(request)["outcome"] == "done"


class Killed(BaseException):
    pass


def save_and_end(self, trainer):
    trainer.save_checkpoint(self.last)
    raise Killed


def run_command(root, *extra):
    command = [sys.executable, "-m", "gatelab", "train", *SMALL_TEXT, f"paths.root={root}", *extra]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


LONG = ["trainer.max_steps=1000", "callbacks.checkpoints.every_n_steps=3"]


def test_a_killed_run_continues_and_loses_nothing(tmp_path):
    steps = "trainer.max_steps=80"
    process = run_command(tmp_path, *LONG, steps)
    wait_for(lambda: list(tmp_path.rglob("last.ckpt")), process)
    process.kill()
    process.communicate()
    (run,) = (p.parent for p in tmp_path.rglob("run.json"))
    recorded = read_metrics(run / "metrics.csv")
    again = run_command(tmp_path, *LONG, steps)
    _, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    assert "continuing" in errors
    assert json.loads((run / "result.json").read_text())["outcome"] == "done"
    superseded = run / "metrics.superseded.csv"
    kept = [*read_metrics(run / "metrics.csv"), *(read_metrics(superseded) if superseded.is_file() else [])]
    losses = {(row["step"], row["train/loss"]) for row in kept}
    assert {(row["step"], row["train/loss"]) for row in recorded} <= losses


def test_a_signal_stops_the_run_with_75_and_the_same_command_continues(tmp_path):
    process = run_command(tmp_path, *LONG, "callbacks.checkpoints.every_n_steps=null")
    wait_for(lambda: list(tmp_path.rglob("metrics.csv")), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "SIGTERM" in errors
    (facts,) = list_runs(tmp_path / "runs")
    assert facts["state"] == "interrupted"
