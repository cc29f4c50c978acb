"""`python -m scripts.checks.gpu` on a CPU: every part runs, an error above its bar is seen, no part hides another."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from gatelab.core import backends as dispatch
from scripts.bench.gru import write_part
from scripts.bench.gru_cases import Case, Shape
from scripts.checks.gpu import __main__ as gpu
from scripts.checks.gpu import layers, runs
from scripts.checks.gpu.parity import judged, parity
from scripts.checks.gpu.setup import Setup

ROOT = Path(__file__).resolve().parents[2]
AT = partial(Setup, "cpu", True)
ROW = {
    "captured": False,
    "mode": "training",
    "ragged": False,
    "H": 64,
    "B": 32,
    "T": 64,
    "shape": "shape",
    "precision": "float32",
}


def check(output: Path, *arguments: str) -> tuple[int, dict]:
    command = [sys.executable, "-m", "scripts.checks.gpu", "--device", "cpu", "--quick"]
    command += ["--output", str(output), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=290)
    assert output.is_file(), done.stderr
    return done.returncode, json.loads(output.read_text())["parts"]


@pytest.mark.parametrize(("precision", "after"), [("float32", True), ("bfloat16", False)])
def test_every_backend_of_the_cpu_holds_its_bars(precision: str, after: bool, tmp_path: Path) -> None:
    rows = list(parity(AT(tmp_path), precision, after))
    assert not [row for row in rows if row["ok"] is False]
    ran = {row["backend"] for row in rows if "error" in row}
    assert ran == {"reference", "torch"} | ({"native"} if precision == "float32" else set())


def test_layers_are_timed(tmp_path: Path) -> None:
    rows = list(layers.layers(AT(tmp_path)))
    assert all(row["microseconds_per_step"] > 0 for row in rows)
    assert {row["backend"] for row in rows} == {"nn.GRU", "nn.LSTM", "native", "torch"}
    late = list(layers.layers(AT(tmp_path, seconds=0.0)))
    assert [row["left out"] for row in late] == [len(layers.plan(AT(tmp_path)))]


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(tmp_path: Path) -> None:
    code, parts = check(tmp_path / "gpu.json")
    assert {name: part["ended"] for name, part in parts.items()} == dict.fromkeys(parts, "ok")
    assert {"training", "epochs", "graphs", "export", "compiled", "large"} < parts.keys()
    assert code == 0


@pytest.mark.parametrize(("error", "ok"), [(2.9e-6, True), (3.1e-6, False), (float("nan"), False)])
def test_an_error_above_its_bar_is_seen(error: float, ok: bool) -> None:
    row = judged({}, "torch", "float32", {"output": 1e-7, "dx": error}, {"output": 1e-6, "dx": 1e-6})
    assert (row["ok"], row["worst"]) == (ok, "dx")


def test_what_a_run_is_called_holds_nothing_that_an_override_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(runs.harness, "run", lambda command, *_: commands.append(command) or 1.0)
    monkeypatch.setattr(runs, "pace", lambda *_: {})
    monkeypatch.setattr(runs, "TRAINERS", {"cuda": "trainer=gpu"})
    monkeypatch.setattr("scripts.checks.gpu.made_up.text", lambda *_, **__: None)
    assert all(row["ok"] for row in runs.epochs(Setup("cuda", False, tmp_path)))
    assert any("model.backend=triton" in command for command in commands)
    assert all(word.count("=") <= 1 for command in commands for word in command)


def test_a_part_that_fails_is_told_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Setup("cpu", True, tmp_path)
    (tmp_path / "graphs.jsonl").write_text(json.dumps({"ok": False}) + "\n")
    monkeypatch.setattr(gpu, "Command", lambda *_: type("Ended", (), {"wait": lambda *_: 0})())
    assert gpu.do_part("graphs", at, 1.0)["ended"] == "1 failed"
    assert gpu.do_part("export", at, 1.0)["ended"] == "ok"


@pytest.mark.ci
def test_a_kernel_that_fails_is_told_and_one_that_does_not_come_back_is_late() -> None:
    case = Case(Shape("shape", 3, 2, 4, 4), training=False)
    jobs = [("torch", "float32", case), ("no such backend", "float32", case)]
    failed, late = layers.compile_all(jobs, 1, 60)
    assert list(failed) == jobs[1:]
    assert "unknown backend" in failed[jobs[1]]
    assert not late
    assert layers.compile_all(jobs, 1, 0.0) == ({}, set(jobs))


def test_ratios_are_told_with_their_mean_and_the_table_of_auto_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for hidden, ratio in ((64, 2.0), (256, 8.0)):
        for backend, speed in (("nn.GRU", 1.0), ("torch", ratio)):
            row = {**ROW, "H": hidden, "dtype": "float32", "backend": backend, "ratio": speed}
            rows.append({**row, "microseconds": 100 / speed})
    rows += [{**rows[-1], "precision": "tf32", "microseconds": 1.0}, {"backend": "none", "failed": "so"}]
    line = next(line for line in layers.layers_table(rows) if line["precision"] == "float32")
    assert (line["64,32,64"], line["64,32,256"], line["mean"]) == (2.0, 8.0, 4.0)
    monkeypatch.setattr(dispatch, "TABLE", table := tmp_path / "dispatch.json")
    write_part(table, "cuda", {"device": "a GPU"}, layers.points(rows))
    write_part(table, "cpu", {"device": "a CPU"}, {})
    dispatch.table.cache_clear()
    try:
        found = dispatch.table("cuda", "float32")
        assert sorted(point.hidden for point in found) == [64, 256]
        assert {"nn.GRU": 100.0, "torch": 50.0} in found.values()
        assert json.loads(table.read_text())["about"]["cuda"] == {"device": "a GPU"}
    finally:
        dispatch.table.cache_clear()
