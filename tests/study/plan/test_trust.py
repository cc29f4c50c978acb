"""A study of a stranger is data: no command runs its code, but a sweep that is told to."""

import contextlib
import json
import shutil
import socket
from itertools import pairwise

import pytest
import yaml

import gatelab
from gatelab.cli.main import main
from gatelab.run import RequestError
from gatelab.study.plan.trust import require_own_code
from gatelab.study.spec import StudySpec
from gatelab.study.sweep import sweep

pytestmark = pytest.mark.ci

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
    name_code(folder, place, target)
    with pytest.raises(RequestError, match=r"(?s)part of Gatelab.*--trust"):
        require_own_code(folder, ["study=s"], [])


def name_code(folder, place, target):
    """Let a study name a target."""
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


def edit(file, change):
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


@pytest.mark.parametrize("point", [{"model._target_": "os.mkdir"}, {"model": {"_target_": "os.mkdir"}}])
def test_a_point_of_a_queue_names_no_code(study, point):
    folder, _ = study
    with pytest.raises(RequestError, match="is not a value of the study's space"):
        StudySpec.load(folder).split(point)


STORAGES = ["grpc://127.0.0.1:{port}", "sqlite:///{folder}/theirs.db", "journal://{folder}/theirs.log"]
READERS = [
    *(
        ["study"],
        ["study", "s"],
        ["study", "s", "--write"],
        ["study", "s", "--json"],
        ["runs"],
        ["rm", "runs/nothing"],
    ),
    *(["report", "s", "--no-samples", "--format", "md", "--output", "-"], ["report", "s", "--record", "a-b"]),
    *(["sweep", "study=s"], ["sweep", "study=s", "--dry-run"]),
]


@pytest.mark.parametrize("url", STORAGES)
def test_no_command_opens_the_storage_that_a_study_names(study, url, tmp_path, capsys):
    folder, _ = study
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = url.format(port=server.getsockname()[1], folder=tmp_path)
        shutil.copy(folder / "journal.log", tmp_path / "theirs.log")
        edit(folder / "study.json", lambda record: record["settings"].update(storage=url))
        before = (tmp_path / "theirs.log").stat()
        for command in READERS:
            code = main(command)
            said = "".join(capsys.readouterr())
            assert code == (0 if command in (["study"], ["runs"]) else 2)
            assert "--trust" in said or command[0] in ("rm", "runs")
        with pytest.raises(RequestError, match="was not opened"):
            gatelab.Study("s").leaderboard()
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not (tmp_path / "theirs.db").exists()
    assert (tmp_path / "theirs.log").stat() == before


@pytest.mark.parametrize("place", ["choice", "template", "override"])
def test_writing_a_study_s_best_configuration_imports_nothing_that_it_names(
    study, place, tmp_path, monkeypatch, capsys
):
    folder, _ = study
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    name_code(folder, place, "theirs.Cell")
    before = sorted(folder.rglob("*"))
    assert main(["study", "s", "--write"]) == 2
    assert "theirs.Cell" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before
    assert not (tmp_path / "ran").exists()


def test_the_refusal_has_the_line_to_type(study, capsys):
    assert main(["sweep", "study=s", "study.slots=2", "--dry-run"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1].strip()
    assert line == "gatelab sweep study=s study.slots=2 --trust"
    assert main(["sweep", "study=s", "study.slots=2", "--dry-run", "--trust"]) == 0


def test_runs_are_written_below_the_study_s_own_root(study, tmp_path, capsys):
    folder, command = study
    file = next((folder / "templates").glob("*.yaml"))
    spec = StudySpec.load(folder)  # a folder that was moved: its root is where it lies now
    assert spec.config({})[0]["paths"]["runs"] == str(tmp_path / "w" / "runs")
    config = yaml.safe_load(file.read_text())
    config["paths"]["runs"] = str(tmp_path / "elsewhere")
    file.write_text(yaml.safe_dump(config))
    assert main(["sweep", *command, "--dry-run"]) == 2
    assert f"paths.runs={tmp_path / 'elsewhere'}" in capsys.readouterr().err


def test_a_template_that_stands_for_endlessly_much_is_refused(study, capsys):
    folder, _ = study
    file = next((folder / "templates").glob("*.yaml"))
    names = "abcdefghijklmnop"
    bomb = "a: &a [1]\n" + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in pairwise(names))
    file.write_text(file.read_text() + bomb)
    (folder / "conf" / "0" / "model" / "more.yaml").write_text(bomb)
    for command in (["study", "s", "--write"], ["sweep", "study=s", "--dry-run"]):
        assert main(command) == 2
        assert "aliases" in capsys.readouterr().err
