"""Runs recorded by the version before the rings were folders can be listed, evaluated, compared and reported."""

import json
from pathlib import Path

import pytest

from gatelab.cli.main import main
from gatelab.run.record.listing import list_runs
from gatelab.run.scoring.evaluate import evaluate
from gatelab.run.train import train

REQUEST = [
    *("data=lorenz", "data.lookback=8", "data.horizon=4", "data.batch_size=512", "trainer.max_epochs=1"),
    *("trainer.limit_train_batches=3", "trainer.log_every_n_steps=1", "model.hidden_size=4"),
    "callbacks.progress=null",
]
GONE = {
    "logger": {"tensorboard": {"_target_": "gatelab.lab.trackers.tensorboard_logger"}},
    "callbacks": {"throughput": {"_target_": "gatelab.lab.callbacks.GoneSince", "every": 3}},
}


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A run as it was recorded then: targets that are gone since, and no key that was added since."""
    root = tmp_path_factory.mktemp("old")
    run = Path(train([*REQUEST, f"paths.root={root}"])["run_dir"])
    record = json.loads((run / "run.json").read_text())
    for group, nodes in GONE.items():
        record["config"][group] = {**record["config"][group], **nodes}
    known = {"format", "identity", "tracker_id", "config", "attempts", "data", "data_notes", "spec"}
    record = {key: value for key, value in record.items() if key in known}
    for attempt in record["attempts"]:
        attempt["environment"].pop("code", None)
    (run / "run.json").write_text(json.dumps(record))
    result = json.loads((run / "result.json").read_text())
    result["splits"]["valid"].pop("seconds", None)
    (run / "result.json").write_text(json.dumps(result))
    return run


def test_it_is_listed_with_its_score(old):
    (facts,) = list_runs(old.parents[1])
    assert (facts["state"], facts["metric"]) == ("done", "val/mse")
    assert (
        facts["value"] == json.loads((old / "result.json").read_text())["splits"]["valid"]["metrics"]["mse"]
    )


def test_it_scores_as_it_did(old):
    expected = json.loads((old / "result.json").read_text())["splits"]["test"]["metrics"]
    assert evaluate(old, "test")["metrics"] == expected


def test_it_is_compared_with_itself(old, capsys):
    assert main(["diff", str(old), str(old), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["divergence"] is None


def test_it_is_reported(old, capsys):
    pytest.importorskip("plotly")
    page = old.parents[2] / "page.html"
    assert main(["report", str(old), "--output", str(page)]) == 0
    assert old.name in page.read_text()


def test_it_is_not_begun_again_by_the_request_that_made_it(old, capsys):
    root = old.parents[2]
    assert main(["train", *REQUEST, f"paths.root={root}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["already"]
