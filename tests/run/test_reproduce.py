"""A run that is reproduced: the same to the last bit, or the first difference and what explains it are named."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from gatelab.cli.main import main
from gatelab.data.files import write_json
from gatelab.run import RequestError, RunFailed
from gatelab.run.config import compose
from gatelab.run.diff import environments
from gatelab.run.frozen_run import EventWriter, events_file, train_request
from gatelab.run.record.identity import Identity
from gatelab.run.reproduce import environment_for, frozen_config, reproduce
from gatelab.run.train import train
from gatelab.tasks.trace import Row, read_trace

SERIES = [
    *("experiment=quickstart_series", "model.hidden_size=4", "data.lookback=8", "data.batch_size=2048"),
    *("trainer.max_epochs=2", "threads=1", "callbacks.progress=null", "test=false"),
]
TEXT = [
    *("data=text", "data.level=char", "model.hidden_size=4", "data.batch_size=2", "data.window=16"),
    *("trainer.max_epochs=1", "trainer.max_steps=6", "threads=1", "callbacks.progress=null", "test=false"),
]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return Path(train([*SERIES, f"paths.root={tmp_path_factory.mktemp('again')}"])["run_dir"])


def altered(run, tmp_path, step, value):
    """A copy of a run in whose trace the loss of a step has another value."""
    copy = tmp_path / "altered"
    shutil.copytree(run, copy)
    lines = (copy / "trace.csv").read_text().splitlines()
    lines = [f"{line.rpartition(',')[0]},{value}" if line.startswith(f"{step},") else line for line in lines]
    (copy / "trace.csv").write_text("\n".join(lines) + "\n")
    return copy


@pytest.mark.ci
def test_an_untouched_run_is_the_same_and_nothing_is_left(series, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = {file: file.stat().st_mtime_ns for file in series.rglob("*")}
    assert main(["reproduce", str(series), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    losses = [row for row in read_trace(series / "trace.csv") if row.what == "loss"]
    assert (found["steps"], found["epochs"]) == (len(losses), 2)
    assert found["environment"] == []
    assert not list(tmp_path.iterdir())
    assert before == {file: file.stat().st_mtime_ns for file in series.rglob("*")}


class InThisProcess:
    """Trains here what a process of its own would: nothing but its start is left out."""

    def start(self, command, log, env, cwd):
        request = Path(command[-1])
        result = train_request(json.loads(request.read_text()), EventWriter(events_file(request)))
        end = {"outcome": result["outcome"], "error": None, "run_dir": result["run_dir"]}
        EventWriter(events_file(request)).write("end", **end)
        return self

    def wait(self):
        return 0

    poll = kill = wait


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr("gatelab.run.reproduce.ProcessGroup", InThisProcess())


def test_another_seed_differs_from_the_first_step_on(series, in_this_process, capsys):
    assert main(["reproduce", str(series), "seed=1", "--steps", "2"]) == 1
    text = capsys.readouterr().out
    assert "the initial weights: recorded" in text
    assert "the loss of step 1: recorded 0x1." in text


class Copying:
    """Instead of training, copies what a run left; `end` is how the new run is said to have ended."""

    def __init__(self, run, end=None):
        self.run, self.end = run, end

    def start(self, command, log, env, cwd):
        request = Path(command[-1])
        asked = json.loads(request.read_text())
        new = Identity(**asked["identity"]).directory(asked["config"]["paths"]["runs"])
        shutil.copytree(self.run, new)
        if self.end is not None:
            EventWriter(events_file(request)).write("end", run_dir=None, **self.end)
        return self

    def wait(self):
        return 0 if self.end is None else 1

    poll = kill = wait


@pytest.fixture
def copying(series, monkeypatch):
    """The new run is a copy of `series`; call it for one that failed."""

    def make(end=None):
        monkeypatch.setattr("gatelab.run.reproduce.ProcessGroup", Copying(series, end))

    make()
    return make


def test_the_first_step_that_differs_is_named_with_both_values(series, copying, tmp_path):
    found = reproduce(altered(series, tmp_path, 3, (1.5).hex()))
    assert found.exit_code == 1
    assert (found.steps, found.first.step, found.first.recorded) == (2, 3, "0x1.8000000000000p+0")
    assert found.first.reproduced == read_trace(series / "trace.csv")[3].value


def test_another_environment_is_named_and_excused_while_every_bit_is_the_same(series, copying, tmp_path):
    copy = altered(series, tmp_path, 3, (1.5).hex())
    record = json.loads((copy / "run.json").read_text())
    record["attempts"][0]["environment"]["versions"]["torch"] = "1.0"
    write_json(copy / "run.json", record)
    differs = reproduce(copy, steps=3)
    assert [d.key for d in differs.environment] == ["versions.torch"]
    assert differs.exit_code == 2
    same = reproduce(copy, steps=2)
    assert (same.first, same.exit_code) == (None, 0)
    assert reproduce(copy, steps=2, strict=True).exit_code == 2


def test_which_gpu_it_was_is_no_difference_and_that_there_was_none_is_kept(
    series, copying, tmp_path, monkeypatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    copy = altered(series, tmp_path, 3, (1.5).hex())
    record = json.loads((copy / "run.json").read_text())
    variables = record["attempts"][0]["environment"]["variables"]
    for recorded, kept in (("", ""), ("3", None)):
        variables["CUDA_VISIBLE_DEVICES"] = recorded
        write_json(copy / "run.json", record)
        assert environment_for(record["attempts"][0]).get("CUDA_VISIBLE_DEVICES") == kept
        found = reproduce(copy)
        assert (found.environment, found.exit_code) == ([], 1)


def test_a_trace_that_ends_early_is_a_difference(series, copying, tmp_path):
    copy = altered(series, tmp_path, 3, (1.5).hex())
    longer = read_trace(series / "trace.csv")
    last = longer[-1].step
    with (copy / "trace.csv").open("w") as file:
        file.writelines(
            f"{','.join(map(str, row))}\n" for row in [*longer, Row(last + 1, 2, "loss", "0x0p+0")]
        )
    found = reproduce(copy)
    assert (found.first.step, found.first.reproduced, found.exit_code) == (last + 1, None, 1)


def test_the_new_run_can_be_kept(series, copying, tmp_path):
    found = reproduce(series, keep=tmp_path / "kept")
    assert (Path(found.kept) / "trace.csv").read_text() == (series / "trace.csv").read_text()
    with pytest.raises(RequestError, match="exists already"):
        reproduce(series, keep=tmp_path / "kept")


def test_a_run_that_cannot_be_reproduced_says_why(series, copying, tmp_path):
    longer = altered(series, tmp_path, 3, (1.5).hex())
    lines = (series / "trace.csv").read_text() + "1000,2,loss,0x0p+0\n"
    (longer / "trace.csv").write_text(lines)
    copying({"outcome": "refused", "error": "data: no such file: mine.txt"})
    with pytest.raises(RequestError, match=r"mine\.txt"):
        reproduce(longer)
    copying({"outcome": "failed", "error": "out of memory"})
    with pytest.raises(RunFailed, match="out of memory"):
        reproduce(longer)


def test_a_changed_byte_in_the_data_is_named(tmp_path, in_this_process, capsys):
    file = tmp_path / "mine.txt"
    file.write_text("one two three four five six seven\n" * 100)
    run = train([*TEXT, f"data.path={file}", f"paths.root={tmp_path}"])["run_dir"]
    capsys.readouterr()
    file.write_text("owe two three four five six seven\n" + "one two three four five six seven\n" * 99)
    assert main(["reproduce", run]) == 2
    text = capsys.readouterr().out
    assert "data.mine.txt" in text
    assert "differs: the loss of step 1" in text


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.hiden_size=3", r"Did you mean 'model\.hidden_size'"),
        ("model=lstm", "set its keys"),
        ("model.hidden_size=big", "'big' is not of type int"),
        ("seed=1,2", "one value"),
    ],
)
def test_a_wrong_override_is_refused(series, override, expected):
    with pytest.raises(RequestError, match=expected):
        reproduce(series, [override])


def test_a_run_without_a_trace_is_refused(series, tmp_path):
    copy = altered(series, tmp_path, 1, "0x0p+0")
    (copy / "trace.csv").unlink()
    with pytest.raises(RequestError, match=r"holds no trace\.csv"):
        reproduce(copy)


def test_changed_code_is_named_by_file():
    base = {"code": "a", "git": {"revision": "1" * 40, "diff": ""}}
    diff = "diff --git a/core/cells.py b/core/cells.py\n-1\n+2\n"
    (found,) = environments(base, {"code": "b", "git": {**base["git"], "diff": diff}})
    assert found.second == "commit 111111111111 with uncommitted changes, other changes in core/cells.py"
    assert environments(base, {**base, "git": {"revision": "2" * 40, "diff": ""}}) == []


@pytest.mark.ci
def test_a_changed_constant_in_the_model_is_caught(series, tmp_path, monkeypatch):
    package = Path(sys.modules["gatelab"].__file__).parent
    copy = tmp_path / "src"
    shutil.copytree(package, copy / "gatelab", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(package.parents[1] / "conf", tmp_path / "conf")
    forecaster = copy / "gatelab/core/series/forecaster.py"
    text = forecaster.read_text()
    assert "self.head(Summary(" in text
    forecaster.write_text(text.replace("self.head(Summary(", "0.999 * self.head(Summary("))
    monkeypatch.setenv("PYTHONPATH", str(copy))
    found = reproduce(series, steps=3)
    assert found.exit_code == 2
    assert found.initial is None
    assert found.first.step == 1
    assert [d.key for d in found.environment] == ["code.gatelab/core/series/forecaster.py"]


def test_a_run_of_several_nodes_is_reproduced_with_as_many_processes_on_one(tmp_path):
    config = compose(["trainer=ddp_cpu", "trainer.devices=2", "trainer.num_nodes=3"]).resolved()
    record = {"config": config, "attempts": [{"environment": {"threads": 1}}]}
    trainer = frozen_config(record, [], tmp_path)["trainer"]
    assert (trainer["num_nodes"], trainer["devices"]) == (1, 6)
