"""`gatelab dashboard`: its servers answer, it ends with all of them however it ends, and says what it did not start."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from gatelab.cli.main import main
from gatelab.report.dashboard.show import start_all
from gatelab.report.gather import gather
from gatelab.study.analysis.read import open_storage_to_read

SPEC = importlib.util.spec_from_file_location("made", Path(__file__).parents[1] / "studies_by_hand.py")
made = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(made)
COMMAND = [sys.executable, "-u", "-m", "gatelab", "dashboard", "--no-browser"]


@pytest.fixture
def root(tmp_path):
    """A folder with the finished study `sizes`, one of whose runs wrote an event file."""
    trials = [{"params": {"model.hidden_size": h}, "values": [8 / h, 9 / h]} for h in (8, 16)]
    made.Maker(tmp_path)("sizes", [made.choice("model.hidden_size", 8, 16)], trials, seeds=[0, 1])
    events = tmp_path / "runs" / "sizes" / "00010000-s1" / "tensorboard"
    events.mkdir()
    (events / "events.out.tfevents.1.host").write_bytes(b"")
    return tmp_path


def descendants(pid):
    """Every process below `pid`, with its start time, so that a pid that is used again is another process."""
    found = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= {(int(child), started(int(child))), *descendants(int(child))}
    return found


def started(pid):
    """When a living process began; None for one that has gone or is a zombie."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return None if state == "Z" else rest[18]


def opened(process):
    """What the command says until it waits."""
    said = []
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C" in line:
            break
    return "".join(said)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
@pytest.mark.parametrize(
    "how", [signal.SIGINT, signal.SIGKILL, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_the_servers_answer_and_none_outlives_the_command(root, how):
    command = [*COMMAND, "sizes", f"paths.root={root}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = opened(process)
        addresses = re.findall(r"http://127\.0\.0\.1:\d+/", said)
        assert len(addresses) == 2, said
        for address in addresses:
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert answer.status == 200
        children = descendants(process.pid)
        assert len(children) >= 2
        process.send_signal(how)
        assert process.wait(30) == (0 if how != signal.SIGKILL else -signal.SIGKILL)
        until = time.monotonic() + 15
        while (left := [p for p, began in children if started(p) == began]) and time.monotonic() < until:
            time.sleep(0.05)
        assert not left
        assert (root / "studies" / "sizes" / "report.html").is_file()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_journal_cannot_be_changed_through_the_dashboard(root):
    journal = root / "studies" / "sizes" / "journal.log"
    before = journal.read_bytes()
    storage = open_storage_to_read(root / "studies" / "sizes")
    (study,) = storage.get_all_studies()
    with pytest.raises(PermissionError, match="reading only"):
        storage.delete_study(study._study_id)
    assert journal.read_bytes() == before


def test_runs_are_named_by_what_they_tried_and_what_is_not_started_is_said(root, tmp_path, monkeypatch):
    class Noted:
        def start(self, name, command):
            self.command = command
            return type("Server", (), {"address": "there"})

    servers, scratch = Noted(), tmp_path / "scratch"
    subjects, _ = gather(["sizes"], root / "studies")
    told = dict(start_all(subjects, servers, scratch))
    assert told == {"tensorboard": "there", "optuna sizes": "there"}
    links = [p for p in scratch.rglob("*") if p.is_symlink()]
    assert [str(p.relative_to(scratch)) for p in links] == ["sizes/0001 hidden_size=16/s1"]
    assert os.path.samefile(links[0], root / "runs" / "sizes" / "00010000-s1" / "tensorboard")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    told = dict(start_all(subjects, servers, tmp_path / "other"))
    assert all("pip install 'gatelab[dashboard]'" in said for said in told.values())


def test_without_anything_to_serve_it_writes_the_report_and_ends(capsys, tmp_path):
    record = Path(__file__).parents[2] / "experiments" / "002-hidden-size"
    assert main(["dashboard", str(record), "--no-browser", f"paths.root={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "no run here wrote event files" in said
    assert "no study among these paths" in said
    assert (tmp_path / "report.html").is_file()
    assert main(["dashboard", "nowhere", f"paths.root={tmp_path}"]) == 2
