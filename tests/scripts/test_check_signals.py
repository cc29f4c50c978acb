"""A run that is asked to stop, in any of its phases, on one process or two, exits with 75 and goes on exactly."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("ranks", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_run_can_be_stopped_in_every_phase_and_goes_on_exactly(ranks: str) -> None:
    script = ["-m", "scripts.checks.signals"]
    command = [
        sys.executable,
        *script,
        "--imports",
        "0",
        "--sweeps",
        "0",
        "--moments",
        "5",
        "--ranks",
        ranks,
        "--limit",
        "100",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280)
    assert "5 moments, 5 right, 0 wrong" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
