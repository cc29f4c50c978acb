"""TensorBoard shows metrics.csv, also of a run that was resumed; what goes wrong with it never stops a run."""

import itertools
from types import SimpleNamespace

import pytest
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gatelab.run.loggers import MetricsCSV
from gatelab.run.record.directory import read_metrics
from gatelab.trackers.tensorboard import TensorBoardTracker

from .event_files import points, points_of, read_events


@pytest.fixture(autouse=True)
def _a_second_between_parts(monkeypatch):
    """TensorBoard reads files by name, which begins with the second; a real resume takes longer."""
    clock = itertools.count(1_700_000_000)
    monkeypatch.setattr(
        "tensorboard.summary.writer.event_file_writer.time", SimpleNamespace(time=lambda: next(clock))
    )


def part(run_dir, steps, step=None, outcome="done"):
    """A part of a run, as training gives it to both loggers: a loss at each step, a validation at every fifth."""
    tracker = TensorBoardTracker(run_dir)
    tracker.continue_from(step)
    tracker.log_hyperparams({})
    loggers = [MetricsCSV(run_dir / "metrics.csv", step), tracker]
    for now in steps:
        for logger in loggers:
            logger.log_metrics({"train/loss": 1 / (now + 3), "epoch": 0}, now)
            if now % 5 == 4:
                logger.log_metrics({"val/loss": abs(now - 9) / 7}, now)
            logger.save()
    if outcome != "killed":
        tracker.finalize("success")
        tracker.conclude(outcome, None)


def recorded(run_dir):
    return points_of(read_metrics(run_dir / "metrics.csv"))


@pytest.mark.parametrize("outcome", ["killed", "interrupted", "pruned"])
def test_a_resumed_run_has_no_point_twice_and_none_is_missing(parts, outcome):
    part(parts.path, range(17), outcome=outcome)
    part(parts.path, range(10, 20), 10)
    assert len(recorded(parts.path)) == 44
    assert points(parts.path) == pytest.approx(recorded(parts.path))


def test_a_run_that_begins_anew_hides_what_was_there(parts):
    part(parts.path, range(7), outcome="killed")
    part(parts.path, range(5))
    assert points(parts.path) == pytest.approx(recorded(parts.path))


def test_the_hparams_tab_has_the_configuration_and_the_best_value(parts):
    part(parts.path, range(20))
    events = read_events(parts.path)
    told = {}
    for tag, content in events.PluginTagToContent("hparams").items():
        told[tag.rpartition("/")[2]] = HParamsPluginData.FromString(content)
    assert told["session_start_info"].session_start_info.hparams["model.hidden_size"].number_value == 8
    (metric,) = told["experiment"].experiment.metric_infos
    (score,) = events.Scalars(metric.name.tag)
    assert (metric.name.tag, score.value, score.step) == ("best/val/loss", 0.0, 20)
    assert "session_end_info" in told


def test_a_folder_that_cannot_be_written_is_one_remark_and_no_error(parts, capsys):
    (parts.path / "tensorboard").write_text("in the way")
    part(parts.path, range(5))
    assert capsys.readouterr().err.count("TensorBoard: ") == 1
    assert len(read_metrics(parts.path / "metrics.csv")) == 5
