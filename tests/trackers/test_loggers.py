"""Trackers that cannot be made: a missing package is told before training, anything else leaves the run alone."""

import pytest

from gatelab.run import RequestError
from gatelab.run.loggers import build_loggers
from gatelab.run.record.directory import read_metrics


class Fails:
    """Stands for a tracker whose constructor fails."""

    def __init__(self, run_dir, run_id, kind):
        raise {"value": ValueError, "file": PermissionError, "module": ModuleNotFoundError}[kind]("why")


def node(**given):
    return {"_target_": f"{__name__}.Fails", **given}


@pytest.mark.parametrize("kind", ["value", "file"])
def test_a_tracker_that_cannot_be_made_is_named_and_the_others_go_on(tmp_path, capsys, kind):
    good = {"_target_": "gatelab.trackers.tensorboard_logger"}
    made = build_loggers({"logger": {"mine": node(kind=kind), "tensorboard": good}}, tmp_path, "abcd1234")
    assert [type(tracker).__name__ for tracker in made] == ["TensorBoardTracker"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("logger.mine cannot be used: ")
    assert "why" in line


def test_a_tracker_whose_package_is_missing_is_a_wrong_request(tmp_path):
    with pytest.raises(RequestError, match=r"logger\.mine: why"):
        build_loggers({"logger": {"mine": node(kind="module")}}, tmp_path, "abcd1234")


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_a_missing_package_comes_with_the_command_that_installs_it(tmp_path, monkeypatch, name):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(RequestError, match=f"logger={name}: not installed. Run pip install"):
        build_loggers(
            {"logger": {name: {"_target_": f"gatelab.trackers.{name}_logger"}}}, tmp_path, "abcd1234"
        )


def test_a_folder_that_wandb_cannot_write_leaves_the_run_alone(parts, capsys):
    (parts.path / "wandb").write_text("in the way")
    parts.part(range(5))
    assert capsys.readouterr().err.count("W&B: cannot start") == 1
    assert len(read_metrics(parts.path / "metrics.csv")) == 6
