"""`gatelab rm` removes what it showed after a yes, and nothing that a study, a record or a process needs."""

import sys
from pathlib import Path

import pytest

from gatelab.cli.main import main
from gatelab.run.record.directory import RunDirectory

pytestmark = pytest.mark.ci


@pytest.fixture
def root(tmp_path, monkeypatch, grid):
    """The finished study `grid` with its 18 runs, and two runs of no study."""
    for name in ("1a2b3c4d-s0", "1a2b9999-s0"):
        folder = tmp_path / "runs" / "alone" / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "run.json").write_text('{"config": {}, "attempts": []}')
    for run in runs_of(grid):
        (run / "run.json").write_text('{"config": {}, "attempts": []}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(root):
    return {p.relative_to(root) for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}


def runs_of(grid):
    from gatelab.study.analysis.read import read_study

    return [run.directory for trial in read_study(grid).trials for run in trial.runs]


def test_a_run_goes_by_a_unique_beginning_and_only_after_a_yes(root, monkeypatch, capsys):
    before = files(root)
    assert main(["rm", "1a2b"]) == 2
    assert "1a2b3c4d-s0" in (said := capsys.readouterr().err)
    assert "1a2b9999-s0" in said
    assert main(["rm", "1a2b3"]) == 2  # nobody to ask
    for answer, code in (("", 1), ("n", 1), ("y", 0)):
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert files(root) == before
        assert main(["rm", "1a2b3"]) == code
    assert files(root) == before - {Path("runs/alone/1a2b3c4d-s0/run.json")}


def test_what_a_study_a_record_or_a_process_needs_stays(root, grid, capsys):
    before, (one, *_) = files(root), runs_of(grid)
    assert main(["rm", str(one), "1a2b3", "--yes"]) == 2
    assert "the study grid needs it" in capsys.readouterr().err
    record = root / "experiments" / "001-sizes"
    record.mkdir(parents=True)
    (record / "results.csv").write_text("study,run\ngrid,alone/1a2b3c4d-s0\n")
    before |= {Path("experiments/001-sizes/results.csv")}
    for given in (["1a2b3"], ["grid"], ["grid", "--runs"], ["grid", "1a2b9"]):
        assert main(["rm", *given, "--yes"]) == 2
        assert "experiments/001-sizes" in capsys.readouterr().err
    with RunDirectory("runs/alone/1a2b9999-s0").locked():
        assert main(["rm", "1a2b9", "--yes"]) == 2
        assert "is training this run now" in capsys.readouterr().err
    assert files(root) == before


def test_a_study_goes_without_its_runs_or_with_those_of_no_other_study(root, grid, capsys):
    its = runs_of(grid)
    assert main(["rm", "grid", "--yes"]) == 0
    assert f"{len(its)} runs of the study stay" in capsys.readouterr().out
    assert not grid.exists()
    assert all(run.is_dir() for run in its)


def test_a_study_goes_with_its_runs(root, grid):
    its = runs_of(grid)
    assert main(["rm", "grid", "--runs", "--yes"]) == 0
    assert not any(run.exists() for run in its)
    assert files(root) == {Path(f"runs/alone/1a2b{end}-s0/run.json") for end in ("3c4d", "9999")}


@pytest.mark.parametrize("given", ["nothing", "", ".", "runs"])
def test_what_is_no_run_and_no_study_is_named(given, root, capsys):
    before = files(root)
    assert main(["rm", given, "--yes"]) == 2
    assert capsys.readouterr().err
    assert files(root) == before


def test_what_a_study_names_elsewhere_stays(root, grid, tmp_path, capsys):
    its, elsewhere = runs_of(grid), tmp_path.parent / f"{tmp_path.name}-elsewhere"
    its[0].parent.rename(elsewhere)  # a link stands for any place that a stranger's study names
    its[0].parent.symlink_to(elsewhere)
    before = files(elsewhere)
    assert main(["rm", "grid", "--runs", "--yes"]) == 0
    assert "lie elsewhere" in capsys.readouterr().out
    assert files(elsewhere) == before
