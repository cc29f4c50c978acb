"""`gatelab report`: formats by name, where the file goes, and what goes wrong."""

from pathlib import Path

import pytest

from gatelab.cli.main import main

RECORD = str(Path(__file__).parents[2] / "experiments" / "002-hidden-size")


def test_the_format_follows_the_files_ending(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.html", "a.md", "a.csv"):
        assert main(["report", RECORD, "--output", f"deep/{name}"]) == 0
    assert "needs no network" in capsys.readouterr().out
    begins = [(tmp_path / "deep" / name).read_text()[:15] for name in ("a.html", "a.md", "a.csv")]
    assert begins == ["<!doctype html>", "# Report: size-", "study,rank,tria"]
    assert main(["report", RECORD, "--format", "md"]) == 0
    assert (tmp_path / "report.md").read_text().startswith("# Report")


def test_a_table_goes_to_stdout_on_request(capsys):
    assert main(["report", RECORD, "--format", "csv", "--output", "-"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 51


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["paths.root=x"], "give at least one"),
        ([RECORD, "--output", "-"], "a page is a file"),
        ([RECORD, "--format", "md", "--output", "x.html"], "let the name end in .md"),
        ([str(Path(RECORD).parent / "001-from-scratch-equals-nn-gru")], "holds no run"),
    ],
)
def test_wrong_requests_exit_with_2_and_name_the_fix(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    assert said in capsys.readouterr().err
