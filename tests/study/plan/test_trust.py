"""A study of a stranger is data: no command runs its code, but a sweep that is told to."""

import contextlib
import json
import shutil

import pytest
import yaml

from gatelab.cli.main import main
from gatelab.run import RequestError
from gatelab.study.plan.trust import require_own_code
from gatelab.study.spec import StudySpec
from gatelab.study.sweep import sweep

SMALL = [
    *("data=lorenz", "data.lookback=8", "data.horizon=4", "data.batch_size=512", "trainer.max_steps=2"),
    *("trainer.limit_val_batches=1", "model.hidden_size=4", "callbacks.progress=null", "study=s"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a finished study that has a space function of its owner's, and the command that made it."""
    root = tmp_path_factory.mktemp("made")
    (root / "mine.py").write_text("def space(suggest):\n    suggest.suggest_float('optim.lr', 1e-3, 1e-2)\n")
    command = [*SMALL, "study.space=mine.space", "study.n_trials=1", "study.isolation=process"]
    with contextlib.chdir(root):
        sweep(command)
    return root, command


@pytest.fixture
def study(made, tmp_path, monkeypatch):
    """A copy of the study's folder, in the working directory, and the command."""
    root, command = made
    shutil.copytree(root, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w" / "studies" / "s", command


def test_only_the_owners_command_or_trust_runs_a_space_function(study, tmp_path, capsys):
    folder, command = study
    ran = tmp_path / "ran"
    for argument in (["study", "s"], ["study", "s", "--json"], ["study", "s", "--write"], ["report", "s"]):
        (folder / "space.py").write_text(f"import os\nos.makedirs({str(ran)!r})\ndef space(suggest): ...\n")
        assert main(argument) == 0
        assert not ran.exists()
    for given in (["study=s"], command):  # it is not the owner's file any more
        assert main(["sweep", *given, "--dry-run"]) == 2
        assert "space.py" in capsys.readouterr().err
        assert not ran.exists()
    assert main(["sweep", "study=s", "--dry-run", "--trust"]) == 0
    assert ran.exists()


def test_the_owners_whole_command_goes_on(study):
    _, command = study
    assert main(["sweep", *command, "--dry-run"]) == 0


@pytest.mark.parametrize("target", ["os.mkdir", "${oc.env:HOME}", "torch.load", "mycell.Cell"])
@pytest.mark.parametrize("place", ["template", "nested", "conf", "override", "choice", "point"])
def test_every_place_of_a_study_that_names_code_is_looked_at(study, place, target):
    folder, _ = study
    record = json.loads((folder / "study.json").read_text())
    record["settings"]["space"] = None
    if place in ("template", "nested"):
        file = next((folder / "templates").glob("*.yaml"))
        config = yaml.safe_load(file.read_text())
        node = {"_target_": target, "_args_": ["x"]}
        config["model"] = node if place == "template" else {**config["model"], "more": [{"deep": node}]}
        file.write_text(yaml.safe_dump(config))
    elif place == "conf":
        (folder / "conf" / "0" / "model" / "gru.yaml").write_text(f'"\\x5ftarget_": "{target}"\n')
    elif place == "override":
        record["overrides"].append(f"model._target_={target}")
    elif place == "choice":
        record["space"].append({"key": "model._target_", "kind": "choice", "choices": [target]})
    else:
        record["points"].append({"model": {"_target_": target}})
    (folder / "study.json").write_text(json.dumps(record))
    with pytest.raises(RequestError, match=r"not part of Gatelab.*--trust"):
        require_own_code(folder, ["study=s"], [])


@pytest.mark.parametrize("point", [{"model._target_": "os.mkdir"}, {"model": {"_target_": "os.mkdir"}}])
def test_a_point_of_a_queue_names_no_code(study, point):
    folder, _ = study
    with pytest.raises(RequestError, match="is not a value of the study's space"):
        StudySpec.load(folder).split(point)
