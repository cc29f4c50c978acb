"""scripts/chaos/sweep.py sees every kind of damage, kills nobody else's process, and finds a real sweep unharmed."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gatelab.study.engine.directory import birth
from scripts.chaos.processes import Member, Processes
from scripts.chaos.verdict import judge

ROOT = Path(__file__).resolve().parents[2]


CREATE, PARAM, STATE, ATTR = 4, 5, 6, 8  # Optuna's operations
RUNNING, COMPLETE, FAIL, WAITING = 0, 1, 3, 4
RUN = "runs/x/0011aabb-s0"
GOOD = [(STATE, RUNNING), (STATE, WAITING), (STATE, RUNNING), (STATE, COMPLETE)]


def write_study(root, *, history=GOOD, attempts=2, again=False, weight=1.0, loss="0.5", outcome="done"):
    """A study of one trial with one run, with this history in its journal."""
    lines = [{"op_code": CREATE, "study_id": 0, "state": WAITING}]
    lines += [{"op_code": ATTR, "trial_id": 0, "user_attr": {"runs": [RUN]}}]
    for operation, state in history:
        values = [0.5] if state == COMPLETE else None
        lines += [{"op_code": operation, "trial_id": 0, "state": state, "values": values}]
    study, run = root / "studies/s", root / RUN
    study.mkdir(parents=True)
    (run / "checkpoints").mkdir(parents=True)
    (study / "journal.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    begun = [{"pid": number} for number in range(attempts)]
    if again:
        begun[0]["result"] = {"outcome": "done"}
    (run / "run.json").write_text(json.dumps({"attempts": begun}))
    if outcome is not None:
        splits = {"valid": {"metrics": {"mse": 0.5}, "seconds": attempts}}
        (run / "result.json").write_text(json.dumps({"outcome": outcome, "steps": 8, "splits": splits}))
    (run / "metrics.csv").write_text(f"step,loss\n8,{loss}\n")
    (run / "trace.csv").write_text("step,loss\n8,0.5\n")
    for name in ("best.ckpt", "last.ckpt"):
        state = {"state_dict": {"w": torch.full((2, 2), weight)}, "hyper_parameters": {"root": str(root)}}
        torch.save(state, run / "checkpoints" / name)
    return root


def verdict_on(folder, **damage):
    return judge(write_study(folder / "a", **damage), write_study(folder / "b", attempts=1), "s")


def test_a_study_that_was_killed_and_came_out_the_same_is_good(tmp_path):
    found = verdict_on(tmp_path)
    assert not found.wrong
    assert found.counts == {"trials": 1, "runs": 1, "claims": 2, "attempts": 2, "resumed": 1}


@pytest.mark.parametrize(
    ("damage", "kind", "text"),
    [
        ({"history": GOOD[:3]}, "lost", "trial 0: running at the end"),
        ({"history": [*GOOD[:3], (STATE, FAIL)]}, "lost", "trial 0: fail at the end"),
        ({"outcome": None}, "lost", "no result"),
        ({"outcome": "failed"}, "lost", "failed"),
        ({"history": [(STATE, RUNNING), *GOOD[2:]]}, "twice", "while it was not waiting, 1 times"),
        ({"history": [*GOOD, (STATE, COMPLETE)]}, "twice", "ended 2 times"),
        ({"attempts": 3}, "twice", "begun 3 times, given out 2 times"),
        ({"again": True}, "twice", "trained again after it was done"),
        ({"loss": "0.50001"}, "different", "metrics.csv, line [1]: '8,0.50001'"),
        ({"weight": 1.0000001}, "different", "last.ckpt/state_dict/w[0, 0]"),
    ],
)
def test_every_kind_of_damage_is_named(damage, kind, text, tmp_path):
    found = verdict_on(tmp_path, **damage)
    assert found.wrong
    assert any(text in line for line in getattr(found, kind)), found


def test_a_run_that_nobody_asked_for_is_named(tmp_path):
    root, reference = write_study(tmp_path / "a"), write_study(tmp_path / "b")
    (root / "runs/x/22-s0").mkdir()
    (root / "runs/x/22-s0/run.json").write_text("{}")
    assert judge(root, reference, "s").twice == ["runs/x/22-s0: the undisturbed study has no such run"]


def eventually(condition, seconds=30):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return value


def test_the_processes_is_what_was_started_and_its_orphans_and_nobody_else(tmp_path):
    stranger = subprocess.Popen(["sleep", "60"])
    parent = subprocess.Popen(["sh", "-c", "setsid sleep 60 & wait"])
    try:
        processes = Processes(tmp_path)
        processes.adopt(parent.pid)
        child = eventually(lambda: [m for m in processes.living() if m.pid != parent.pid])[0]
        assert processes.living() == {Member(parent.pid, birth(parent.pid)): "sweep", child: "other"}
        parent.kill()
        parent.wait()
        assert list(processes.living()) == [child]  # it belongs to init now
        assert processes.kill_all(random.Random(0)) == 1
        assert not processes.living()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_later_process_with_the_same_number_is_not_killed():
    process = subprocess.Popen(["sleep", "60"])
    try:
        assert not Member(process.pid, birth(process.pid) - 1).kill()
        assert process.poll() is None
        assert Member(process.pid, birth(process.pid)).kill()
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills_lose_nothing_and_change_nothing(tmp_path):
    command = [sys.executable, "-m", "scripts.chaos.sweep", "--kills", "10", "--minutes", "5"]
    command += ["--folder", str(tmp_path / "chaos")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "10 of 10 kills" in done.stdout
    assert "trials lost: 0   run twice: 0   different: 0   processes left behind: 0" in done.stdout
