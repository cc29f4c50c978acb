"""Runs are free processes that leave nothing behind: forked or fresh, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from gatelab.study.engine.directory import birth
from gatelab.study.engine.runner import ForkRunner, FreshRunner

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def runners(importable):
    made = {"fork": ForkRunner("probe"), "process": FreshRunner("probe")}
    yield made
    for runner in made.values():
        runner.close()


@pytest.fixture(params=["fork", "process"])
def either(runners, request):
    return runners[request.param]


def begin(runner, folder, do, **env):
    out, request = folder / "out", folder / "request.json"
    request.write_text(json.dumps({"do": do, "out": str(out)}))
    kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH")}
    return runner.start(request, folder / "log", {**kept, **env}, folder), out


def eventually(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, condition
        time.sleep(0.01)
    return value


def text_of(file):
    return eventually(lambda: file.is_file() and file.read_text())


def gone(pid):
    return birth(int(pid)) is None


@pytest.fixture(scope="module", params=["fork", "process"])
def told(runners, request, tmp_path_factory):
    """What a run says about itself: (facts, its folder)."""
    folder = tmp_path_factory.mktemp(request.param)
    process, out = begin(runners[request.param], folder, "tell", ONLY="this")
    assert process.wait() == 7
    return json.loads(out.read_text()), folder


def test_a_run_is_a_free_process_with_its_own_everything(told):
    facts, folder = told
    assert facts["session"] == facts["pid"] != os.getpid()
    assert facts["cwd"] == str(folder)
    assert facts["env"]["ONLY"] == "this"
    assert "HOME" not in facts["env"]
    assert facts["stdin"] == ""
    assert facts["signals"] == {"SIGTERM": True, "SIGUSR1": True}
    assert (folder / "log").read_text().split("\n")[:2] == ["on stdout", "on stderr"]


def test_a_run_may_use_threads_and_has_not_started_cuda(told):
    facts, _ = told
    assert facts["threads"] == 2  # of the native kernel
    assert facts["pool"] >= 2  # of the tensor library, after a product
    assert not facts["cuda"]


def test_the_fork_server_prepares_once_and_a_run_ends_as_an_interpreter_does(told):
    facts, folder = told
    assert facts["prepared_by"] in ([], [facts["parent"]])
    assert "undone by the run" in (folder / "log").read_text()


def test_what_starts_a_run_again_starts_the_run(told):
    facts, folder = told
    assert facts["command"] == ["probe", str(folder / "request.json")]


def test_an_error_ends_the_run_with_its_text_in_the_log(either, tmp_path):
    process, _ = begin(either, tmp_path, "fail")
    assert process.wait() == 1
    assert "ValueError: as requested" in (tmp_path / "log").read_text()


def test_no_process_of_a_session_outlives_its_first_one(either, tmp_path):
    process, out = begin(either, tmp_path, "leave_children")
    assert process.wait() == 0
    eventually(lambda: gone(out.read_text()), 10)


def test_a_run_can_be_asked_to_stop_and_leaves_nothing(either, tmp_path):
    process, out = begin(either, tmp_path, "wait")
    *_, child = text_of(out).split()
    process.terminate()
    assert process.wait() == 75
    eventually(lambda: gone(child), 10)


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_run_that_has_hardly_begun_hears_it_too(either, how, tmp_path):
    for number in range(10):
        (folder := tmp_path / str(number)).mkdir()
        process, _ = begin(either, folder, "wait")
        getattr(process, how)()
        waiter = threading.Thread(target=process.wait, daemon=True)
        waiter.start()
        waiter.join(30)
        assert not waiter.is_alive()


def test_a_run_can_be_killed_with_all_of_its_processes(either, tmp_path):
    process, out = begin(either, tmp_path, "wait")
    *_, child = text_of(out).split()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    eventually(lambda: gone(child), 10)


def test_several_runs_go_on_at_once(either, tmp_path):
    folders = [tmp_path / str(index) for index in range(4)]
    for folder in folders:
        folder.mkdir()
    started = [begin(either, folder, "wait") for folder in folders]
    pids = [text_of(out).split()[0] for _, out in started]
    assert len(set(pids)) == 4
    started[2][0].terminate()
    assert started[2][0].wait() == 75
    assert [gone(pid) for pid in pids] == [False, False, True, False]
    for process, _ in started:
        process.kill()
        process.wait()


def test_runs_die_with_their_fork_server_and_the_next_one_gets_another(runners, tmp_path):
    (tmp_path / "a").mkdir()
    process, out = begin(runners["fork"], tmp_path / "a", "wait")
    pid, server, _ = text_of(out).split()
    os.kill(int(server), signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    eventually(lambda: gone(pid), 10)
    process, _ = begin(runners["fork"], tmp_path, "fail")
    assert process.wait() == 1


WORKER = """
import json, os, sys
from pathlib import Path
from gatelab.study.engine.runner import ForkRunner, FreshRunner
folder = Path(sys.argv[2])
runner = (ForkRunner if sys.argv[1] == "fork" else FreshRunner)("probe")
(folder / "request.json").write_text(json.dumps({"do": "wait", "out": str(folder / "out")}))
runner.start(folder / "request.json", folder / "log", dict(os.environ), folder).wait()
"""


@pytest.mark.parametrize("kind", ["fork", "process"])
def test_everything_dies_with_the_worker(kind, importable, tmp_path):
    worker = subprocess.Popen([sys.executable, "-c", WORKER, kind, str(tmp_path)])
    pid, parent, _ = text_of(tmp_path / "out").split()
    worker.kill()
    worker.wait()
    eventually(lambda: gone(pid) and gone(parent), 10)
