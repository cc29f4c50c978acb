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
SERIES = [*SMALL, "data.lookback=24", "data.horizon=24", "data.batch_size=256"]


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


@pytest.mark.parametrize(
    ("data", "windows"), [("embedded_series", 1724), pytest.param("etth1", 2857, marks=pytest.mark.slow)]
)
@pytest.mark.ci
def test_every_fold_of_a_series_trains_a_step(data, windows, capsys, tmp_path, request, monkeypatch):
    if data == "etth1":
        monkeypatch.setenv("GATELAB_DATA_MIRROR", str(request.getfixturevalue("mirror")))
    results = check_folds(capsys, [*SERIES, f"data={data}", f"paths.root={tmp_path}"], "windows")
    for split in ("valid", "test"):
        assert [r["splits"][split]["metrics"]["windows"] for r in results] == [windows] * 3
    again = evaluate(results[1]["run_dir"], "test")
    assert again["metrics"] == results[1]["splits"]["test"]["metrics"]


@pytest.mark.ci
def test_every_fold_of_a_text_trains_a_step(capsys, tmp_path, text):
    results = check_folds(capsys, [*text, f"paths.root={tmp_path}"], "tokens")
    valid = [r["splits"]["valid"]["metrics"]["tokens"] for r in results]
    assert (
        sum(valid) + results[0]["splits"]["test"]["metrics"]["tokens"] == (tmp_path / "my.txt").stat().st_size
    )


class Killed(BaseException):
    """Stands for kill -9: nothing is saved on the way out."""


@pytest.mark.slow
def test_a_fold_that_was_killed_around_its_gap_is_the_undisturbed_one(tmp_path, text, monkeypatch):
    every_step = ["trainer.log_every_n_steps=1", "callbacks.checkpoints.every_n_steps=1"]
    request = [*text, "data.folds=3", "data.fold=1", *every_step]
    whole = train([*request, f"paths.root={tmp_path / 'whole'}"])
    original = StreamWindows.__getitem__
    for after_the_gap in (-1, 0, 1):

        def get(self, index, after=after_the_gap):
            if self.resets and self.cuts.tolist().index(next(iter(self.resets))) + after == index:
                raise Killed
            return original(self, index)

        again = [*request, f"paths.root={tmp_path / str(after_the_gap)}"]
        with monkeypatch.context() as patch:
            patch.setattr(StreamWindows, "__getitem__", get)
            with pytest.raises(Killed):
                train(again)
        continued = train(again)
        last = load_checkpoint(f"{continued['run_dir']}/checkpoints/last.ckpt")
        assert 0 < last["global_step"] == whole["steps"]
        assert continued["splits"]["valid"]["metrics"] == whole["splits"]["valid"]["metrics"]
        first, second = (
            [{k: v for k, v in row.items() if not k.startswith(MEASURED)} for row in read_metrics(file)]
            for file in (f"{result['run_dir']}/metrics.csv" for result in (continued, whole))
        )
        assert first == second


def test_bad_folds_exit_with_2_and_name_the_key(capsys, tmp_path, text):
    assert main(["train", *text, "data.folds=3", f"paths.root={tmp_path}"]) == 2
    assert "data.folds=3 without data.fold" in capsys.readouterr().err
    assert main(["train", *text, "data.folds=3", "data.fold=3", f"paths.root={tmp_path}"]) == 2
    assert "data.fold=0 to 2" in capsys.readouterr().err
