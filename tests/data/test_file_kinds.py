"""A file of another kind is told as that by every reader of tables, whatever its name says."""

import bz2
import gzip
import json
import lzma
import sys

import numpy as np
import pandas as pd
import pytest

from gatelab.data import (
    LabelledTableDataModule,
    PairsDataModule,
    PanelDataModule,
    SeriesDataModule,
    SoundDataModule,
    TextDataModule,
)
from gatelab.data.audio.wav import read_sound
from gatelab.data.messages import DataError
from gatelab.data.series.table import read_table

FRAME = pd.DataFrame(
    {"id": ["a", "b"] * 20, "date": pd.date_range("2024", periods=40).astype(str), "y": range(40)}
)
CSV = FRAME.to_csv(index=False).encode()
RECORDS = FRAME.to_dict("records")
KINDS = {
    "records": (json.dumps(RECORDS).encode(), "JSON"),
    "lines": ("\n".join(map(json.dumps, RECORDS)).encode(), "JSON"),
    "indented": (json.dumps(RECORDS, indent=2).encode(), "JSON"),
    "rows": (json.dumps(FRAME.values.tolist()).encode(), "JSON"),
    "columns": (FRAME.to_json().encode(), "JSON"),
    "page": (b"\n<!DOCTYPE html>\n<html><title>Not found</title></html>\n", "a web page or XML"),
    "table": (FRAME.to_html().encode(), "a web page or XML"),
    "xml": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<rows></rows>\n', "a web page or XML"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "git lfs pull"),
    "bz2": (bz2.compress(CSV), "compressed: unpack it"),
    "xz": (lzma.compress(CSV), "compressed: unpack it"),
    "gzip": (gzip.compress(CSV), r"compressed: let its name end in \.csv\.gz"),
    "sheet": (b"PK\x03\x04\x14\0\6\0" + bytes(range(256)), "a spreadsheet or an archive"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(range(256)), "a PDF"),
    "plain pdf": (b"%PDF-1.4\n1 0 obj\n", "a PDF"),
    "document": (rb"{\rtf1\ansi a line}", "a document with its layout"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "an image"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)), "an image"),
    "gif": (b"GIF89a" + bytes(range(256)), "an image"),
    "sound": (b"RIFF\n\n\0\0WAVEfmt ", "a sound"),
    "database": (b"SQLite format 3\0" + bytes(99), "a database"),
}
PAGES = ("records", "lines", "indented", "columns", "page", "table", "xml")
"""Those that are texts."""
READERS = {
    "table": lambda path: SeriesDataModule("table", path, "date", lookback=4, horizon=2),
    "panel": lambda path: PanelDataModule("panel", path, id="id", time="date", target=["y"]),
    "labelled": lambda path: LabelledTableDataModule(path, "id", text="date"),
    "pairs": lambda path: PairsDataModule("pairs", path=path, source="id", target="date"),
    "sounds": lambda path: SoundDataModule("files", path),
}


@pytest.mark.parametrize(("content", "said"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.quick(20, rest="ci")
def test_another_kind_of_file_is_told(tmp_path, content, said, reader):
    (tmp_path / "my.csv").write_bytes(content)
    with pytest.raises(
        DataError, match=rf"my\.csv: the file is {said}|my\.csv: the file is .*{said}"
    ) as refused:
        reader(str(tmp_path / "my.csv")).setup()
    assert str(refused.value).count("my.csv") == 1


def of_text(path):
    return TextDataModule("text", level="char", path=path)


TEXTS = {
    "text": lambda folder: of_text(str(folder / "my.txt")),
    "one of several": lambda folder: of_text(str(folder)),
    "pattern": lambda folder: of_text(str(folder / "*.txt")),
    "validation": lambda folder: TextDataModule(
        "text", level="char", path=str(folder / "a.txt"), valid_path=str(folder / "my.txt")
    ),
    "source": lambda folder: PairsDataModule(
        "pairs", source=str(folder / "my.txt"), target=str(folder / "a.txt")
    ),
    "target": lambda folder: PairsDataModule(
        "pairs", source=str(folder / "a.txt"), target=str(folder / "my.txt")
    ),
}


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "rows"])  # a text may begin with [[
@pytest.mark.parametrize("reader", TEXTS)
@pytest.mark.quick(40, rest="ci")
def test_another_kind_of_file_is_no_text(tmp_path, kind, reader):
    content, said = KINDS[kind]
    (tmp_path / "a.txt").write_text("a line\n" * 99)
    (tmp_path / "my.txt").write_bytes(content)
    what = said.partition(":")[0].replace("git lfs pull", "a pointer of Git LFS")
    with pytest.raises(DataError, match=rf"my\.txt: is .*{what}.*; .*(leave|unpack|name|get) ") as refused:
        TEXTS[reader](tmp_path).setup()
    assert "UTF-8 (byte" not in str(refused.value)


