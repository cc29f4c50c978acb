"""The journal survives kills and torn lines; what cannot work is refused; databases and the proxy are reached."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import unquote

import optuna
import pytest
import sqlalchemy

from gatelab.run import RequestError
from gatelab.study.engine.storage import (
    PASSWORD,
    check_storage,
    hide_password,
    keep_password,
    open_journal,
    open_storage,
    repair,
    with_password,
)
from gatelab.study.plan.request import read_search

from ..front_tools import TINY, submitted

pytestmark = pytest.mark.ci


def new_study(storage, name="s"):
    return optuna.create_study(study_name=name, storage=storage, load_if_exists=True)


@pytest.mark.parametrize("torn", [b'{"torn', b'{"op_code": 9, "worker_id": "x"}', b"x" * 10_000])
def test_a_torn_last_line_is_cut_off_and_nothing_else(tmp_path, torn):
    file = tmp_path / "journal.log"
    study = new_study(open_journal(file))
    study.set_user_attr("a", 1)
    whole = file.read_bytes()
    file.write_bytes(whole + torn)
    study.set_user_attr("b", 2)
    assert file.read_bytes().startswith(whole)
    assert torn not in file.read_bytes()
    assert new_study(open_journal(file)).user_attrs == {"a": 1, "b": 2}


def test_repair_leaves_a_whole_file_alone_and_empties_one_without_a_line(tmp_path):
    file = tmp_path / "f"
    for before, after in ((b"", b""), (b"a\n", b"a\n"), (b"abc", b""), (b"a\n" + b"b" * 9000, b"a\n")):
        file.write_bytes(before)
        assert repair(file) == len(before) - len(after)
        assert file.read_bytes() == after


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    file = tmp_path / "journal.log"
    new_study(open_journal(file)).set_user_attr("a", 1)
    first, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + b"\0\0\0\n" + b"".join(rest))
    with pytest.raises(RequestError, match=r"journal\.log: line 2 is damaged"):
        open_storage(f"journal://{file}")


HOLDER = """
import sys
from pathlib import Path
from gatelab.study.engine.storage import KernelLock
KernelLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_killed_holder_of_the_lock_blocks_nobody(tmp_path):
    file = tmp_path / "journal.log"
    study = new_study(open_journal(file))
    command = [sys.executable, "-c", HOLDER, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        writer = threading.Thread(target=study.set_user_attr, args=("a", 1))
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()  # the lock is real
        holder.send_signal(signal.SIGKILL)
        writer.join(20)
        assert not writer.is_alive()
    assert study.user_attrs == {"a": 1}


WRITER = """
import sys, threading
from pathlib import Path
import optuna
from gatelab.study.engine.storage import open_journal
storage = open_journal(Path(sys.argv[1]))
study = optuna.load_study(study_name="s", storage=storage)
def write(thread):
    for index in range(20):
        study.set_user_attr(f"{sys.argv[2]}-{thread}-{index}", index)
        study.enqueue_trial({"x": index}, user_attrs={"by": sys.argv[2]})
threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
for t in threads: t.start()
for t in threads: t.join()
"""


def test_processes_and_threads_write_at_once_and_nothing_is_lost(tmp_path):
    file = tmp_path / "journal.log"
    study = new_study(open_journal(file))
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), str(n)]) for n in range(4)]
    assert [writer.wait(120) for writer in writers] == [0] * 4
    expected = {f"{p}-{t}-{i}": i for p in range(4) for t in range(3) for i in range(20)}
    assert study.user_attrs == expected
    assert len(study.trials) == 4 * 3 * 20
    assert [trial.number for trial in study.trials] == list(range(4 * 3 * 20))


def test_sqlite_is_refused_for_several_slots_with_the_reason_and_the_fix():
    with pytest.raises(
        RequestError, match=r"SQLite cannot serve 2 slots.*same trial.*Leave study\.storage away"
    ):
        check_storage("sqlite:///x.db", 2)
    check_storage("sqlite:///x.db", 1)
    check_storage(None, 8)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://h/d", "Did you mean 'postgresql'"),
        ("grpc://host", "write grpc://HOST:PORT"),
        ("journal.log", "no such kind of storage"),
    ],
)
def test_a_wrong_storage_is_refused_with_what_it_may_be(url, expected):
    with pytest.raises(RequestError, match=expected):
        check_storage(url, 1)


def test_sqlite_serves_one_slot(tmp_path):
    study = new_study(open_storage(f"sqlite:///{tmp_path}/a.db"))
    study.set_user_attr("a", 1)
    assert study.user_attrs == {"a": 1}


