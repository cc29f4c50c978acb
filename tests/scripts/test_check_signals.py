"""A run that is asked to stop, in any of its phases, on one process or two, exits with 75 and goes on exactly."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.harness import Command

ROOT = Path(__file__).resolve().parents[2]


SLOW = [pytest.param("5", ranks, marks=pytest.mark.slow) for ranks in "12"]


@pytest.mark.parametrize(("moments", "ranks"), [("1", "1"), *SLOW])
@pytest.mark.slow
def test_a_run_can_be_stopped_in_every_phase_and_goes_on_exactly(moments: str, ranks: str) -> None:
    command = [sys.executable, "-m", "scripts.checks.signals", "--imports", "0", "--sweeps", "0"]
    command += ["--moments", moments, "--ranks", ranks, "--limit", "100"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280)
    assert f"{moments} moments, {moments} right, 0 wrong" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_a_command_is_hung_once_it_is_silent_and_not_because_it_takes_long(tmp_path: Path) -> None:
    speaks = "for n in 1 2 3 4 5 6; do echo $n; sleep 0.5; done"
    assert Command(["bash", "-c", speaks], tmp_path / "speaks").finish(silence=2.0) == 0
    silent = Command(["bash", "-c", "echo 1; sleep 60"], tmp_path / "silent")
    assert silent.finish(silence=0.5) is None
    assert silent.poll() is not None
