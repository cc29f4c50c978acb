"""scripts/checks/resume.py finds real runs exact, and names the first thing that differs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts.compare import first_difference

ROOT = Path(__file__).resolve().parents[2]


def write_run(
    folder: Path, *, weight: float = 1.0, loss: str = "0.5", mse: float = 0.5, lr: float = 0.1
) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("last.ckpt", "best.ckpt"):
        state = {"state_dict": {"w": torch.tensor([[0.0, weight]])}, "optimizer_states": [{"lr": lr}]}
        torch.save({**state, "hyper_parameters": {"root": str(folder)}}, folder / "checkpoints" / name)
    for name in ("metrics.csv", "trace.csv"):
        (folder / name).write_text(f"step,loss\n1,{loss}\n")
    result = {"run_dir": str(folder), "splits": {"valid": {"metrics": {"mse": mse}, "seconds": 1}}}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ({"weight": 1.0 + 2**-23}, "last.ckpt/state_dict/w[0, 1]: 0x1.0000020000000p+0, undisturbed 0x1.0"),
        ({"lr": 0.2}, "last.ckpt/optimizer_states[0]/lr: 0.2, undisturbed 0.1"),
        ({"loss": "0.6"}, "metrics.csv, line [1]: '1,0.6', undisturbed '1,0.5'"),
        ({"mse": 0.25}, "result.json/splits/valid/metrics/mse: 0.25, undisturbed 0.5"),
    ],
)
def test_the_first_difference_is_named_with_both_values(damage: dict, named: str, tmp_path: Path) -> None:
    found = first_difference(write_run(tmp_path / "a", **damage), write_run(tmp_path / "b"))
    assert found is not None
    assert found.startswith(named)


def test_folders_and_times_are_no_difference(tmp_path: Path) -> None:
    assert first_difference(write_run(tmp_path / "a"), write_run(tmp_path / "b")) is None


@pytest.mark.parametrize(
    ("task", "ranks", "steps"),
    [
        ("text", "1", ["7"]),
        *(
            pytest.param(*case, ["5", "10"], marks=pytest.mark.slow)
            for case in (("text", "1"), ("series", "2"))
        ),
    ],
)
@pytest.mark.slow
def test_runs_killed_inside_and_between_epochs_are_exact(task: str, ranks: str, steps: list[str]) -> None:
    command = [
        sys.executable,
        "-m",
        "scripts.checks.resume",
        "--workers",
        "0",
        "--tasks",
        task,
        "--ranks",
        ranks,
    ]
    done = subprocess.run(
        [*command, "--steps", *steps], capture_output=True, text=True, cwd=ROOT, timeout=240
    )
    assert f"{len(steps)} tried, {len(steps)} exact, 0 not" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
