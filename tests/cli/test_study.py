"""`gatelab study`: one study, all studies, JSON, watching, and what goes wrong."""

import importlib.util
import json
from pathlib import Path

import pytest

from gatelab.cli.main import main

SPEC = importlib.util.spec_from_file_location("made", Path(__file__).parents[1] / "studies_by_hand.py")
made = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(made)


@pytest.fixture
def root(tmp_path):
    """A folder with the finished study `sizes`."""
    trials = [{"params": {"model.hidden_size": h}, "values": [8 / h, 9 / h]} for h in (8, 16)]
    made.Maker(tmp_path)("sizes", [made.choice("model.hidden_size", 8, 16)], trials, seeds=[0, 1])
    return tmp_path


def test_a_study_is_shown_as_a_table_that_can_be_pasted(root, capsys):
    assert main(["study", "sizes", f"paths.root={root}"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("sizes: finished, 2 of 2 trials done")
    assert "| hidden_size |" in text
    assert "mportance" not in text  # of one parameter there is nothing to say


def test_json_is_one_document(root, capsys):
    assert main(["study", "sizes", f"paths.root={root}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best"]["number"] == 1
    assert [trial["state"] for trial in found["trials"]] == ["done", "done"]


def test_without_a_name_the_studies_are_listed(root, capsys):
    (root / "studies" / "broken").mkdir()
    (root / "studies" / "broken" / "study.json").write_text("{")
    assert main(["study", f"paths.root={root}"]) == 0
    text = capsys.readouterr().out
    assert "sizes" in text
    assert "unreadable" in text
    assert main(["study", f"paths.root={root}", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(s["name"], s["state"]) for s in listed] == [("broken", "unreadable"), ("sizes", "finished")]
    assert "study.json" in listed[0]["error"]


def test_an_unknown_study_is_named_with_the_nearest(root, capsys):
    assert main(["study", "sizse", f"paths.root={root}"]) == 2
    assert "Did you mean 'sizes'?" in capsys.readouterr().err


def test_where_there_are_no_studies_that_is_said(tmp_path, capsys):
    assert main(["study", f"paths.root={tmp_path}"]) == 0
    assert "no studies below" in capsys.readouterr().out
    assert main(["study", "x", f"paths.root={tmp_path}"]) == 2
    assert "There are none." in capsys.readouterr().err


def test_a_folder_is_as_good_as_a_name(root, capsys):
    assert main(["study", str(root / "studies" / "sizes")]) == 0
    assert capsys.readouterr().out.startswith("sizes: finished")


@pytest.mark.parametrize(
    "arguments", [["a", "b"], ["a", "model=gru"], ["a", "--x", "lr"], ["--watch"], ["--write"]]
)
def test_wrong_requests_exit_with_2(arguments, capsys, tmp_path):
    assert main(["study", *arguments, f"paths.root={tmp_path}"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_watching_a_finished_study_ends_at_once(root, capsys):
    assert main(["study", "sizes", f"paths.root={root}", "--watch"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("sizes: finished")
    assert captured.out.startswith("sizes: finished")


def test_the_report_is_written_on_request_only(root, capsys):
    assert main(["study", "sizes", f"paths.root={root}"]) == 0
    folder = root / "studies" / "sizes"
    assert not (folder / "study.png").exists()
    assert main(["study", "sizes", f"paths.root={root}", "--write", "--x", "hidden_size"]) == 0
    assert (folder / "study.png").is_file()
    assert "experiment=best" in capsys.readouterr().out


def test_an_unreadable_journal_is_named(root, capsys):
    journal = root / "studies" / "sizes" / "journal.log"
    journal.write_bytes(b"{\n" + journal.read_bytes())
    assert main(["study", "sizes", f"paths.root={root}"]) == 2
    assert "journal.log: line 1 is damaged" in capsys.readouterr().err
