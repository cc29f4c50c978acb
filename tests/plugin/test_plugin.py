"""A kind of work from outside (`sorting.py` and `conf/` here) goes through every command with no edit in `src/`.

Its module is found by PYTHONPATH, or in the current folder by `python -m gatelab`; its YAML files by `--config-dir`. A
command that reads a run wants `--trust`, since the run names code that is not Gatelab's.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from gatelab.cli.main import main
from gatelab.tasks.trace import read_trace

HERE = Path(__file__).parent
CONF = ["--config-dir", str(HERE / "conf"), "data=sorting", "threads=1"]
SMALL = ["model.hidden_size=16", "trainer.max_epochs=2", "callbacks=none"]


@pytest.fixture(scope="module", autouse=True)
def _found():
    sys.path.insert(0, str(HERE))
    yield
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run."""
    root = tmp_path_factory.mktemp("plugin")
    assert main(["train", *CONF, *SMALL, f"paths.root={root}"]) == 0
    (directory,) = (file.parent for file in root.rglob("result.json"))
    return directory


def command(*arguments, cwd):
    """A `gatelab` process of its own, which finds the module as a user's would."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])}
    return subprocess.Popen(
        [sys.executable, "-m", "gatelab", *arguments], cwd=cwd, env=environment, stderr=subprocess.PIPE
    )


def test_it_learns_and_stands_beside_its_baseline(run, capsys):
    assert main(["eval", str(run), "--trust", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["metrics"]["accuracy"] > report["baselines"]["as_it_is"]["accuracy"]
    record = json.loads((run / "run.json").read_text())
    assert record["task"]["metrics"][0]["better"] == "max"


def test_the_summary_names_its_own_command_and_the_best_baseline(run, capsys):
    root = run.parents[2]
    assert main(["train", *CONF, *SMALL, f"paths.root={root}"]) == 0
    out = capsys.readouterr().out
    assert "already finished" in out
    assert f"gatelab predict {run} --input lists.txt --output sorted.csv" in out
    assert "best baseline: as it is 0.3" in out


def test_it_predicts_on_new_input(run, tmp_path, capsys):
    (tmp_path / "lists.txt").write_text("3 1 2 0\n9 9 1 4\n")
    request = ["predict", str(run), "--trust", "--input", f"{tmp_path}/lists.txt", "--output"]
    assert main([*request, f"{tmp_path}/out.csv"]) == 0
    frame = pd.read_csv(tmp_path / "out.csv")
    assert list(frame["list"]) == ["3 1 2 0", "9 9 1 4"]
    assert all(len(said.split()) == 4 for said in frame["said"])
    (tmp_path / "lists.txt").write_text("1 2\n")
    assert main([*request, f"{tmp_path}/other.csv"]) == 2
    assert "2 numbers in a line; the run sorts 4" in capsys.readouterr().err


def test_it_is_explained(run, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["explain", str(run), "--trust", "--ablations", "2", "--output", str(page)]) == 0
    assert "follows step (R²" in capsys.readouterr().out
    assert "The lists of the validation split." in page.read_text()


def test_what_it_does_not_do_is_refused_in_a_word(run, capsys):
    assert main(["generate", str(run), "--trust"]) == 2
    assert "SortingTask generates no text" in capsys.readouterr().err
    assert main(["perplexity", str(run), __file__, "--trust"]) == 2
    assert "SortingTask is no language model" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["safetensors", "onnx", "torch-export"])
def test_it_is_exported(kind, run, tmp_path, capsys):
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    assert (
        main(["export", str(run), "--trust", "--format", kind, "--output", f"{tmp_path}/model", "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["inputs"] == {"numbers": ["batch", 4]}


def test_the_report_shows_its_sample_and_its_words(run, tmp_path, capsys):
    assert main(["report", str(run), "--trust", "--output", f"{tmp_path}/report.html"]) == 0
    capsys.readouterr()
    page = (tmp_path / "report.html").read_text()
    assert "The first lists of the validation split." in page
    assert "<th>said" in page or ">said<" in page
    assert "right numbers" in page


@pytest.mark.ci
def test_a_killed_run_continues_to_the_same_bits(tmp_path):
    request = [*CONF, *SMALL, "callbacks.checkpoints.every_n_steps=10", "test=false"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["train", *request, f"paths.root={whole}"]) == 0
    process = command("train", *request, f"paths.root={killed}", cwd=tmp_path)
    end = time.monotonic() + 120
    while not (kept := list(killed.rglob("last.ckpt"))) and time.monotonic() < end:
        time.sleep(0.01)
    assert kept
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(killed.rglob("result.json"))
    assert main(["train", *request, f"paths.root={killed}"]) == 0
    (first,), (second,) = (list(root.rglob("trace.csv")) for root in (whole, killed))
    assert read_trace(first) == read_trace(second)


@pytest.mark.ci
def test_it_is_swept_and_ranked_by_its_own_metric(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, sys.path)]))
    request = [
        "study=sizes",
        "trainer.max_epochs=1",
        "callbacks=none",
        "model.hidden_size=4,16",
        "test=false",
    ]
    assert main(["sweep", *CONF, *request, f"paths.root={tmp_path}"]) == 0
    capsys.readouterr()
    assert main(["study", str(tmp_path / "studies" / "sizes"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["objectives"][0]["direction"] == "maximize"
    assert summary["counts"]["done"] == 2
    assert summary["best"]["value"] == max(trial["value"] for trial in summary["trials"])
