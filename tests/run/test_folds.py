"""Every fold is an ordinary run: trained, resumed, scored and found again by the same request."""

import json
from pathlib import Path

import pytest

from gatelab.cli.main import main
from gatelab.data.text.streams import StreamWindows
from gatelab.run.record.directory import read_metrics
from gatelab.run.scoring.evaluate import evaluate
from gatelab.run.train import train
from gatelab.tasks import load_checkpoint
from gatelab.trackers.follow import MEASURED

SMALL = ["model.hidden_size=4", "trainer.max_epochs=1", "callbacks.progress=null"]
ETTH1 = [*SMALL, "data=etth1", "data.lookback=24", "data.horizon=24", "data.batch_size=256"]


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "my.txt"
    file.write_text("".join(f"the {i * i % 97} foxes jump over {i % 7} dogs\n" for i in range(150)))
    options = ["data.batch_size=4", "data.window=50", "data.eval_batch_size=2", "data.burn_in=100"]
    return [*SMALL, "data=text", f"data.path={file}", *options]


def run(capsys, *request):
    assert main(["train", *request, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def check_folds(capsys, request, unit):
    results = []
    for fold in range(3):
        result = run(capsys, *request, "data.folds=3", f"data.fold={fold}", "trainer.max_steps=1")
        assert result["steps"] == 1
        for split, report in result["splits"].items():
            assert {m[unit] for m in report["baselines"].values()} == {report["metrics"][unit]}, split
        record = json.loads(Path(result["run_dir"], "run.json").read_text())
        assert any(f"data.fold={fold} of data.folds=3" in note for note in record["data_notes"])
        results.append(result)
    assert len({result["run_dir"] for result in results}) == 3
    return results


def test_every_fold_of_etth1_trains_a_step(capsys, tmp_path, mirror, monkeypatch):
    monkeypatch.setenv("GATELAB_DATA_MIRROR", str(mirror))
    results = check_folds(capsys, [*ETTH1, f"paths.root={tmp_path}"], "windows")
    assert [r["splits"]["valid"]["metrics"]["windows"] for r in results] == [2857] * 3
    assert [r["splits"]["test"]["metrics"]["windows"] for r in results] == [2857] * 3
    again = evaluate(results[1]["run_dir"], "test")
    assert again["metrics"] == results[1]["splits"]["test"]["metrics"]


def test_every_fold_of_a_text_trains_a_step(capsys, tmp_path, text):
    results = check_folds(capsys, [*text, f"paths.root={tmp_path}"], "tokens")
    valid = [r["splits"]["valid"]["metrics"]["tokens"] for r in results]
    assert (
        sum(valid) + results[0]["splits"]["test"]["metrics"]["tokens"] == (tmp_path / "my.txt").stat().st_size
    )


class Killed(BaseException):
    """Stands for kill -9: nothing is saved on the way out."""


@pytest.mark.parametrize("after_the_gap", [-1, 0, 1])
def test_a_fold_that_was_killed_around_its_gap_is_the_undisturbed_one(
    tmp_path, text, monkeypatch, after_the_gap
):
    every_step = ["trainer.log_every_n_steps=1", "callbacks.checkpoints.every_n_steps=1"]
    request = [*text, "data.folds=3", "data.fold=1", *every_step]
    whole = train([*request, f"paths.root={tmp_path / 'whole'}"])
    request = [*request, f"paths.root={tmp_path / 'killed'}"]

    def get(self, index):
        if self.resets and self.cuts.tolist().index(next(iter(self.resets))) + after_the_gap == index:
            raise Killed
        return original(self, index)

    original = StreamWindows.__getitem__
    monkeypatch.setattr(StreamWindows, "__getitem__", get)
    with pytest.raises(Killed):
        train(request)
    monkeypatch.setattr(StreamWindows, "__getitem__", original)
    continued = train(request)
    assert (
        0 < load_checkpoint(f"{continued['run_dir']}/checkpoints/last.ckpt")["global_step"] == whole["steps"]
    )
    assert continued["splits"]["valid"]["metrics"] == whole["splits"]["valid"]["metrics"]
    rows = [read_metrics(f"{result['run_dir']}/metrics.csv") for result in (continued, whole)]
    first, second = (
        [{k: v for k, v in r.items() if not k.startswith(MEASURED)} for r in some] for some in rows
    )
    assert first == second


def test_bad_folds_exit_with_2_and_name_the_key(capsys, tmp_path, text):
    assert main(["train", *text, "data.folds=3", f"paths.root={tmp_path}"]) == 2
    assert "data.folds=3 without data.fold" in capsys.readouterr().err
    assert main(["train", *text, "data.folds=3", "data.fold=3", f"paths.root={tmp_path}"]) == 2
    assert "data.fold=0 to 2" in capsys.readouterr().err
