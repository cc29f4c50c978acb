"""scripts/chaos/checkpoints.py sees every kind of damage, and finds none in what Gatelab writes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts.chaos.checkpoints import judge, state

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_corrupt_and_what_is_lost_is_told_apart(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    torch.save(state(7, 1600), last)
    torch.save(state(6, 1600), previous)
    assert judge(tmp_path, 7) == ([], [])
    last.write_bytes(last.read_bytes()[:-100])
    corrupt, lost = judge(tmp_path, 7)
    assert "last.ckpt" in corrupt[0]
    assert lost == [f"{tmp_path}: step 7 was saved, 6 is left"]
    torch.save({**state(7, 1600), "global_step": 8}, last)
    assert judge(tmp_path, 7) == ([f"{last}: holds a mixture"], [])


@pytest.mark.parametrize(("kills", "full"), [(1, 1), pytest.param(3, 2, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_whole_checkpoints(kills: int, full: int, tmp_path: Path) -> None:
    """`kills` on each of two file systems."""
    script = ["-m", "scripts.chaos.checkpoints"]
    options = [
        "--kills",
        str(2 * kills),
        "--full",
        str(full),
        "--first",
        str(tmp_path),
        "--second",
        "/dev/shm",
    ]
    done = subprocess.run(
        [sys.executable, *script, *options], capture_output=True, text=True, cwd=ROOT, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "file system" in line][:2]
    assert [(row[-4], *row[-2:]) for row in rows] == [(str(kills), "0", "0")] * 2
    assert f"{full} refused saves, 0 wrong" in done.stdout
