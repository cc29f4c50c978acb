"""Fetching: only published bytes, only whole files, one download for two processes, errors that say what to do."""

import hashlib
import http.server
import io
import multiprocessing
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatelab.data.fetch import SOURCES, Source, default_cache, fetch, sha256_of, sha256_of_sounds
from gatelab.data.messages import FetchError

CONTENT = b"some published bytes\n" * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "set/file.txt"


class _Server(http.server.ThreadingHTTPServer):
    requests = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        self.server.requests += 1
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: 3000 if self.path == "/interrupted" else None])

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch):
    monkeypatch.delenv("GATELAB_DATA_MIRROR", raising=False)


def source(server: _Server, path: str = "/file.txt", sha256: str = SHA256) -> Source:
    return Source(f"http://127.0.0.1:{server.server_port}{path}", sha256)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_download_is_cached_and_shows_its_progress(server, tmp_path, capfd):
    first = fetch(NAME, cache=tmp_path, source=source(server))
    assert first.path.read_bytes() == CONTENT
    assert first.sha256 == SHA256
    shown = capfd.readouterr()
    assert NAME in shown.err
    assert shown.out == ""
    assert fetch(NAME, cache=tmp_path, source=source(server)) == first
    assert server.requests == 1
    assert files(tmp_path) == ["file.txt"]


def test_mirror_comes_before_cache_and_network(server, tmp_path, monkeypatch):
    for folder in ("named", "environment"):
        (tmp_path / folder / "set").mkdir(parents=True)
        (tmp_path / folder / NAME).write_bytes(CONTENT)
    monkeypatch.setenv("GATELAB_DATA_MIRROR", str(tmp_path / "environment"))
    assert fetch(NAME, cache=tmp_path / "c", source=source(server)).path == tmp_path / "environment" / NAME
    named = fetch(NAME, mirror=tmp_path / "named", cache=tmp_path / "c", source=source(server))
    assert named.path == tmp_path / "named" / NAME
    assert server.requests == 0


def test_mirror_without_the_file_is_passed_over(server, tmp_path):
    (tmp_path / "mirror").mkdir()
    found = fetch(NAME, mirror=tmp_path / "mirror", cache=tmp_path / "cache", source=source(server))
    assert found.path == tmp_path / "cache" / NAME


def test_mirror_with_other_bytes_is_an_error_not_a_fallback(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / NAME).write_bytes(b"other bytes")
    found = hashlib.sha256(b"other bytes").hexdigest()
    with pytest.raises(FetchError, match=f"file.txt.*expected {SHA256}, found {found}"):
        fetch(NAME, mirror=tmp_path, cache=tmp_path / "cache", source=source(server))
    assert server.requests == 0


def test_mirror_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(FetchError, match=r"data\.mirror=.*nowhere"):
        fetch("ptb/ptb.test.txt", mirror=tmp_path / "nowhere")


def test_wrong_download_names_url_expected_and_found_and_leaves_nothing(server, tmp_path):
    wrong = source(server, sha256="0" * 64)
    with pytest.raises(FetchError) as caught:
        fetch(NAME, cache=tmp_path, source=wrong)
    message = str(caught.value)
    assert wrong.url in message
    assert f"expected {'0' * 64}" in message
    assert f"found {SHA256}" in message
    assert files(tmp_path) == []


@pytest.mark.parametrize("path", ["/missing", "/interrupted"])
def test_failed_download_names_the_url_and_leaves_nothing(server, tmp_path, path):
    with pytest.raises(FetchError, match=f"{path}.*data.mirror"):
        fetch(NAME, cache=tmp_path, source=source(server, path))
    assert files(tmp_path) == []


def test_no_server_at_all_is_a_clear_error(server, tmp_path):
    dead = source(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(FetchError, match="could not be downloaded"):
        fetch(NAME, cache=tmp_path, source=dead)


def test_damaged_cache_is_downloaded_again(server, tmp_path):
    path = fetch(NAME, cache=tmp_path, source=source(server)).path
    path.write_bytes(CONTENT[:100])
    assert fetch(NAME, cache=tmp_path, source=source(server)).path.read_bytes() == CONTENT
    assert server.requests == 2


def test_remains_of_a_killed_download_do_no_harm(server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / f"{NAME}.part").write_bytes(b"half")
    assert fetch(NAME, cache=tmp_path, source=source(server)).path.read_bytes() == CONTENT
    assert files(tmp_path) == ["file.txt"]


def _fetch_in_child(cache: Path, where: Source, results: "multiprocessing.Queue[bytes]") -> None:
    results.put(fetch(NAME, cache=cache, source=where).path.read_bytes())


def test_two_processes_download_once(server, tmp_path):
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[bytes] = context.Queue()
    workers = [
        context.Process(target=_fetch_in_child, args=(tmp_path, source(server), results)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert found == [CONTENT, CONTENT]
    assert server.requests == 1


def test_unknown_names_and_the_known_table():
    with pytest.raises(FetchError, match=r"ptb/ptb\.tset\.txt: not a known file"):
        fetch("ptb/ptb.tset.txt")
    known = [(len(entry.sha256), len(entry.git), len(entry.sounds)) for entry in SOURCES.values()]
    assert set(known) <= {(64, 0, 0), (0, 40, 0), (0, 0, 64)}
    assert all(entry.url.startswith("http") for entry in SOURCES.values())


def test_the_hash_of_git_does_where_no_sha256_is_known(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "f").write_bytes(b"hello\n")
    known = Source("http://nowhere", "", "ce013625030ba8dba906f756967f9e9ca394464a")  # git hash-object
    assert fetch("m/f", mirror=tmp_path, source=known).sha256 == sha256_of(tmp_path / "m" / "f")
    (tmp_path / "m" / "f").write_bytes(b"hallo\n")
    with pytest.raises(FetchError, match=r"expected git ce0136.*found [0-9a-f]{64}"):
        fetch("m/f", mirror=tmp_path, source=known)


def test_the_sounds_of_an_archive_are_known_whatever_its_order_and_folders(tmp_path):
    def pack(name, *members):
        with tarfile.open(tmp_path / name, "w:gz") as archive:
            for member, content in members:
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return tmp_path / name

    first = pack("m.tar.gz", ("recordings/a.wav", b"a"), ("recordings/b.wav", b"b"))
    other = pack("o.tar.gz", ("x-1.0/b.wav", b"b"), ("x-1.0/README", b"r"), ("x-1.0/a.wav", b"a"))
    changed = pack("c.tar.gz", ("a.wav", b"a"), ("b.wav", b"c"))
    known = Source("http://nowhere", "", sounds=sha256_of_sounds(first))
    assert known.holds(first) == known.holds(other) == known.sounds
    assert known.holds(changed) == ""
    (tmp_path / "cut.tar.gz").write_bytes(first.read_bytes()[:-20])
    assert known.holds(tmp_path / "cut.tar.gz") == ""
    with pytest.raises(FetchError, match=r"c.tar.gz: .* of the WAV files in it"):
        fetch("c.tar.gz", mirror=tmp_path, source=known)


def test_every_known_file_in_the_mirror_has_the_published_bytes(mirror):
    for name, entry in SOURCES.items():
        if (mirror / name).is_file():
            assert fetch(name, mirror=mirror).sha256 == (entry.sounds or entry.sha256)


def test_cache_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("GATELAB_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
