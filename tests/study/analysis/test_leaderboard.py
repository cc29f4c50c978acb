"""The leaderboard: order, marks, the sentence about chance, CSV."""

import csv
import io

import pytest
from rich.console import Console

from gatelab.study.analysis.leaderboard import answer, leaderboard, table, to_csv, verdict
from gatelab.study.analysis.read import read_study


def shown(state, rows, limit=None):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table(state, rows, limit))
    return console.export_text()


def test_rows_are_sorted_by_mean_and_ranked(grid):
    rows = leaderboard(read_study(grid))
    assert [row.summary.mean for row in rows] == sorted(row.summary.mean for row in rows)
    assert [row.rank for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.front for row in rows] == [True, False, False, False, False, False]


def test_a_maximised_metric_is_sorted_downwards(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"a": n}, "values": [float(n)]} for n in range(4)]
    folder = make_study("s", [choice("a", 0, 1, 2, 3)], trials, objectives=["val/accuracy:maximize"])
    assert [row.trial.number for row in leaderboard(read_study(folder))] == [3, 2, 1, 0]


def test_a_row_is_the_same_where_its_paired_difference_is_chance(grid):
    state = read_study(grid)
    rows = leaderboard(state)
    # 64 against 128, gru: mean difference 0.02, deviation of the differences 0.0361: t = 0.96, p = 0.44
    assert rows[1].p == pytest.approx(0.4383, abs=1e-3)
    assert [row.rank for row in rows if row.same] == [2]
    assert verdict(state, rows) == (
        "1 of the 5 other rows (=) cannot be told from the best (paired t-test over 3 common seeds, p > 0.05, "
        "each row by itself)."
    )
    assert " 2= " in shown(state, rows)
    assert " 3 " in shown(state, rows)


def test_with_one_run_a_point_nothing_is_said_about_chance(make_study, entries):
    choice, _ = entries
    folder = make_study("s", [choice("a", 0, 1)], [{"params": {"a": n}, "values": [1.0 + n]} for n in (0, 1)])
    state = read_study(folder)
    rows = leaderboard(state)
    assert not any(row.same for row in rows)
    assert "cannot be told (study.seeds" in verdict(state, rows)
    assert " sd " not in shown(state, rows)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([[9.0, 9.1, 9.3]], "Every other row is distinguishably worse"),
        ([[9.0, 9.1, 9.3], [9.0]], "Every other row that can be tested is distinguishably worse"),
        ([[9.0]], "No other row has two finite runs in common with the best"),
    ],
)
def test_only_rows_that_can_be_tested_are_called_worse(make_study, entries, others, words):
    choice, _ = entries
    values = [[1.0, 1.1, 1.2], *others]
    trials = [{"params": {"a": n}, "values": mine} for n, mine in enumerate(values)]
    state = read_study(make_study("s", [choice("a", *range(len(values)))], trials, seeds=[0, 1, 2]))
    assert verdict(state, leaderboard(state)).startswith(words)


@pytest.mark.parametrize(("count", "words"), [(0, "No trial has finished"), (1, "nothing to compare")])
def test_the_verdict_on_none_and_one(make_study, entries, count, words):
    choice, _ = entries
    trials = [{"params": {"a": 0}, "values": [1.0]}][:count]
    state = read_study(make_study("s", [choice("a", 0)], trials))
    assert words in verdict(state, leaderboard(state))


def test_folds_are_compared_fold_by_fold(make_study, entries):
    choice, _ = entries
    trials = [
        {"params": {"a": 0}, "values": [1.0, 5.0, 1.0, 5.0]},
        {"params": {"a": 1}, "values": [1.2, 5.2, 1.2, 5.2]},
    ]
    state = read_study(make_study("s", [choice("a", 0, 1)], trials, seeds=[0, 1], folds=2))
    rows = leaderboard(state)
    assert [row.summary.n for row in rows] == [2, 2]
    assert rows[1].p < 0.05  # every fold is worse by the same amount
    assert "2 common folds" in verdict(state, rows)


