"""What `make run` does goes through to its picture, with trainings of two steps."""

import subprocess
import sys

import pytest

from scripts.harness import ROOT, environment


@pytest.mark.slow
def test_both_studies_end_with_scores_a_text_and_a_picture(tmp_path):
    command = [sys.executable, "-m", "scripts.quickstart", "trainer.max_steps=2", f"paths.root={tmp_path}"]
    done = subprocess.run(
        [*command, "trainer.val_check_interval=null"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "generated text" in done.stdout
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000
