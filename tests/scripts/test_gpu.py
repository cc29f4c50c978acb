"""`python -m scripts.checks.gpu` on a CPU: every part runs, an error above its bar is seen, no part hides another."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.checks import gpu

ROOT = Path(__file__).resolve().parents[2]


def check(output: Path, *parts: str) -> tuple[int, dict]:
    command = [
        sys.executable,
        "-m",
        "scripts.checks.gpu",
        "--device",
        "cpu",
        "--quick",
        "--output",
        str(output),
    ]
    done = subprocess.run(
        [*command, "--parts", *parts], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert output.is_file(), done.stderr
    return done.returncode, json.loads(output.read_text())["parts"]


def test_every_backend_of_the_cpu_holds_its_bars(tmp_path: Path) -> None:
    code, parts = check(tmp_path / "gpu.json", "parity", "layers")
    assert code == 0
    assert {name: part["ended"] for name, part in parts.items()} == {"parity": "ok", "layers": "ok"}
    ran = {(row["backend"], row["precision"]) for row in parts["parity"]["rows"] if "error" in row}
    assert ran >= {("native", "float32"), ("torch", "float64"), ("torch", "float32"), ("torch", "bfloat16")}
    assert all(row["microseconds_per_step"] > 0 for row in parts["layers"]["rows"])


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(tmp_path: Path) -> None:
    code, parts = check(tmp_path / "gpu.json", *gpu.PARTS)
    assert {name: part["ended"] for name, part in parts.items()} == dict.fromkeys(gpu.PARTS, "ok")
    assert code == 0


@pytest.mark.parametrize(("error", "ok"), [(2.9e-6, True), (3.1e-6, False), (float("nan"), False)])
def test_an_error_above_its_bar_is_seen(error: float, ok: bool) -> None:
    row = gpu.judged({}, "torch", "float32", {"output": 1e-7, "dx": error}, {"output": 1e-6, "dx": 1e-6})
    assert (row["ok"], row["worst"]) == (ok, "dx")


def test_a_part_that_fails_is_told_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = gpu.Setup("cpu", True, tmp_path)
    (tmp_path / "parity.jsonl").write_text(json.dumps({"ok": False}) + "\n")
    monkeypatch.setattr(gpu, "Command", lambda *_: type("Ended", (), {"wait": lambda *_: 0})())
    assert gpu.do_part("parity", at, 1.0)["ended"] == "1 failed"
    assert gpu.do_part("export", at, 1.0)["ended"] == "ok"
