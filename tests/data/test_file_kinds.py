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
)
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
}
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