@pytest.mark.parametrize("kind", PAGES)
def test_pages_that_are_called_so_are_texts_and_told_among_others(tmp_path, kind):
    (tmp_path / "my.html").write_bytes(KINDS[kind][0] * 9)
    alone = of_text(str(tmp_path))
    alone.setup()
    assert not any("as they stand" in note for note in alone.notes)
    (tmp_path / "a.txt").write_text("a line\n" * 99)
    both = of_text(str(tmp_path))
    both.setup()
    assert any(note.endswith("read as they stand, 1 web page (or XML, JSON): my.html") for note in both.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_at_level_byte_a_file_of_any_kind_is_read(tmp_path, kind):
    (tmp_path / "my.txt").write_bytes(KINDS[kind][0] * 50)
    TextDataModule("text", level="byte", path=str(tmp_path / "my.txt"), window=4, batch_size=1).setup()


@pytest.mark.parametrize("kind", [name for name in KINDS if name not in ("rows", "sound")])
def test_another_kind_of_file_is_no_sound_and_no_parquet(tmp_path, kind):
    content, said = KINDS[kind]
    with pytest.raises(DataError, match=r"a\.wav: is .* and no sound; get the file itself, or leave it out"):
        read_sound(content, "a.wav")
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(DataError, match=rf"t\.parquet: the file is .*{said}"):
        read_table(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(CSV)
    with pytest.raises(DataError, match=r"t\.parquet: the file is not in Parquet: let its name end in \.csv"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["my.csv.gz", "MY.CSV.GZ", "my.tsv.Gz"])
@pytest.mark.parametrize("reader", [*READERS.values()][:2], ids=[*READERS][:2])
def test_packed_tables_are_read_whatever_the_case_of_their_ending(tmp_path, name, reader):
    frame = pd.DataFrame({"id": "a", "date": pd.date_range("2024", periods=200), "y": np.arange(200) % 7})
    (tmp_path / name).write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    data = reader(str(tmp_path / name))
    if isinstance(data, SeriesDataModule):
        data.channels = ["y"]
    data.setup()
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])
    with pytest.raises(DataError, match=r"cannot be unpacked .*; is it whole\?") as refused:
        reader(str(tmp_path / name)).setup()
    assert str(refused.value).lower().count(name.lower()) == 1


@pytest.mark.parametrize("header", ["<date>,<load>", "[h],[MW]", "{t},{x}", '"date","load"'])
def test_headers_in_brackets_are_headers(tmp_path, header):
    rows = "".join(f"2024-01-{day:02d},{day**0.5:.3f}\n" for day in range(1, 29))
    (tmp_path / "my.csv").write_text(f"{header}\n{rows}")
    data = SeriesDataModule(
        "table", str(tmp_path / "my.csv"), header.split(",")[0].strip('"'), lookback=2, horizon=1
    )
    data.setup()
    assert data.spec.frequency == "D"


def test_a_table_packed_by_zstd_is_read_or_names_the_extra(tmp_path, monkeypatch):
    rows = "".join(f"2024-01-{day:02d},{day**0.5:.3f}\n" for day in range(1, 29))
    path = tmp_path / "my.csv.zst"
    path.write_bytes(b"any")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "zstandard", None)
        with pytest.raises(DataError, match=r"^\S*my\.csv\.zst: a package is missing.*gatelab\[zst\]"):
            read_table(path, time="date")
    zstandard = pytest.importorskip("zstandard", reason="pip install 'gatelab[zst]'")
    path.write_bytes(zstandard.compress(f"date,load\n{rows}".encode()))
    assert read_table(path, time="date").frequency == "D"
