"""`gatelab report`: formats by name, where the file goes, records, and what goes wrong."""

import importlib.util
from pathlib import Path

import pytest

from gatelab.cli.main import main
from gatelab.cli.report import check_output
from gatelab.report.experiment_record import check_record

SPEC = importlib.util.spec_from_file_location("made", Path(__file__).parents[1] / "studies_by_hand.py")
made = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(made)
RECORD = str(Path(__file__).parents[2] / "experiments" / "002-hidden-size")


def test_the_format_follows_the_files_ending(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.html", "a.md", "a.csv"):
        assert main(["report", RECORD, "--output", f"deep/{name}"]) == 0
    assert "needs no network" in capsys.readouterr().out
    begins = [(tmp_path / "deep" / name).read_text()[:15] for name in ("a.html", "a.md", "a.csv")]
    assert begins == ["<!doctype html>", "# Report: size-", "study,rank,tria"]
    for name in ("a.html", "a.md", "a.csv"):
        check_output(tmp_path / "deep" / name, name[2:])  # may be replaced
    assert main(["report", RECORD, "--format", "md"]) == 0
    assert (tmp_path / "report.md").read_text().startswith("# Report")


@pytest.mark.parametrize("name", ["mine.csv", "README.md", "index.html", "report.md"])
@pytest.mark.quick(1, rest="ci")
def test_a_report_replaces_nothing_but_a_report(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    ask = ["--format", "md"] if name == "report.md" else ["--output", name]
    for mine in ("date,load\n2024-01-01,1\n", "# Notes\n", "<!doctype html>\n<title>mine</title>", ""):
        Path(name).write_text(mine)
        assert main(["report", RECORD, *ask]) == 2
        assert "is not a report" in capsys.readouterr().err
        assert Path(name).read_text() == mine
    Path(name).unlink()
    Path(name).mkdir()
    assert main(["report", RECORD, *ask]) == 2
    assert "is not a file" in capsys.readouterr().err


def test_a_table_goes_to_stdout_on_request(capsys):
    assert main(["report", RECORD, "--format", "csv", "--output", "-"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 51


def test_a_record_is_numbered_and_its_conclusion_kept_when_it_is_written_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trials = [{"params": {"model.hidden_size": h}, "values": [8 / h, 9 / h]} for h in (8, 16)]
    made.Maker(tmp_path)("sizes", [made.choice("model.hidden_size", 8, 16)], trials, seeds=[0, 1])
    (tmp_path / "experiments" / "007-other").mkdir(parents=True)
    record = tmp_path / "experiments" / "008-sizes"
    assert main(["report", "sizes", "--record", "sizes", "--conclusion", "Take 16."]) == 0
    assert check_record(record) == []
    page = (record / "README.md").read_text()
    assert "which hidden size for the best val/loss?" in page
    assert "Take 16." in page
    assert not (tmp_path / "report.html").exists()
    (record / "README.md").write_text(page.replace("Take 16.", "Mine."))
    assert main(["report", "sizes", "--record", "sizes", "--output", "x.html"]) == 0
    assert (record / "README.md").read_text() == page.replace("Take 16.", "Mine.")
    assert (tmp_path / "x.html").is_file()
    assert sorted(path.name for path in record.parent.iterdir()) == ["007-other", "008-sizes"]
    capsys.readouterr()
    assert main(["report", str(record), "--record", "again"]) == 2
    assert "sizes is not a study" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["paths.root=x"], "give at least one"),
        ([RECORD, "--output", "-"], "a page is a file"),
        ([RECORD, "--question", "?"], "are for --record"),
        ([RECORD, "--format", "md", "--output", "x.html"], "let the name end in .md"),
        ([str(Path(RECORD).parent / "001-from-scratch-equals-nn-gru")], "holds no run"),
    ],
)
def test_wrong_requests_exit_with_2_and_name_the_fix(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    assert said in capsys.readouterr().err
