"""A result belongs to its code: what is recorded of it."""

import importlib
import sys

import pytest

from gatelab.run.record.code import changed, edited, sources, targets

CONFIG = {"model": {"_target_": "mine.cells.Cell"}, "callbacks": {"a": [{"_target_": "alone.Note"}, None]}}
FILES = {
    "mine/__init__.py": "",
    "mine/cells.py": "import math\nfrom . import gates\nfrom .deep.er import x\nimport helper_of_mine\nCell = 1\n",
    "mine/gates.py": "from mine.wide import *\n",
    "mine/wide.py": "import torch\n",
    "mine/deep/__init__.py": "",
    "mine/deep/er.py": "x = 1\n",
    "mine/unused.py": "",
    "helper_of_mine.py": "def late():\n    import helper_of_helper\n",
    "helper_of_helper.py": "",
    "alone.py": "class Note: ...\n",
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in [
        n for n in sys.modules if n.split(".")[0] in ("mine", "alone", "helper_of_mine", "helper_of_helper")
    ]:
        del sys.modules[name]


def test_every_target_is_found_at_any_depth():
    assert list(targets(CONFIG)) == ["mine.cells.Cell", "alone.Note"]


def test_own_code_is_recorded_with_everything_that_it_imports(own):
    found = {name for name in sources(CONFIG) if not name.startswith("gatelab/")}
    assert found == FILES.keys() - {"mine/unused.py"}


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize("file", sorted(FILES.keys() - {"mine/unused.py"}))
def test_an_edit_of_any_file_is_told_by_name(own, file, imported):
    if imported:
        importlib.import_module("mine.cells")
    before = sources(CONFIG)
    assert changed(before, sources(CONFIG)) == []
    (own / file).write_text(FILES[file] + "y = 2\n")
    found = changed(before, sources(CONFIG))
    read = imported and file not in (
        "alone.py",
        "helper_of_helper.py",
    )  # by this process, which runs what it read
    assert (found, edited(CONFIG)) == (([], [file]) if read else ([file], []))


def test_an_edit_of_what_is_not_used_is_no_change(own):
    before = sources(CONFIG)
    (own / "mine/unused.py").write_text("y = 2\n")
    assert changed(before, sources(CONFIG)) == []


def test_gatelabs_own_files_that_make_results_are_recorded():
    found = sources({})
    assert {
        "gatelab/core/gru.py",
        "gatelab/run/train.py",
        "gatelab/core/backends/dispatch.json",
    } <= found.keys()
    assert not any(name.startswith(("gatelab/report", "gatelab/cli", "gatelab/study")) for name in found)


def test_installed_packages_are_not_read():
    config = {"trainer": {"_target_": "pytorch_lightning.Trainer"}, "optim": {"_target_": "torch.optim.Adam"}}
    assert all(name.startswith("gatelab/") for name in sources(config))
