"""A result belongs to its code: an edit is told by name, and neither reported over nor mixed in."""

import importlib
import sys

import pytest

from gatelab.run import RequestError
from gatelab.run.diff import environments
from gatelab.run.load import load_task
from gatelab.run.record import code
from gatelab.run.record.directory import RunDirectory
from gatelab.run.train import train

pytestmark = pytest.mark.ci

CELL = "from gatelab import GRU\nfrom own_helper import SCALE\nclass Own(GRU):\n    pass\n"
SMALL = ("experiment=quickstart_series", "threads=1", "model.hidden_size=4", "callbacks=none")


def restarted():
    """As a new process: nothing of the user's is imported."""
    for name in ("own_cell", "own_helper"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_cell.py").write_text(CELL)
    (tmp_path / "own_helper.py").write_text("SCALE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    restarted()


def request(folder, steps=2):
    return [*SMALL, "model._target_=own_cell.Own", f"trainer.max_steps={steps}", f"paths.root={folder}"]


@pytest.mark.parametrize("file", ["own_cell.py", "own_helper.py"])
@pytest.mark.quick(1)
def test_a_finished_run_is_not_reported_for_edited_code(own, file, capsys):
    first = train(request(own))
    assert train(request(own))["already"]
    with (own / file).open("a") as text:
        text.write("EDITED = True\n")
    restarted()
    with pytest.raises(
        RequestError, match=rf"code has changed since this run \({file}\).*--force.*--keep-code-change"
    ):
        train(request(own))
    assert train(request(own), keep_code_change=True)["already"]
    assert file in capsys.readouterr().err
    assert not train(request(own), force=True)["already"]
    assert (
        RunDirectory(first["run_dir"])
        .path.with_name(f"{RunDirectory(first['run_dir']).path.name}.old-1")
        .is_dir()
    )
    assert train(request(own))["already"]


def test_an_edited_file_of_gatelab_is_told(own, monkeypatch, capsys):
    result = train(request(own))
    mine = {**code.gatelab_sources(), "gatelab/core/gru.py": "0" * 16}
    monkeypatch.setattr(code, "gatelab_sources", lambda: mine)
    with pytest.raises(RequestError, match=r"gatelab/core/gru\.py"):
        train(request(own))
    load_task(result["run_dir"], trust=True)
    assert "gatelab/core/gru.py" in capsys.readouterr().err


def test_a_comparison_names_the_file_of_ones_own(own):
    one = RunDirectory(train(request(own))["run_dir"]).read()["attempts"][-1]["environment"]
    with (own / "own_helper.py").open("a") as text:
        text.write("SCALE = 2\n")
    restarted()
    train(request(own), force=True)
    two = RunDirectory(train(request(own))["run_dir"]).read()["attempts"][-1]["environment"]
    assert [found.key for found in environments(one, two)] == ["code.own_helper.py"]


def test_a_run_that_was_recorded_before_sources_were_is_reported(own):
    run = RunDirectory(train(request(own))["run_dir"])
    record = run.read()
    del record["attempts"][-1]["environment"]["sources"]
    run._write(record)
    (own / "own_cell.py").write_text(f"{CELL}# edited\n")
    restarted()
    assert train(request(own))["already"]
