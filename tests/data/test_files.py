import json
import re

import pytest

from gatelab.data.files import (
    atomic_file,
    atomic_write_bytes,
    atomic_write_text,
    files_of,
    read_json,
    write_json,
)
from gatelab.data.messages import DataError, did_you_mean
from gatelab.data.panel.long_frame import panel_files
from gatelab.data.text.text_files import find_files


def test_a_replaced_file_has_the_new_content_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "made" / "x.txt"
    atomic_write_text(target, "old\n")
    atomic_write_text(target, "né\r\n")
    assert target.read_bytes() == "né\r\n".encode()
    atomic_write_bytes(target, b"new", sync=False)
    assert target.read_bytes() == b"new"
    assert [file.name for file in target.parent.iterdir()] == ["x.txt"]


@pytest.fixture
def tree(tmp_path):
    for name in (
        "a/x.txt",
        "a/y.csv",
        "a/deep/er/x.txt",
        "b/x.txt",
        ".hidden/x.txt",
        "b/.x.txt",
        "c[1]/x.txt",
        "z.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/deep/round").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a", "a/deep/er/x.txt a/x.txt a/y.csv"),
        ("", "a/deep/er/x.txt a/x.txt a/y.csv b/x.txt c[1]/x.txt z.txt"),
        ("c[1]", "c[1]/x.txt"),
        ("*/x.txt", "a/x.txt b/x.txt c[1]/x.txt link/x.txt"),
        ("**/x.txt", "a/deep/er/x.txt a/x.txt b/x.txt c[1]/x.txt"),
        ("**/er/**", "a/deep/er/x.txt"),
        ("a/**/*.[ct]*", "a/deep/er/x.txt a/x.txt a/y.csv"),
        (".hidden/*", ".hidden/x.txt"),
        ("b/.*", "b/.x.txt"),
        ("a/../b/?.txt", "a/../b/x.txt"),
        ("nope/*", ""),
        ("**/**/z.txt", "z.txt"),
    ],
)
def test_a_folder_or_a_pattern_names_its_files(tree, name, found, monkeypatch):
    assert [file.relative_to(tree).as_posix() for file in files_of("data.path", tree / name)] == found.split()
    monkeypatch.chdir(tree)
    assert [file.as_posix() for file in files_of("data.path", name or ".")] == found.split()


@pytest.mark.parametrize("name", ["/", "/**", "/**/x.txt", "/*/*/*/*", "/../**/*.csv", "**/x"])
def test_a_path_that_takes_in_the_whole_disk_is_refused(name, monkeypatch):
    monkeypatch.chdir("/")
    for reader in (panel_files, lambda name: find_files("data.path", name)):
        with pytest.raises(DataError, match=rf"data\.path={re.escape(name)}: begins at the root of the disk"):
            reader(name)


def test_a_path_that_takes_in_too_much_is_refused(tree, monkeypatch):
    monkeypatch.setattr("gatelab.data.files.MOST_ENTRIES", 15)
    with pytest.raises(DataError, match=r"data\.path=.*: more than 15 files and folders"):
        files_of("data.path", tree)
    assert len(files_of("data.path", tree / "a")) == 3


def test_a_failed_write_leaves_the_old_content_and_nothing_beside_it(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")

    def fill():
        with atomic_file(target) as file:
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        fill()
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]


def test_json_that_is_written_reads_back(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1, None, "é"]})
    assert read_json(tmp_path / "x.json") == {"a": [1, None, "é"]}
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "y.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", json.dumps([1]).encode(), b"\0\0"])
def test_a_damaged_json_file_is_named(tmp_path, content):
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.json: not "):
        read_json(file)


def test_a_misspelt_name_gets_its_neighbour_and_never_itself():
    assert did_you_mean("tran", ["train", "valid"]) == " Did you mean 'train'?"
    assert did_you_mean("train", ["train"]) == ""
    assert did_you_mean("zzz", ["train", "valid"]) == ""


@pytest.mark.parametrize("name", ["a", "", "a/*", "**/*.txt"])
def test_a_link_to_a_file_that_is_not_there_is_refused_where_it_is_meant(tree, name):
    (tree / "a" / "lost.txt").symlink_to(tree / "gone.txt")
    with pytest.raises(DataError, match=r"data\.path=.*: the link .*lost\.txt leads to no file"):
        files_of("data.path", tree / name)
    assert len(files_of("data.path", tree / "a" / "*.csv")) == 1
