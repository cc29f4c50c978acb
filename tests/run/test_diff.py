"""Two runs side by side: every key that differs, and the first step at which they diverge."""

import json
import shutil

import pytest

from gatelab.cli.main import main
from gatelab.data.files import write_json
from gatelab.run.record.directory import RunDirectory
from gatelab.tasks.trace import Row, Trace

ROWS = [Row(0, 0, "weights", "a" * 64), Row(1, 0, "loss", "0x1.8p+0"), Row(2, 0, "loss", "0x1p+0")]


def write(path, rows):
    path.write_text("".join(f"{','.join(map(str, row))}\n" for row in [Row._fields, *rows]))


@pytest.fixture
def runs(tmp_path):
    """Two directories of the same run."""
    run = RunDirectory(tmp_path / "a")
    run.begin({"seed": 0, "model": {"hidden_size": 8}, "paths": {"root": "a"}}, {"name": "x"})
    run.update(data={"my.csv": "b" * 64})
    write(run.trace_file, ROWS)
    run.finish({"outcome": "done", "steps": 2, "splits": {"valid": {"metrics": {"mse": 0.25}}}})
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    return run, RunDirectory(tmp_path / "b")


def compared(runs, capsys):
    assert main(["diff", *(str(run.path) for run in runs), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_and_its_copy_are_the_same(runs, capsys):
    found = compared(runs, capsys)
    assert [found[name] for name in ("config", "environment", "data", "divergence")] == [[], [], [], None]
    assert found["compared"] == 3
    assert main(["diff", *(str(run.path) for run in runs)]) == 0
    assert "bit for bit" in capsys.readouterr().out


def test_everything_that_differs_is_named(runs, capsys):
    record = runs[1].read()
    record["config"] |= {"model": {"hidden_size": 9}, "paths": {"root": "b"}}
    record["data"] = {"my.csv": "c" * 64}
    record["attempts"][-1]["environment"]["versions"]["torch"] = "1.0"
    write_json(runs[1].run_file, record)
    write(runs[1].trace_file, [*ROWS[:2], ROWS[2]._replace(value="0x1.1p+0")])
    write_json(runs[1].result_file, {"outcome": "done", "splits": {"valid": {"metrics": {"mse": 0.5}}}})
    found = compared(runs, capsys)
    assert [item["key"] for item in found["config"]] == ["model.hidden_size"]
    assert [item["key"] for item in found["environment"]] == ["versions.torch"]
    assert [item["key"] for item in found["data"]] == ["my.csv"]
    assert {"key": "valid.mse", "first": 0.25, "second": 0.5} in found["figures"]
    assert found["divergence"] == {
        "step": 2,
        "epoch": 0,
        "what": "loss",
        "recorded": "0x1p+0",
        "reproduced": "0x1.1p+0",
    }
    assert main(["diff", *(str(run.path) for run in runs)]) == 0
    assert "they diverge at the loss of step 2: A 0x1p+0 (1), B 0x1.1p+0 (1.0625)" in capsys.readouterr().out


def test_a_longer_run_parts_where_the_shorter_ends(runs, capsys):
    write(runs[0].trace_file, ROWS[:2])
    assert compared(runs, capsys)["divergence"]["step"] == 2
    assert compared(runs[::-1], capsys)["divergence"]["reproduced"] is None
    Trace(runs[0].trace_file).path.unlink()
    assert compared(runs, capsys)["compared"] is None
