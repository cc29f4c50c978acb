"""Texts in files: plain and packed, in folders and globs; what is no text is refused by name."""

import gzip
import sys
import types

import pytest

from gatelab.data.messages import DataError
from gatelab.data.text.module import TextDataModule
from gatelab.data.text.text_files import blocks, find_files, text_of

LINES = "".join(f"line {n} of a text\n" for n in range(200))


def module(path, **options) -> TextDataModule:
    data = TextDataModule(**{"corpus": "text", "level": "char", "path": str(path)} | options)
    data.setup()
    return data


def whole(data: TextDataModule) -> str:
    return "".join(data.tokenizer.decode(ids) for ids in data.tokens.values())


@pytest.fixture
def folder(tmp_path):
    texts = tmp_path / "texts"
    (texts / "below").mkdir(parents=True)
    (texts / "b.txt").write_text(LINES)
    (texts / "a.txt").write_text("without an end of line")
    (texts / "below" / "c.txt.gz").write_bytes(gzip.compress(b"line of a text\n"))
    (texts / ".hidden").write_text("hidden\n")
    (texts / "empty.txt").write_text("")
    return texts


def test_a_folder_is_its_files_by_name_joined_at_line_ends(folder):
    data = module(folder)
    assert whole(data) == "without an end of line\n" + LINES + "line of a text\n"
    assert list(data.fingerprint) == ["texts/ (4 files)"]
    assert any("joined in the order of their names" in note for note in data.notes)


def test_a_glob_takes_what_it_matches(folder):
    assert whole(module(folder / "*.txt")) == "without an end of line\n" + LINES
    assert whole(module(folder / "b*")) == LINES


def test_at_level_byte_files_are_joined_as_they_are(folder):
    data = module(folder / "*.txt", level="byte")
    assert whole(data) == "without an end of line" + LINES


def test_a_changed_renamed_or_added_file_is_another_corpus(folder):
    before = module(folder).fingerprint
    (folder / "d.txt").write_text("more\n")
    added = module(folder).fingerprint
    (folder / "d.txt").rename(folder / "e.txt")
    renamed = module(folder).fingerprint
    assert len({str(sorted(found.items())) for found in (before, added, renamed)}) == 3


def test_a_packed_file_is_the_plain_one(tmp_path):
    (tmp_path / "plain.txt").write_text(LINES)
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(LINES.encode()))
    plain, packed = module(tmp_path / "plain.txt"), module(tmp_path / "packed.txt.gz")
    assert whole(packed) == whole(plain) == LINES
    assert packed.spec == plain.spec


def test_zst_is_unpacked_by_zstandard(tmp_path):
    zstandard = pytest.importorskip("zstandard", reason="pip install 'gatelab[zst]'")
    (tmp_path / "t.zst").write_bytes(zstandard.compress(LINES.encode()) + zstandard.compress(b"next frame\n"))
    assert str(text_of([tmp_path / "t.zst"], "char")) == LINES + "next frame\n"
    (tmp_path / "bad.zst").write_bytes(b"no zst")
    with pytest.raises(DataError, match=r"bad\.zst: cannot be unpacked"):
        list(blocks(tmp_path / "bad.zst"))


def test_zst_without_zstandard_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "t.zst").write_bytes(b"anything")
    with pytest.raises(DataError, match=r"t\.zst: a package is missing.*gatelab\[zst\]"):
        module(tmp_path / "t.zst")


def test_zst_goes_through_the_reader_of_the_package(tmp_path, monkeypatch):
    """With a stand-in that unpacks gzip: what is asked of the package, and that its error becomes ours."""

    class Decompressor:
        def stream_reader(self, source, *, read_across_frames):
            assert read_across_frames
            return gzip.GzipFile(fileobj=source)

    fake = types.SimpleNamespace(ZstdDecompressor=Decompressor, ZstdError=EOFError)
    monkeypatch.setitem(sys.modules, "zstandard", fake)
    packed = gzip.compress(LINES.encode())
    (tmp_path / "t.zst").write_bytes(packed)
    assert whole(module(tmp_path / "t.zst")) == LINES
    (tmp_path / "t.zst").write_bytes(packed[:-20])
    with pytest.raises(DataError, match=r"t\.zst: cannot be unpacked"):
        module(tmp_path / "t.zst")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"a\.txt: is empty"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), r"a\.txt\.gz: is empty"),
        ("a.txt.gz", gzip.compress(LINES.encode(), mtime=0)[:-20], r"a\.txt\.gz: cannot be unpacked"),
        ("a.txt.gz", b"no gzip", r"a\.txt\.gz: cannot be unpacked"),
        ("a.bin", b"text\n\x00\x01", r"a\.bin: is a binary file \(byte 5 is 0x00\).*data\.level=byte"),
        ("a.bin", b"\xff\xd8\xff\xe0 picture", r"a\.bin: is an image; leave the file out.*data\.level=byte"),
        ("a.bin", b"\xff\xf0 no text", r"a\.bin: line 1 is not UTF-8 \(byte 0 .*data\.level=byte"),
    ],
)
@pytest.mark.parametrize("level", ["word", "char", "bpe"])
def test_what_is_no_text_is_refused_by_name(tmp_path, name, content, message, level):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        module(tmp_path / name, level=level)


def test_paths_without_files_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("*.nothing", "matches no file"),
        ("empty", "no file in this folder"),
        ("x", "no such"),
    ):
        with pytest.raises(DataError, match=rf"data\.path=.*{message}"):
            find_files("data.path", str(tmp_path / name))


@pytest.mark.parametrize("before", [0, 1, 2, 3, 5])
def test_text_does_not_depend_on_the_blocks_it_is_read_in(tmp_path, monkeypatch, before):
    raw = b"\xef\xbb\xbf" + "é猫\r\nnext\rline\r".encode() + b"x" * before + b"\r\n\r\n\xf0\x9f\x90\x88"
    (tmp_path / "t").write_bytes(raw)
    expected = raw.decode("utf-8-sig").replace("\r\n", "\n")
    for size in (4, 5, 7, 1000):
        monkeypatch.setattr("gatelab.data.text.text_files._BLOCK", size)
        assert str(text_of([tmp_path / "t"], "char")) == expected
        (tmp_path / "bad").write_bytes(raw + b"\nno \xe9\n")
        line = raw.count(b"\n") + 2
        with pytest.raises(DataError, match=rf"line {line} is not UTF-8 \(byte {len(raw) + 4} is 0xe9\)"):
            text_of([tmp_path / "bad"], "char")
