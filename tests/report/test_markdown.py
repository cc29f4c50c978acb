"""Markdown and CSV hold the same figures as the leaderboard."""

import csv
import io

from gatelab.report.gather import gather
from gatelab.report.markdown import to_markdown, to_table
from gatelab.study.analysis.leaderboard import columns, leaderboard, to_csv


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_csv_is_that_of_each_study_below_the_other(grid, make_run):
    make_run("a", "aaaaaaaa", 0, 1.25)
    subjects, _ = gather([grid, make_run.root / "runs" / "a"])
    table = rows(to_table(subjects))
    assert [row["study"] for row in table] == 6 * ["grid"] + ["a"]
    for subject in subjects:
        own = rows(to_csv(subject.state, leaderboard(subject.state)))
        found = [row for row in table if row["study"] == subject.state.name]
        assert [{key: row[key] for key in own[0]} for row in found] == own


def test_the_markdown_has_every_row_of_the_leaderboard(grid):
    subjects, _ = gather([grid])
    text = to_markdown(subjects, "Title")
    assert text.startswith("# Title\n")
    cells = columns(subjects[0].state, leaderboard(subjects[0].state)).values()
    assert [
        line
        for line in text.splitlines()
        if line in {f"| {' | '.join(row)} |" for row in zip(*cells, strict=True)}
    ]
    assert text.count("\n| ") >= 6


def test_what_could_not_be_read_and_what_has_no_value_is_said(make_run):
    make_run("a", "aaaaaaaa", 0, state="failed", error="no")
    subjects, _ = gather([make_run.root])
    text = to_markdown(subjects, "Title", ["x: broken"])
    assert "1 failed" in text
    assert "Not read: x: broken" in text
