"""`gatelab eval --rows`: each row marked and kept beside the static figure, tuned on valid alone, bad input refused."""

import json
import shutil

import pytest
import torch

from gatelab import api
from gatelab.cli.main import main
from gatelab.report.gather import gather
from gatelab.report.text import render
from gatelab.run import RequestError
from gatelab.run.load import load_task
from gatelab.run.record.directory import RunDirectory
from gatelab.run.record.rows import read_rows, readable_rows
from gatelab.run.scoring.evaluate import evaluate
from gatelab.run.scoring.evaluation_rows import requested
from gatelab.run.train import train
from gatelab.tasks.base import Task

SMALL = [
    *("data=text", "data.level=char", "data.batch_size=4", "data.window=16", "data.burn_in=64", "threads=1"),
    *("trainer.max_steps=40", "model.hidden_size=8", "task.net.dropout=0.3", "callbacks=none", "name=one"),
    "data.split=[0.6,0.2,0.2]",
]
FAST = ["cache.window=20", "cache.theta=0.1,0.5", "cache.lambda=0.1,0.2", "dynamic.rate=0.003,0.01"]
FAST += ["dynamic.decay=0.01", "dynamic.windows=5", "dynamic.tune_tokens=100", "mc-dropout.passes=3"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with one finished run."""
    root = tmp_path_factory.mktemp("lab")
    (root / "t.txt").write_text("".join(f"{n} times\n" for n in range(200)))
    train([*SMALL, f"data.path={root / 't.txt'}", f"paths.root={root}"])
    return root


@pytest.fixture
def run(lab, tmp_path):
    """A copy of the run."""
    (directory,) = (lab / "runs" / "one").glob("*-s0")
    return shutil.copytree(directory, tmp_path / "runs" / "one" / directory.name)


def test_every_row_scores_every_token_once_and_the_static_figure_and_the_weights_stay(run):
    before = evaluate(run, "test")
    weights = {name: value.clone() for name, value in load_task(run).task.state_dict().items()}
    report = evaluate(run, "test", rows=["all"], overrides=FAST)
    assert report["metrics"] == before["metrics"]
    assert [row["method"] for row in report["rows"]] == ["dynamic", "cache", "temperature", "mc-dropout"]
    for row in report["rows"]:
        assert row["metrics"]["tokens"] == before["metrics"]["tokens"]
        assert row["static"]["loss"] == before["metrics"]["loss"]
        assert row["metrics"]["loss"] != row["static"]["loss"]
        assert {"ppl", "bpc"} <= set(row["figures"])
        assert row["what"].endswith(".")
    assert "rows" not in json.loads((run / "result.json").read_text())
    after = load_task(run).task.state_dict()
    assert all(torch.equal(after[name], value) for name, value in weights.items())
    assert {row["method"] for row in read_rows(RunDirectory(run))} == {
        "dynamic", "cache", "temperature", "mc-dropout"
    }  # fmt: skip


def test_tuning_reads_valid_alone_and_takes_its_best(run, capsys):
    (row,) = evaluate(run, "test", rows=["cache"], overrides=FAST[:3])["rows"]
    grid, tuned = row["tuned"]["grid"], row["tuned"]
    assert tuned["split"] == "valid"
    assert len(grid) == 4
    best = min(grid, key=lambda point: point["loss"])
    assert row["parameters"] == {"window": 20, "theta": best["theta"], "lambda": best["lambda"]}
    said = capsys.readouterr().err
    assert "tuned on" in said
    assert "theta 0.1, 0.5; lambda 0.1, 0.2" in said
    given = [f"cache.{name}={value}" for name, value in row["parameters"].items()]
    (valid,) = evaluate(run, "valid", rows=["cache"], overrides=given)["rows"]
    assert valid["tuned"] is None
    assert valid["metrics"]["loss"] == pytest.approx(best["loss"], rel=1e-9)


def test_a_row_without_effect_is_the_static_figure(run):
    given = ["cache.window=5", "cache.theta=1", "cache.lambda=0", "temperature.tau=1"]
    given += ["dynamic.rate=0", "dynamic.decay=0", "dynamic.rule=sgd"]
    report = evaluate(run, "valid", rows=["cache", "temperature", "dynamic"], overrides=given)
    for row in report["rows"]:
        assert row["metrics"]["ppl"] == pytest.approx(report["metrics"]["ppl"], rel=1e-6), row["method"]
        assert row["metrics"]["bpc"] == pytest.approx(report["metrics"]["bpc"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "net",
    [
        ["model=nn_lstm", "task.net.cutoffs=[8]", "task.net.tied=false"],
        ["task.net.layer_sizes=[8,6]", "task.net.weight_drop=0.3", "task.net.locked_dropout=true"],
        ["data.level=word", "model=nn_gru", "task.temporal_regularization=1.0"],
    ],
)
def test_every_core_and_head_has_rows(lab, tmp_path, net):
    result = train(
        [*SMALL, f"data.path={lab / 't.txt'}", f"paths.root={tmp_path}", *net, "trainer.max_steps=2"]
    )
    report = evaluate(result["run_dir"], rows=["all"], overrides=[*FAST, "temperature.tau=0.9"])
    assert all(row["metrics"]["tokens"] == report["metrics"]["tokens"] for row in report["rows"])
    assert len(report["rows"]) == 4


@pytest.mark.parametrize(
    ("rows", "given", "expected"),
    [
        ("cash", [], "--rows cash: this run has dynamic, cache, temperature, mc-dropout. Did you mean 'cache'?"),
        ("cache", ["cache.thetta=1"], "cache.thetta=1: cache has window, theta, lambda. Did you mean 'theta'?"),
        ("cache", ["cache.theta=hot"], "cache.theta=hot: give a number of at least 0, not 'hot'"),
        ("cache", ["cache.lambda=1.5"], "cache.lambda=1.5: give a number of at least 0, at most 0.999, not 1.5"),
        ("cache", ["cache.window=2.5"], "cache.window=2.5: give a whole number of at least 1, not 2.5"),
        ("cache", ["cache.theta=0.1,nan"], "give a number"),
        ("cache", ["cache.theta="], "give a number"),
        ("temperature", ["temperature.tau=0"], "temperature.tau=0: give a number above 0, not 0"),
        ("dynamic", ["dynamic.rule=adam"], "dynamic.rule=adam: give rms or sgd, not 'adam'"),
        ("cache", ["dynamic.rate=1"], "dynamic.rate=1: no row of it is asked for; give --rows cache,dynamic"),
        ("cache", ["data.window=3"], "data.window=3: a finished run is scored as it is"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name_before_anything_is_scored(
    run, rows, given, expected, capsys, monkeypatch
):
    monkeypatch.setattr("gatelab.run.scoring.evaluate.evaluate_split", lambda *a, **k: pytest.fail("scored"))
    assert main(["eval", str(run), "--rows", rows, *given]) == 2
    assert expected in capsys.readouterr().err
    assert not (run / "rows.json").exists()


def test_a_network_without_dropout_has_no_mc_dropout(run):
    record = json.loads((run / "run.json").read_text())
    record["config"]["task"]["net"]["dropout"] = 0.0
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(RequestError, match="trained without dropout"):
        evaluate(run, rows=["mc-dropout"])


def test_a_task_without_other_ways_says_so():
    with pytest.raises(RequestError, match="no other way to score"):
        requested(Task.methods, ["cache"], [])
    assert requested(Task.methods, ["all"], ["data.cache=x"]) == ({}, ["data.cache=x"])


def test_rows_are_shown_by_every_view_and_rank_nothing(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    static = RunDirectory(run).result()["splits"]["test"]["metrics"]["ppl"]
    assert main(["eval", str(run), "--rows", "temperature", "temperature.tau=0.9"]) == 0
    assert "softmax temperature: The logits" in capsys.readouterr().out
    assert main(["eval", str(run)]) == 0  # it is kept
    assert "Scored otherwise" in capsys.readouterr().out
    frame = api.load(run).rows
    assert frame[["split", "method"]].values.tolist() == [["test", "temperature"]]
    assert frame["ppl"][0] != static
    assert main(["report", str(run), "--output", "r.md"]) == 0
    written = (tmp_path / "r.md").read_text()
    assert f"({static:.3f})" in written
    assert "The logits divided by one number" in written
    (subject,) = gather([run])[0]
    assert subject.state.trials[0].value == RunDirectory(run).result()["splits"]["valid"]["metrics"]["loss"]
    shown = [part for part in render(subject.state) if getattr(part, "title", "") == "Scored otherwise"]
    assert len(shown) == 1


@pytest.mark.slow
def test_a_page_shows_rows(run, tmp_path):
    evaluate(run, rows=["temperature"], overrides=["temperature.tau=0.9"])
    assert main(["report", str(run), "--output", str(tmp_path / "r.html"), "--no-samples"]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "<h3>Scored otherwise</h3>" in page
    assert "The logits divided by one number" in page


def test_a_row_is_replaced_by_a_later_one_of_its_method_and_split(run):
    for split, tau in (("test", 0.8), ("valid", 0.7), ("test", 0.9)):
        evaluate(run, split, rows=["temperature"], overrides=[f"temperature.tau={tau}"])
    kept = [(row["split"], row["parameters"]["tau"]) for row in read_rows(RunDirectory(run))]
    assert kept == [("valid", 0.7), ("test", 0.9)]


DAMAGED = [
    ("metrics", {"ppl": 10**400}),
    ("static", {"ppl": "low"}),
    ("figures", [["ppl"]]),
    ("tuned", {"grid": [3]}),
    ("tuned", {"grid": 3}),
    ("parameters", None),
    ("seconds", "long"),
]


def test_a_row_with_a_damaged_entry_is_no_row(run):
    evaluate(run, rows=["temperature"], overrides=["temperature.tau=0.9"])
    kept = json.loads((run / "rows.json").read_text())
    assert len(readable_rows(run)) == 1
    for key, value in DAMAGED:
        (run / "rows.json").write_text(json.dumps({"rows": [{**kept["rows"][0], key: value}]}))
        assert readable_rows(run) == [], key
        with pytest.raises(RequestError, match=r"rows\.json: holds what is not a row"):
            read_rows(RunDirectory(run))


@pytest.mark.parametrize("text", ["[]", "{", '{"rows": [3]}', '{"rows": [{"method": "x"}]}', '{"rows": {}}'])
def test_damaged_rows_are_named_and_spoil_no_report(run, text, tmp_path, capsys):
    (run / "rows.json").write_text(text)
    assert main(["eval", str(run)]) == 2
    assert "rows.json" in capsys.readouterr().err
    assert main(["report", str(run), "--output", str(tmp_path / "r.md")]) == 0


def test_rows_of_an_unfinished_run_are_shown_and_not_kept(run, capsys):
    (run / "result.json").unlink()
    assert len(evaluate(run, rows=["temperature"], overrides=["temperature.tau=0.9"])["rows"]) == 1
    assert not (run / "rows.json").exists()
    assert "not finished" in capsys.readouterr().err
