"""`gatelab dashboard`: its servers answer, it ends with all of them however it ends, and says what it did not start."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from gatelab.cli.main import main
from gatelab.report.dashboard import guarded, link_events, start_servers
from gatelab.report.gather import gather
from gatelab.study.analysis.read import open_storage_to_read

pytestmark = pytest.mark.ci

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
        process.send_signal(how)
        assert process.wait(30) == (0 if how != signal.SIGKILL else -signal.SIGKILL)
        until = time.monotonic() + 15
        while (left := [p for p, began in children if started(p) == began]) and time.monotonic() < until:
            time.sleep(0.05)
        assert not left
        for address in addresses:
            with pytest.raises(OSError, match="refused"):
                urllib.request.urlopen(address, timeout=5)
        assert (root / "studies" / "sizes" / "report.html").is_file()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_nothing_can_be_changed_through_the_dashboard(root, tmp_path, monkeypatch, storage):
    study = root / "studies" / "sizes"
    next(root.glob("runs/*/*/tensorboard/*")).unlink()  # nothing for TensorBoard
    if storage == "sqlite":
        url = f"sqlite:///{tmp_path}/s.db"
        optuna.copy_study(from_study_name="sizes", from_storage=open_storage_to_read(study), to_storage=url)
        monkeypatch.setattr("gatelab.report.dashboard.open_storage_to_read", lambda _, trust: RDBStorage(url))
    subjects, _ = gather(["sizes"], root / "studies")
    address = dict(start_servers(subjects, tmp_path / "scratch"))["optuna sizes"]

    def ask(method, path, host=None):
        request = urllib.request.Request(
            address + path, method=method, headers={"Host": host} if host else {}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""

    status, text = ask("GET", "api/studies")
    (listed,) = json.loads(text)["study_summaries"]
    for method in ("DELETE", "POST", "PUT", "PATCH"):
        assert ask(method, f"api/studies/{listed['study_id']}")[0] == 405
    assert ask("GET", "api/studies") == (status, text) == (200, text)
    assert ask("GET", "api/studies", "evil.example")[0] == 403
    assert ask("GET", "api/studies", "localhost:80")[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:6006", 200), ("[::1]:6006", 200), ("evil.example", 403), ("[", 403), ("", 403)],
)
def test_a_host_header_of_another_machine_is_refused(host, status):
    answered = []
    application = guarded(lambda environ, start: start("200 OK", []) or [b"x"])
    application({"HTTP_HOST": host, "REQUEST_METHOD": "POST"}, lambda text, _: answered.append(int(text[:3])))
    assert answered == [status]


def test_runs_are_named_by_what_they_tried_also_of_two_studies_of_one_name(root, tmp_path):
    scratch = tmp_path / "scratch"
    subjects, _ = gather(["sizes"], root / "studies")
    assert link_events([*subjects, *subjects], scratch) == 2
    links = sorted(p for p in scratch.rglob("*") if p.is_symlink())
    point = "0001 hidden_size=16/s1"
    assert [str(p.relative_to(scratch)) for p in links] == [f"sizes/{point}", f"sizes-2/{point}"]
    assert os.path.samefile(links[0], root / "runs" / "sizes" / "00010000-s1" / "tensorboard")


def test_what_is_not_installed_is_named(root, tmp_path, monkeypatch):
    subjects, _ = gather(["sizes"], root / "studies")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    answers = dict(start_servers(subjects, tmp_path / "other"))
    assert all("pip install 'gatelab[dashboard]'" in answer for answer in answers.values())


def test_without_anything_to_serve_it_writes_the_report_and_ends(capsys, tmp_path):
    record = Path(__file__).parents[2] / "experiments" / "002-hidden-size"
    assert main(["dashboard", str(record), "--no-browser", f"paths.root={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "no run here wrote event files" in said
    assert "no study among these paths" in said
    assert (tmp_path / "report.html").is_file()
    assert main(["dashboard", "nowhere", f"paths.root={tmp_path}"]) == 2
