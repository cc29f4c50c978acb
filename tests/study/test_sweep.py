"""A sweep from its command to its end: signals, and folders of the user's own."""

import json
import os
import signal
import subprocess
import sys

import pytest

from gatelab.data.stop_signals import STOP
from gatelab.run import Interrupted, RequestError, RunFailed
from gatelab.study import sweep as module
from gatelab.study.engine.resources import usable_cores
from gatelab.study.sweep import Ended, finish, sweep

from .front_tools import TINY, planned, submitted


@pytest.mark.usefixtures("no_alarm")
@pytest.mark.parametrize("name", [number.name for number in STOP])
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


CASES = {
    "workers that were stopped": (Ended(), Interrupted, 75),
    "a worker that was killed": (Ended(["worker 0: it ended with signal 9"]), RunFailed, 1),
    "a stop of the sweep": (Ended(["worker 0: it ended with signal 9"], stopped=True), Interrupted, 75),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_left_is_interrupted_unless_something_went_wrong(case, tmp_path):
    ended, kind, code = CASES[case]
    made, _ = submitted("study=mine", *TINY, f"paths.root={tmp_path}", "optim.lr=1e-3,1e-2")
    with pytest.raises(kind, match="the same command continues it") as end:
        finish(made, ended)
    assert end.value.exit_code == code


@pytest.mark.parametrize(("threads", "share"), [(1, 2), (2, 2), (64, 2), (64, None)])
def test_threads_beyond_a_slots_share_are_told(threads, share, tmp_path):
    given = ["optim.lr=1e-3,1e-2", f"threads={threads}", *([f"study.threads={share}"] if share else [])]
    notes = planned("study=mine", *TINY, f"paths.root={tmp_path}", "study.slots=64", *given).notes
    share = share or max(1, usable_cores() // 64)
    told = [note for note in notes if note.startswith(f"threads={threads}: a run has {share} here")]
    assert len(told) == (threads > share)


def test_a_study_whose_folder_is_gone_is_refused(tmp_path):
    module._check_folder("size", {"cwd": str(tmp_path)})
    with pytest.raises(RequestError, match=r"study size: its runs work in .*gone, where the sweep began"):
        module._check_folder("size", {"cwd": str(tmp_path / "gone")})
