"""A run given to Weights & Biases without a network: its parts hold what metrics.csv holds, and say how it ended."""

import json
import os
import signal

import pytest

from gatelab.run.record.directory import read_metrics
from gatelab.run.train import train
from gatelab.trackers.follow import STEP, key, to_row
from scripts.checks.wandb_files import segments

from .event_files import points, points_of

RUN = [
    "experiment=quickstart_series",
    "trainer.max_steps=12",
    "trainer.val_check_interval=6",
    "trainer.log_every_n_steps=1",
    "model.hidden_size=8",
]
RUN += ["callbacks.progress=null", "data.lookback=24", "logger=[wandb,tensorboard]", "test=false"]


def logged(run_dir):
    return [key(row) for segment in segments(run_dir) for row in segment.rows]


def recorded(run_dir):
    return [key(to_row(row)) for row in read_metrics(run_dir / "metrics.csv")]


@pytest.mark.ci
def test_two_trackers_of_a_whole_run_both_hold_metrics_csv(tmp_path, capfd, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    result = train([*RUN, f"paths.root={tmp_path}"])
    assert list(temporary.iterdir()) == []  # wandb leaves nothing in the system's folder
    (run,) = tmp_path.glob("runs/*/*-s0")
    (segment,) = segments(run)
    assert logged(run) == recorded(run)
    assert points(run) == pytest.approx(points_of(read_metrics(run / "metrics.csv")), rel=1e-6, nan_ok=True)
    assert not segment.online
    assert segment.exit_code == 0
    assert segment.run["run_id"] == json.loads((run / "run.json").read_text())["tracker_id"]
    assert (segment.run["run_group"], segment.run["job_type"]) == ("quickstart_series", "train")
    assert segment.config["model"]["hidden_size"] == 8
    losses = [row["val/mse"] for row in segment.rows if "val/mse" in row]
    assert segment.summary["val/mse"] == min(losses)
    assert segment.summary["valid/mse"] == result["splits"]["valid"]["metrics"]["mse"]
    assert segment.summary["outcome"] == "done"
    assert {"curves._type", "sample._type", "results._type"} <= set(segment.summary)
    assert "offline (no key)" in capfd.readouterr().err


def test_the_summary_holds_the_best_value_not_the_last(parts):
    parts.part(range(20))
    (segment,) = segments(parts.path)
    assert (segment.summary["val/loss"], segment.summary[f"best/{STEP}"]) == (0.0, 10)


@pytest.mark.ci
def test_a_killed_run_is_marked_failed_and_resumed_it_is_one_run_without_gaps(parts):
    killed = parts.start()
    parts.log(range(13))
    killed._process.stdin.close()  # what the other process sees of kill -9
    killed._process.wait(30)
    killed._process.stdout.close()
    parts.part(range(10, 20), resume_step=10)
    first, second = segments(parts.path)
    assert (first.exit_code, first.summary["outcome"], second.exit_code) == (1, "killed", 0)
    assert first.run["run_id"] == second.run["run_id"] == "abcd1234"
    assert logged(parts.path) == recorded(parts.path)
    assert second.summary["val/loss"] == 0.0  # the best of the whole run is in the first part


@pytest.mark.slow
def test_rows_that_a_part_lost_are_logged_by_the_next(parts):
    lost = parts.start()
    lost._process.kill()
    lost._process.wait()
    lost.conclude("done", None)
    parts.log(range(10))
    parts.part(range(10, 15), resume_step=10)
    assert logged(parts.path) == recorded(parts.path)


@pytest.mark.parametrize(
    ("outcome", "exit_code", "preempting"),
    [
        ("interrupted", 75, True),
        pytest.param("failed", 1, False, marks=pytest.mark.slow),
        pytest.param("pruned", 0, False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.ci
def test_the_end_is_marked(parts, outcome, exit_code, preempting):
    parts.part(range(5), outcome=outcome, error="why" if outcome == "failed" else None)
    (segment,) = segments(parts.path)
    assert (segment.exit_code, segment.preempting) == (exit_code, preempting)
    assert segment.summary["outcome"] == outcome
    assert segment.summary.get("error") == ("why" if outcome == "failed" else None)


@pytest.mark.ci
def test_a_crash_in_training_reaches_the_tracker(tmp_path, monkeypatch):
    def crash(*_, **__):
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("gatelab.run.train.evaluate_splits", crash)
    with pytest.raises(ZeroDivisionError):
        train([*RUN, f"paths.root={tmp_path}"])
    (run,) = tmp_path.glob("runs/*/*-s0")
    (segment,) = segments(run)
    assert segment.exit_code == 1
    assert segment.summary["error"] == "ZeroDivisionError: of all things"


def test_a_tracker_that_dies_stops_nothing(parts, capfd):
    tracker = parts.start()
    os.kill(tracker._process.pid, signal.SIGKILL)
    tracker._process.wait()
    tracker.log_metrics({"a": 1.0}, 1)
    tracker.conclude("done", None)
    assert "W&B" in capfd.readouterr().err


@pytest.mark.slow
def test_a_dead_network_means_offline(parts, silent_server, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    parts.part(range(5))
    assert "did not answer within 3 s" in capfd.readouterr().err
    (segment,) = segments(parts.path)
    assert not segment.online
    assert logged(parts.path) == recorded(parts.path)


def test_disabled_by_the_environment_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    from gatelab.trackers import wandb_logger

    assert wandb_logger(str(tmp_path), "abcd1234") is None


@pytest.mark.ci
def test_nothing_secret_is_in_any_file_of_a_run_directory(parts, monkeypatch):
    for name in ("WANDB_API_KEY", "MY_SERVICE_TOKEN"):
        monkeypatch.setenv(name, "deadbeef" * 5)
    monkeypatch.setenv("WANDB_BASE_URL", "http://me:hunter2@127.0.0.1:9")
    url = "postgresql://me:hunter2@host/db"
    parts.part(range(5), "failed", error=f"{url} refused {'deadbeef' * 5}", tags=[url], group=url)
    files = [file for file in parts.path.rglob("*") if file.is_file()]
    held = {file.name: file.read_bytes() for file in files}
    assert any(b"***@host/db" in content for content in held.values())
    assert [name for name, content in held.items() if b"hunter2" in content or b"deadbeef" in content] == []


@pytest.mark.slow
def test_a_language_model_shows_a_text_that_it_wrote(tmp_path):
    train([*RUN[1:6], "experiment=quickstart", "logger=wandb", "test=false", f"paths.root={tmp_path}"])
    (run,) = tmp_path.glob("runs/*/*-s0")
    (segment,) = segments(run)
    assert segment.summary["sample._type"] == "html-file"
    assert (run / "wandb" / "sample.txt").read_text().strip()
