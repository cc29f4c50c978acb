"""A record of studies: written once, checked without the studies, and drift is found and named."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from gatelab.report.experiment_record import (
    check_record,
    record_target,
    render,
    shown_command,
    unpack,
    without_paths,
    write_record,
)
from gatelab.report.final_scores import scores
from gatelab.run import RequestError
from gatelab.study.analysis.importance import importance
from gatelab.study.analysis.leaderboard import leaderboard
from gatelab.study.analysis.read import read_study

from ..studies_by_hand import Maker

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "Which hidden size for this data, and which cell?"
CONCLUSION = "Take the GRU at 128.\n\nAt 64 the RNN is behind."


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    place = tmp_path_factory.mktemp("written")
    write_record([Maker(place).grid("grid")], place / "002-hidden-size", QUESTION, CONCLUSION)
    return place / "002-hidden-size"


@pytest.fixture
def record(written, tmp_path):
    """The record of `grid`, a copy."""
    return Path(shutil.copytree(written, tmp_path / "experiments" / "002-hidden-size"))


def test_a_record_is_whole_and_in_order(record):
    assert sorted(p.name for p in record.iterdir()) == [
        "README.md",
        "figure.png",
        "record.json",
        "results.csv",
    ]
    page = (record / "README.md").read_text()
    sections = re.findall(r"^(?:#+ |\*\*)(Question|Command|Result|Conclusion|Versions)\b", page, re.M)
    assert sections == ["Question", "Command", "Result", "Conclusion", "Versions"]
    assert CONCLUSION in page
    assert page.startswith("# 002: hidden size\n")
    assert QUESTION in page
    assert "```bash\ngatelab sweep study=grid\n```" in page
    assert "unigram 3, bigram 1.9" in page
    assert "(=) cannot be told from the best" in page
    assert check_record(record) == []


def test_the_results_have_a_row_for_each_run(record, grid):
    rows = list(csv.DictReader((record / "results.csv").read_text().splitlines()))
    assert len(rows) == 6 * 3
    assert {(row["trial"], row["seed"]) for row in rows} == {
        (str(t), str(s)) for t in range(6) for s in range(3)
    }
    state = read_study(grid)
    values = [run.value for trial in state.trials for run in trial.runs]
    assert [float(row["value"]) for row in rows] == values


def test_the_studies_come_back_as_they_were(record, grid):
    (back,) = unpack(record)
    there = read_study(grid)
    assert [(r.trial.number, r.summary, r.p) for r in leaderboard(back)] == [
        (r.trial.number, r.summary, r.p) for r in leaderboard(there)
    ]
    assert importance(back) == importance(there)
    assert [dict(t.params) for t in back.trials] == [dict(t.params) for t in there.trials]
    assert [t.seconds for t in back.trials] == pytest.approx([t.seconds for t in there.trials], abs=0.01)


def test_what_each_cell_cost_is_stated(record):
    page = (record / "README.md").read_text()
    assert "| gru | 9 | 56 s | 6.2 s | 3,072 to 49,152 |" in page
    assert "| all | 18 | 1 min 52 s | 6.2 s | 3,072 to 49,152 |" in page


def test_the_figure_knows_its_data(record):
    with Image.open(record / "figure.png") as image:
        assert re.fullmatch(r"[0-9a-f]{64}", image.info["Description"])


def altered(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("README.md", "1.400 ± 0.025", "1.300 ± 0.025", r"README\.md, line \d+: says .*1\.300"),
        ("results.csv", "grid,0,done,0,,gru,32,1.6,", "grid,0,done,0,,gru,32,1.1,", "the data say"),
        ("results.csv", "grid,5,done,2", "grid,4,done,2", "is done without its 3 runs"),
        ("record.json", QUESTION, "Which?", r"README\.md, line \d+: says .*for this data"),
        ("record.json", '"objectives"', '"objective"', "record.json is damaged .KeyError: 'objectives'"),
        ("README.md", "<!-- end of the", "<!-- the end of the", "must stand between"),
    ],
)
def test_drift_is_found_and_named(record, file, old, new, problem):
    altered(record / file, old, new)
    found = check_record(record)
    assert any(re.search(problem, text) for text in found), found


def test_a_figure_of_other_data_is_found(record):
    with Image.open(record / "figure.png") as image:
        image.save(record / "figure.png")
    assert check_record(record) == ["figure.png: was drawn from other data"]


@pytest.mark.parametrize("name", ["README.md", "figure.png", "results.csv"])
def test_a_missing_file_is_named(record, name):
    (record / name).unlink()
    assert check_record(record) == [f"{name}: missing"]


def test_the_conclusion_is_written_by_hand_and_kept(record, grid):
    altered(record / "README.md", CONCLUSION, "A better conclusion.")
    assert check_record(record) == []
    write_record([grid], record)
    assert "A better conclusion." in (record / "README.md").read_text()
    assert QUESTION in (record / "README.md").read_text()
    altered(record / "record.json", QUESTION, "Which?")
    render(record)
    assert "**Question.** Which?" in (record / "README.md").read_text()
    assert check_record(record) == []


def test_without_words_it_asks_what_was_searched_and_concludes_what_was_measured(grid, tmp_path):
    write_record([grid], tmp_path / "002-x")
    page = (tmp_path / "002-x" / "README.md").read_text()
    assert "**Question.** grid: which model and hidden size for the best val/loss?" in page
    assert "other rows (=) cannot be told from the best" in page.partition("## Conclusion")[2]


def test_several_studies_share_a_page(grid, make_study, entries, tmp_path):
    _, interval = entries
    trials = [
        {"params": {"optim.lr": 0.1 / n}, "values": [1.0 / n], "seconds": 1.0, "parameters": 9}
        for n in range(1, 4)
    ]
    trials.append({"params": {"optim.lr": 0.5}, "state": "failed", "error": "OSError: /home/me/secret/x.csv"})
    other = make_study("rates", [interval("optim.lr", 0.001, 1.0, True)], trials)
    target = tmp_path / "003-two"
    write_record([grid, other], target, QUESTION, "So.")
    page = (target / "README.md").read_text()
    assert "### grid" in page
    assert "### rates" in page
    assert "Failed: trial 3 (OSError: x.csv)." in page
    assert "/home" not in page + (target / "results.csv").read_text()
    assert check_record(target) == []


def test_folds_and_several_objectives_survive(make_study, entries, tmp_path):
    choice, _ = entries
    trials = [
        {"params": {"a": [1, 2][n]}, "values": [1.0 + n, 2.0, 3.0, 4.0], "objectives": [2.5 + n / 4, 7.0 - n]}
        for n in (0, 1)
    ]
    asked = ["val/loss:minimize", "seconds:minimize"]
    folder = make_study("s", [choice("a", 1, 2)], trials, objectives=asked, seeds=[0, 1], folds=2)
    write_record([folder], tmp_path / "004-folds", QUESTION, "So.")
    (back,) = unpack(tmp_path / "004-folds")
    assert [t.values for t in back.trials] == [t.values for t in read_study(folder).trials]
    assert [(run.fold, run.seed) for run in back.trials[0].runs] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert check_record(tmp_path / "004-folds") == []


@pytest.mark.parametrize(("studies", "message"), [(0, "give studies"), (2, "different names")])
def test_wrong_requests_are_refused(grid, tmp_path, studies, message):
    with pytest.raises(RequestError, match=message):
        write_record([grid] * studies, tmp_path / "002-x")
    assert not (tmp_path / "002-x").exists()


def test_a_name_that_cannot_be_a_record_s_is_refused():
    with pytest.raises(RequestError, match="NNN-slug"):
        record_target("Hidden Size")


def test_a_name_alone_means_a_record_in_experiments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments" / "004-other").mkdir(parents=True)
    assert record_target("003-hidden-size") == Path("experiments/003-hidden-size")
    assert record_target("hidden-size") == Path("experiments/005-hidden-size")
    assert record_target("elsewhere/003-hidden-size") == Path("elsewhere/003-hidden-size")


def test_scores_of_another_kind_stand_beside_the_static_ones_where_they_have_the_figure(tmp_path):
    loss, bpb = ({"name": name, "better": "min"} for name in ("loss", "bpb"))
    row = dict.fromkeys(("title", "what", "checkpoint", "scored"), "")
    row |= {"method": "cache", "split": "test", "metrics": {"loss": 4.0}, "static": {"loss": 5.0}}
    row |= {"figures": ["loss", "bpb"], "parameters": {}, "tuned": None, "seconds": 1.0}
    kept = {"config": {}, "attempts": [{}], "task": {"metrics": [loss, bpb]}}
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, **kept}))
    (tmp_path / "rows.json").write_text(json.dumps({"format": 1, "rows": [row]}))
    result = {"splits": {"test": {"metrics": {"loss": 5.0}}}}
    assert scores(tmp_path, result) == {"test/loss": 5.0, "test/loss by cache": 4.0}


def test_a_study_that_is_not_finished_is_refused(make_study, entries, tmp_path):
    choice, _ = entries
    trials = [{"params": {"a": 1}, "values": [1.0]}, {"params": {"a": 2}, "state": "waiting"}]
    folder = make_study("s", [choice("a", 1, 2)], trials)
    with pytest.raises(RequestError, match="the study is stopped"):
        write_record([folder], tmp_path / "002-x", "q", "c")


def test_commands_are_shown_without_the_places_of_a_machine():
    command = "/opt/x/bin/gatelab sweep study=s model.hidden_size=8,16 paths.root=/data/me data.path=/home/me/my.csv"
    assert shown_command(command) == "gatelab sweep study=s model.hidden_size=8,16 data.path=my.csv"
    assert shown_command("scripts/train.py -m 'optim.lr=tag(log,interval(1e-4,1))'") == (
        "python scripts/train.py -m 'optim.lr=tag(log,interval(1e-4,1))'"
    )
    assert (
        without_paths("val/loss of /a/b/c.csv at https://x.org/y/z")
        == "val/loss of c.csv at https://x.org/y/z"
    )


def test_the_script_checks_records_and_fails_on_drift(record, monkeypatch, capsys):
    from scripts.checks import experiments

    monkeypatch.setattr("sys.argv", ["experiments", str(record)])
    assert experiments.main() == 0
    assert capsys.readouterr().out.startswith("ok     002-hidden-size\n")
    altered(record / "README.md", "1.400", "1.300")
    assert experiments.main() == 1
    assert "FAILED 002-hidden-size" in capsys.readouterr().out


def test_the_records_of_this_project_hold():
    records = sorted(file.parent for file in (ROOT / "experiments").glob("*/record.json"))
    assert {record.name: check_record(record) for record in records} == {
        record.name: [] for record in records
    }
    assert all(json.loads((record / "record.json").read_text())["format"] == 2 for record in records)


def test_scores_of_the_test_split_stand_beside_trivial_models(grid, tmp_path):
    for number, run in enumerate(run for trial in read_study(grid).trials for run in trial.runs):
        file = run.directory / "result.json"
        result = json.loads(file.read_text())
        metrics, models = {"loss": 2.0 + number, "tokens": 50.0}, {"unigram": {"loss": 3.5}}
        result.setdefault("splits", {})["test"] = {"metrics": metrics, "baselines": models}
        file.write_text(json.dumps(result))
        named = [{"name": "loss", "better": "min"}, {"name": "tokens", "better": None}]
        record = {"config": {}, "attempts": [{}], "task": {"metrics": named}}
        (run.directory / "run.json").write_text(json.dumps(record))
    target = tmp_path / "experiments" / "003-with-a-test-split"
    write_record([grid], target, QUESTION, CONCLUSION)
    rows = list(csv.DictReader((target / "results.csv").read_text().splitlines()))
    assert [float(row["test/loss"]) for row in rows] == [2.0 + n for n in range(18)]
    assert "test/tokens" not in rows[0]
    page = (target / "README.md").read_text()
    assert "|  | model | hidden_size | loss |" in page
    assert "| trial 0 | gru | 32 | 3.0 ± 2.5 |" in page  # 2, 3, 4: t = 4.303, sd = 1
    assert "| unigram |  |  | 3.5 |" in page
    assert re.findall(r"\| trial (\d)", page) == ["2", "1", "0", "5", "4", "3"]  # as on the leaderboard
    assert check_record(target) == []
    assert [dict(t.params) for t in unpack(target)[0].trials] == [
        dict(t.params) for t in read_study(grid).trials
    ]
