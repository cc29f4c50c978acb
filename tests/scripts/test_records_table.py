"""scripts/records.py lets in what beats a record, and says why it leaves out the rest."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import records


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty table in a folder of its own."""
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    monkeypatch.setattr(records, "ROWS", tmp_path / "records" / "rows.json")
    monkeypatch.setattr(records, "PAGE", tmp_path / "RECORDS.md")
    return tmp_path


def a_run(folder: Path, seconds: float = 600.0, ppl: float = 95.0, **changed: Any) -> Path:
    """A finished run of PTB words by its files; `changed` are facts of the last attempt's environment."""
    environment = {
        "git": {"revision": "a" * 40, "diff": ""},
        "gpus": [],
        "threads": 2,
        "cpu": "a CPU",
        **changed,
    }
    record = {
        "format": 1,
        "identity": {"name": "x", "hash8": f"{int(seconds):08x}", "seed": 0},
        "config": {"data": {"corpus": "ptb_word"}, "trainer": {"accelerator": "cpu"}},
        "attempts": [
            {"command": "__main__.py train experiment=x paths.root=/lab", "environment": environment}
        ],
    }
    result = {
        "outcome": "done",
        "seconds": {"fit": seconds},
        "parameters": 2_492_400,
        "finished": "2026-11-27T12:00:00+00:00",
        "splits": {"test": {"metrics": {"ppl": ppl}}},
    }
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "metrics.csv").write_text(
        "step,epoch,val/loss,time/epoch_seconds\n5,0,5.5,\n5,0,,30.5\n10,1,5.25,\n10,1,,31.5\n"
    )
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    monkeypatch.setattr("sys.argv", ["records", *map(str, arguments)])
    return records.main()


def rows(table: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((table / "records" / "rows.json").read_text())
    return found


def test_only_a_faster_run_below_the_mark_is_a_row(table, tmp_path, monkeypatch, capsys):
    first = a_run(tmp_path / "first", 600)
    assert run(monkeypatch, first, a_run(tmp_path / "slower", 700), a_run(tmp_path / "faster", 500)) == 0
    assert [row["seconds"] for row in rows(table)] == [600, 500]
    run(monkeypatch, a_run(tmp_path / "worse", 100, ppl=100.5))
    assert [row["seconds"] for row in rows(table)] == [600, 500]
    said = capsys.readouterr().out
    assert "700 s, and the record is 600 s" in said
    assert "test ppl is 100.5, above 100" in said


@pytest.mark.parametrize(
    ("changed", "why"), [({"threads": 4}, "it had 4 threads, not 2"), ({"gpus": ["a GPU"]}, "")]
)
def test_the_machine_is_of_the_marks_kind(table, tmp_path, monkeypatch, capsys, changed, why):
    run(monkeypatch, a_run(tmp_path / "run", **changed))
    assert len(rows(table)) == (why == "")  # a machine may have a GPU and train beside it
    assert why in capsys.readouterr().out


def test_code_that_is_in_no_commit_is_refused(table, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="not that of a commit"):
        run(monkeypatch, a_run(tmp_path / "run", git={"revision": "a" * 40, "diff": "+x"}))


def test_the_page_shows_the_row_and_is_checked_against_it(table, tmp_path, monkeypatch):
    run(monkeypatch, a_run(tmp_path / "run", 612.4))
    page = (table / "RECORDS.md").read_text()
    assert (
        "| 612 | 95 | 2,492,400 | 2026-11-27 | `aaaaaaaaa` | `gatelab train experiment=x` | a CPU |" in page
    )
    assert page.count("No record yet.") == len(records.MARKS) - 1
    log = (table / rows(table)[0]["log"]).read_text()
    assert log == "epoch,val/loss,time/epoch_seconds\n1,5.5,30.5\n2,5.25,31.5\n"
    assert run(monkeypatch, "--check") == 0
    (table / "RECORDS.md").write_text(page.replace("612", "611"))
    assert run(monkeypatch, "--check") == 1