def test_a_password_is_not_shown():
    assert hide_password("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert hide_password("postgresql://host/db") == "postgresql://host/db"


@pytest.mark.parametrize("password", ["secret", "a/b@c:d", "p%40ss"])
def test_a_password_leaves_the_command_line_and_comes_back_from_the_environment(monkeypatch, password):
    monkeypatch.setenv(PASSWORD, "")
    url = f"postgresql+psycopg://me:{password}@host:5432/db"
    kept = keep_password(["seed=1", f"study.storage={url}"])
    assert kept == ["seed=1", "study.storage='postgresql+psycopg://me@host:5432/db'"]
    url = sqlalchemy.make_url(with_password("postgresql+psycopg://me@host:5432/db"))
    assert (url.password, url.host, url.port) == (unquote(password), "host", 5432)
    for other in ("postgresql://host/db", "sqlite:///a.db", "grpc://host:1", "journal:///x@y:z"):
        assert (keep_password([f"study.storage={other}"]), with_password(other)) == (
            [f"study.storage={other}"],
            other,
        )


def test_a_study_in_a_database_holds_no_password_and_is_continued_with_or_without_it(tmp_path, monkeypatch):
    monkeypatch.setenv(PASSWORD, "")
    connected = []
    file = f"sqlite:///{tmp_path}/a.db"  # in the server's place
    monkeypatch.setattr(
        "gatelab.study.engine.storage.with_password", lambda url: connected.append(with_password(url)) or file
    )
    monkeypatch.chdir(tmp_path)
    lines = [*TINY, "study=kept", "model.hidden_size=4,5"]
    given = [*lines, "study.storage=postgresql://me:hunter2@host/db"]
    monkeypatch.setattr(sys, "argv", ["gatelab", "sweep", *given])
    assert submitted(*given)[1]["waiting"] == 2
    assert set(connected) == {"postgresql://me:hunter2@host/db"}
    files = [path for path in (tmp_path / "studies").rglob("*") if path.is_file()]
    assert [path for path in files if b"hunter2" in path.read_bytes()] == []
    assert submitted(*given)[1]["waiting"] == 2
    assert submitted(*lines, "study.storage=postgresql://me@host/db")[1]["waiting"] == 2


def test_a_password_that_cannot_be_kept_out_of_files_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"USER:PASSWORD@HOST"):
        check_storage("postgresql://host/db?user=me&password=secret", 1)
    (tmp_path / "search").mkdir()
    (tmp_path / "search/mine.yaml").write_text("study: {storage: 'mysql://me:secret@host/db'}")
    with pytest.raises(RequestError, match=r"search/mine\.yaml: .*no passwords in files"):
        read_search("mine", [tmp_path])


def test_a_missing_driver_is_named_with_its_package():
    if importlib.util.find_spec("psycopg2"):
        pytest.skip("the driver is there")
    with pytest.raises(RequestError, match=r"me:\*\*\*@.*pip install 'psycopg\[binary\]'"):
        open_storage("postgresql://me:secret@127.0.0.1:1/db")


SERVER = """
import sys
import optuna
storage = optuna.storages.get_storage(sys.argv[1])
optuna.storages.run_grpc_proxy_server(storage, host="localhost", port=int(sys.argv[2]))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


@pytest.fixture
def proxy(tmp_path):
    """A real gRPC server of Optuna's, in front of SQLite."""
    pytest.importorskip("grpc")
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-c", SERVER, f"sqlite:///{tmp_path}/a.db", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    yield f"grpc://localhost:{port}"
    server.kill()
    server.wait()


def test_a_grpc_proxy_is_reached(proxy):
    storage = open_storage(proxy)
    assert isinstance(storage, optuna.storages.GrpcStorageProxy)
    study = new_study(storage)
    study.set_user_attr("a", 1)
    assert new_study(open_storage(proxy)).user_attrs == {"a": 1}


def test_a_proxy_that_is_not_there_is_named(monkeypatch):
    pytest.importorskip("grpc")
    monkeypatch.setattr("gatelab.study.engine.storage.SERVER_SECONDS", 0.3)
    with pytest.raises(RequestError, match=r"nobody answers there"):
        open_storage(f"grpc://localhost:{free_port()}")


@pytest.fixture
def postgresql(tmp_path):
    """A PostgreSQL server of our own, where its programs and a driver are installed."""
    pytest.importorskip("psycopg")
    initdb, server = shutil.which("initdb"), shutil.which("postgres")
    if not initdb or not server or os.geteuid() == 0:
        pytest.skip("needs PostgreSQL's programs and a user other than root")
    data, port = tmp_path / "data", free_port()
    subprocess.run([initdb, "-D", data, "-U", "me", "--auth=trust"], check=True, capture_output=True)
    command = [server, "-D", data, "-p", str(port), "-k", str(tmp_path), "-h", "localhost"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"postgresql+psycopg://me@localhost:{port}/postgres"
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                break
        time.sleep(0.1)
    yield url
    process.terminate()
    process.wait()


def test_postgresql_is_reached(postgresql):
    study = new_study(open_storage(postgresql))
    study.set_user_attr("a", 1)
    assert new_study(open_storage(postgresql)).user_attrs == {"a": 1}