def test_the_pareto_front_comes_first_and_is_marked(make_study, entries):
    choice, _ = entries
    points = [(1.0, 900.0), (2.0, 100.0), (1.5, 950.0), (3.0, 200.0)]
    trials = [
        {"params": {"a": n}, "values": [p[0]], "objectives": list(p), "parameters": int(p[1])}
        for n, p in enumerate(points)
    ]
    asked = ["val/loss:minimize", "parameters:minimize"]
    state = read_study(make_study("s", [choice("a", 0, 1, 2, 3)], trials, objectives=asked))
    rows = leaderboard(state)
    assert [(row.trial.number, row.front) for row in rows] == [(0, True), (1, True), (2, False), (3, False)]
    assert verdict(state, rows).startswith("2 of 4 trials are on the Pareto front")
    text = shown(state, rows)
    assert " 1* " in text
    assert text.count("parameters") == 1


def test_a_conditional_parameter_stays_blank_where_it_is_absent(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"m": "a"}, "values": [1.0]}, {"params": {"m": "b", "m.depth": 3}, "values": [2.0]}]
    state = read_study(make_study("s", [choice("m", "a", "b"), choice("m.depth", 3)], trials))
    first, second = csv.DictReader(to_csv(state, leaderboard(state)).splitlines())
    assert (first["m.depth"], second["m.depth"]) == ("", "3")


def test_the_csv_has_every_trial_once(make_study, entries):
    choice, _ = entries
    trials = [
        {"params": {"a": 0}, "state": "failed", "error": "ValueError: a, b"},
        {"params": {"a": 1}, "values": [2.0, 4.0], "seconds": 3.0, "parameters": 5},
        {"params": {"a": 2}, "state": "waiting"},
        {"params": {"a": 3}, "values": [1.0, 1.5]},
    ]
    state = read_study(make_study("s", [choice("a", 0, 1, 2, 3)], trials, seeds=[0, 1]))
    rows = list(csv.DictReader(to_csv(state, leaderboard(state)).splitlines()))
    assert [row["trial"] for row in rows] == ["3", "1", "0", "2"]
    assert [row["state"] for row in rows] == ["done", "done", "failed", "waiting"]
    assert [row["rank"] for row in rows] == ["1", "2", "", ""]
    assert rows[2]["error"] == "ValueError: a, b"
    assert float(rows[1]["val/loss"]) == 3.0
    assert len(rows[1]["runs"].split()) == 2


def test_a_long_leaderboard_says_how_much_is_missing(grid):
    state = read_study(grid)
    text = shown(state, leaderboard(state), limit=2)
    assert "and 4 more" in text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1.3, 1.31], [1.0, 1.02], [1.2, 1.21]], ["a 2 is best, loss 1.01", "3 is worse, p =", "3 was the largest"]),
        ([[1.3, 1.31], [1.2, 1.22], [1.1, 1.11]], ["a 3 is best", "3 was the largest a tried, so"]),
        ([[1.0, 1.31], [1.2, 1.22], [1.3, 1.31]], ["a 1 is best", "2 cannot be told from it", "1 was the smallest"]),
        ([[1.0], [1.2], [1.3]], ["2 comes next, 1.2", "1 was the smallest"]),
        ([[1.3], [1.0], [1.0]], ["a 2 is best", "3 is exactly as good"]),
        ([[1.0, 1.1], [1.0, 1.1], [1.0, 1.1]], ["a 1 is best", "2 and 1 more are exactly as good"]),
    ],
)  # fmt: skip
def test_the_answer_names_the_best_the_next_and_the_edge(make_study, entries, values, said):
    choice, _ = entries
    trials = [{"params": {"a": n + 1}, "values": v} for n, v in enumerate(values)]
    seeds = list(range(len(values[0])))
    state = read_study(
        make_study("s", [choice("a", 1, 2, 3)], trials, seeds=seeds, objectives=["val/loss:minimize"])
    )
    text = answer(state, leaderboard(state))
    assert [part for part in said if part not in text] == [], text


def test_the_answer_on_words_names_no_edge(make_study, entries):
    choice, _ = entries
    trials = [{"params": {"m": name}, "values": [1.0 + n]} for n, name in enumerate(("gru", "rnn", "lstm"))]
    state = read_study(make_study("s", [choice("m", "gru", "rnn", "lstm")], trials))
    assert answer(state, leaderboard(state)).startswith("m gru is best")
    assert "tried" not in answer(state, leaderboard(state))


@pytest.mark.parametrize("count", [0, 1])
def test_there_is_no_answer_without_two_points(make_study, entries, count):
    choice, _ = entries
    state = read_study(make_study("s", [choice("a", 0)], [{"params": {"a": 0}, "values": [1.0]}][:count]))
    assert answer(state, leaderboard(state)) == ""
