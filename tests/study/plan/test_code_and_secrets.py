"""A study belongs to its code and writes no secret; both are seen before anything is started or written."""

import importlib
import json
import sys

import pytest

from gatelab.run import RequestError
from gatelab.run.train import train
from gatelab.study.sweep import plan, sweep

SMALL = ["experiment=quickstart_series", "threads=1", "callbacks=none", "trainer.max_steps=2"]
KEY = "a1b2c3d4" + "e5f6a7b8"


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "swept_cell.py").write_text("from gatelab import GRU\nclass Own(GRU):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("swept_cell", None)


def request(folder, *more):
    return [*SMALL, "study=own", "model._target_=swept_cell.Own", f"paths.root={folder}", *more]


def edit(folder):
    with (folder / "swept_cell.py").open("a") as text:
        text.write("EDITED = True\n")


@pytest.mark.ci
def test_a_study_does_not_go_on_with_edited_code(own):
    asked = request(own, "model.hidden_size=choice(4)")
    for _ in range(2):
        assert sweep(asked)["counts"]["complete"] == 1
    edit(own)
    more = request(own, "model.hidden_size=4,5")
    for command in (asked, more):
        with pytest.raises(RequestError, match=r"code has changed since it began \(swept_cell\.py\)"):
            sweep(command)
    assert sweep(more, keep_code_change=True)["counts"]["complete"] == 2
    assert json.loads((own / "studies/own/study.json").read_text())["kept_code_changes"] == [
        ["swept_cell.py"]
    ]
    assert sweep(more)["counts"]["complete"] == 2  # what was kept is not told again
    assert plan(asked, force=True).notes == ["synthetic: 8,736 hours made from seed 0"]  # of the data alone


@pytest.mark.ci
def test_a_new_study_takes_no_run_of_other_code(own):
    asked = request(own, "model.hidden_size=4")
    train([*(text for text in asked if text != "study=own")])
    edit(own)
    with pytest.raises(
        RequestError, match=r"code has changed since this run of the study \(swept_cell\.py\)"
    ):
        plan(asked)
    assert "warning" in plan(asked, keep_code_change=True).notes[-1]


@pytest.mark.parametrize(
    "override",
    [
        "+callbacks.n={{_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:sk-{key}}}",
        "+callbacks.n.password={key}",
        "+callbacks.n.url=https://me:{key}@host",
        "+callbacks.n.token={key},other",
        "+callbacks.n.list=[sk-{key}]",
    ],
)
def test_a_study_with_a_secret_is_refused_before_anything_is_written(tmp_path, override):
    command = [*SMALL, f"paths.root={tmp_path}", "study=s", "model.hidden_size=4", override.format(key=KEY)]
    with pytest.raises(RequestError, match=r"oc\.env:NAME"):
        plan(command)
    assert not (tmp_path / "studies").exists()


def test_a_secret_in_a_copied_configuration_file_is_refused(tmp_path):
    (tmp_path / "conf/callbacks").mkdir(parents=True)
    (tmp_path / "conf/callbacks/mine.yaml").write_text(f"n:\n  _target_: my.Notify\n  api_key: {KEY}\n")
    (tmp_path / "conf/callbacks/none2.yaml").write_text("{}\n")
    command = [*SMALL, f"paths.root={tmp_path}", "study=s", "model.hidden_size=4", "callbacks=none2"]
    with pytest.raises(RequestError, match=r"callbacks/mine\.yaml.*oc\.env:NAME"):
        plan(command, config_dirs=[tmp_path / "conf"])
