"""A sweep from its command to its end: signals, and folders of the user's own."""

import json
import os
import signal
import subprocess
import sys

import pytest

from gatelab.run import Interrupted
from gatelab.study import sweep as module
from gatelab.study.sweep import sweep

from .front_tools import TINY, planned


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP"])
def test_a_signal_while_jobs_are_checked_starts_nothing(name, tmp_path, monkeypatch):
    made = planned("study=mine", *TINY, f"paths.root={tmp_path}", "optim.lr=1e-3,1e-2")

    def plan(*_, **__):
        os.kill(os.getpid(), getattr(signal, name))
        return made

    monkeypatch.setattr(module, "plan", plan)
    with pytest.raises(Interrupted, match=name) as stop:
        sweep(["study=mine"])
    assert stop.value.exit_code == 75
    assert not (tmp_path / "studies").exists()


@pytest.mark.slow
def test_models_of_an_own_folder_are_swept_and_a_hangup_is_continued(tmp_path):
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text("defaults: [gru, _self_]\nhidden_size: 6\n")
    given = ["--config-dir", "own", f"paths.root={tmp_path}", "study=mine", *TINY, "model=gru,mine"]
    command = [sys.executable, "-m", "gatelab", "sweep", *given]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "2 to run" in line:
                process.send_signal(signal.SIGHUP)
                break
        rest = process.stderr.read()
    assert process.returncode == 75, rest
    done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["done"] == 2
