"""The report: its files, valid JSON, and that it can be written again."""

import csv
import json

from gatelab.report.files import write_report
from gatelab.report.text import cost, failures, headline, render, summary
from gatelab.study.analysis.read import read_study

FILES = ["leaderboard.csv", "summary.json", "study.png", "experiment/best.yaml"]


def test_the_report_is_four_files_and_a_command(grid):
    lines = write_report(grid)
    assert all((grid / name).is_file() for name in FILES)
    assert all(any(str(grid / name) in line for line in lines) for name in FILES)
    assert "gatelab train --config-dir" in lines[-1]
    assert not list(grid.rglob("*.tmp"))


def test_writing_it_again_changes_nothing(grid):
    write_report(grid)
    before = {name: (grid / name).read_bytes() for name in FILES if name != "summary.json"}
    write_report(grid)
    assert {name: (grid / name).read_bytes() for name in before} == before


def test_the_report_of_an_empty_study_has_what_there_is(make_study):
    folder = make_study("s", [], [])
    write_report(folder)
    assert json.loads((folder / "summary.json").read_text())["state"] == "empty"
    assert not (folder / "study.png").exists()


def test_the_summary_has_each_trial_with_its_runs(grid):
    found = json.loads(json.dumps(summary(read_study(grid)), allow_nan=False))
    assert found["counts"] == {"done": 6, "running": 0, "pruned": 0, "failed": 0, "waiting": 0}
    assert found["best"]["params"] == {"model": "gru", "model.hidden_size": 128}
    assert len(found["trials"]) == 6
    for trial in found["trials"]:
        assert {"number", "state", "params", "value", "run_dir"} <= set(trial)
        assert len(trial["runs"]) == 3
    assert found["best"]["rank"] == 1
    assert [share["key"] for share in found["importance"]["shares"]] == ["model", "model.hidden_size"]


def test_what_json_does_not_know_becomes_null(make_study, entries):
    choice, _ = entries
    infinite = {"params": {"a": 1}, "values": [float("inf")]}
    running = {"params": {"a": 2}, "state": "running", "reported": [float("nan")], "owner": "w/0"}
    found = summary(read_study(make_study("s", [choice("a", 1, 2)], [infinite, running])))
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["trials"][0]["value"] is None


def test_a_diverged_trial_spoils_neither_table_nor_picture(make_study, entries):
    choice, _ = entries
    values = {1: float("inf"), 2: 1.0, 3: 1.5}
    trials = [{"params": {"model.num_layers": n}, "values": [value]} for n, value in values.items()]
    folder = make_study("s", [choice("model.num_layers", 1, 2, 3)], trials)
    write_report(folder)
    rows = list(csv.DictReader((folder / "leaderboard.csv").read_text().splitlines()))
    assert [row["trial"] for row in rows] == ["1", "2", "0"]
    assert (folder / "study.png").is_file()


def test_the_headline_counts_what_there_is(grid):
    assert headline(read_study(grid)) == "grid: finished, 6 of 6 trials done"
    assert cost(read_study(grid)) == "1 min 52 s of training, 18 finished runs, 1 slot 100% busy"


def test_a_study_that_failed_too_often_says_what_lets_it_go_on(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"a": n}, "state": state} for n, state in enumerate(["failed", "failed", "waiting"])]
    line = headline(read_study(make_study("s", [choice("a", 0, 1, 2)], trials, max_failures=2)))
    assert line.endswith("study.max_failures=2 is reached: a larger one continues it")


def test_failures_are_told_with_their_errors_and_logs(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"a": n}, "state": "failed", "error": f"ValueError: {n}"} for n in range(8)]
    folder = make_study("s", [choice("a", *range(8))], trials)
    lines = list(failures(read_study(folder)))
    assert str(folder / "trials") in lines[0]
    assert "trial 0: ValueError: 0" in lines[1]
    assert lines[-1].strip() == "and 3 more"
    assert any("failed" in str(part) for part in render(read_study(folder)))
