import json

import pytest

from gatelab.data.files import atomic_file, atomic_write_text, read_json, write_json
from gatelab.data.messages import DataError, did_you_mean


def test_a_replaced_file_has_the_new_content_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "made" / "x.txt"
    atomic_write_text(target, "old\n")
    atomic_write_text(target, "né\r\n", sync=False)
    assert target.read_bytes() == "né\r\n".encode()
    assert [file.name for file in target.parent.iterdir()] == ["x.txt"]


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
