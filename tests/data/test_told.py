"""What a reader of own data decided for the reader of its notes: same files, likely times, twins, words for nothing."""

import numpy as np
import pandas as pd
import pytest

from gatelab.data import LabelledTableDataModule, TextDataModule
from gatelab.data.audio.own_files import own_sounds
from gatelab.data.messages import DataError
from gatelab.data.pairs.read import read_table as read_pairs
from gatelab.data.panel.long_frame import read_long_frame
from gatelab.data.series.table import read_frame, read_table
from gatelab.data.text.text_files import lines_of

HOURS = pd.date_range("2024-01-01", periods=40, freq="h")
LIKE_TIMES = {
    "days": [*pd.date_range("2024-01-01", periods=40).strftime("%Y%m%d")],
    "months": [*pd.date_range("1995-01-01", periods=40, freq="MS").strftime("%Y%m")],
    "seconds": (HOURS.to_numpy().astype("datetime64[s]").astype(np.int64)).tolist(),
    "milliseconds": (HOURS.to_numpy().astype("datetime64[ms]").astype(np.int64)).tolist(),
}
NO_TIMES = {
    "counter": [*range(5, 45)],
    "years": [*range(1980, 2020)],
    "amounts": [20240101 + 7 * (n * n % 40) for n in range(40)],
    "floats": [n * 1.5 for n in range(40)],
}


@pytest.mark.parametrize("kind", [*LIKE_TIMES, *NO_TIMES])
def test_numbers_that_rise_like_times_are_told(tmp_path, kind):
    cells = {**LIKE_TIMES, **NO_TIMES}[kind]
    pd.DataFrame({"load": [n * n % 7 for n in range(40)], "my day": cells}).to_csv(
        tmp_path / "t.csv", index=False
    )
    notes = [note for note in read_table(tmp_path / "t.csv").notes if "rises like times" in note]
    assert len(notes) == (kind in LIKE_TIMES)
    assert all("""'data.time="my day"'""" in note for note in notes)


@pytest.mark.parametrize("encoding", ["utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("word", ["load", "Größe", "値段"])
def test_utf_32_is_told_as_that(tmp_path, encoding, word):
    (tmp_path / "t.csv").write_bytes(f"n,{word}\n1,2\n3,4\n".encode(encoding))
    name = "UTF-32BE" if encoding.endswith("be") else "UTF-32LE"
    with pytest.raises(
        DataError, match=rf"t\.csv: is {name}; convert it to UTF-8 \(iconv -f {name} -t UTF-8"
    ):
        lines_of(tmp_path / "t.csv")
    if encoding != "utf-32":
        with pytest.raises(DataError, match=rf"is {name}; .*or give data\.encoding={encoding}"):
            read_frame(tmp_path / "t.csv", [], None, None, None)
    assert [*read_frame(tmp_path / "t.csv", [], None, None, encoding).columns] == ["n", word]


@pytest.mark.parametrize("other", ["a.txt", "*.txt", "link.txt", "b.txt"])
def test_a_text_of_two_splits_is_told(tmp_path, other):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"{name} is a text\n" * 99)
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    data = TextDataModule(
        "text",
        level="char",
        path=str(tmp_path / "a.txt"),
        valid_path=str(tmp_path / other),
        cache=str(tmp_path / "c"),
    )
    data.setup()
    assert any(note.startswith("valid: read in another split too: ") for note in data.notes) == (
        other != "b.txt"
    )


@pytest.mark.parametrize("listed", [True, False])
def test_classes_of_sounds_that_differ_in_case_alone_are_told(tmp_path, listed, monkeypatch):
    names = [f"{kind}/{n}.wav" for kind in ("Cat", "cat", "dog") for n in range(4)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"RIFF")
    (tmp_path / "m.csv").write_text("\n".join(["path,label", *(f"{name},{name[:3]}" for name in names)]))

    class Recordings:
        def piece(self, number):
            return number

    monkeypatch.setattr("gatelab.data.audio.own_files.read_recordings", lambda *args, **options: Recordings())
    path = str(tmp_path / "m.csv" if listed else tmp_path)
    notes = own_sounds(path, "label", None, 0, channels="error", rate=None, cache=None).notes
    assert "classes were taken for different ones: 'Cat' and 'cat'; write them alike if they are one" in notes


@pytest.mark.parametrize("header", ["load", "my load", '"load (kW, net)"'])
def test_decimal_commas_of_the_only_column_come_with_the_setting_that_reads_them(tmp_path, header):
    (tmp_path / "t.csv").write_text(header + "\n" + "".join(f"{n},{n}5\n" for n in range(40)))
    with pytest.raises(DataError, match=r"if its commas are decimal ones, give data\.separator=semicolon"):
        read_table(tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv", separator="semicolon").values[3, 0] == 3.35


@pytest.mark.parametrize("start", [0, 1, 7])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_field_more_than_there_are_names_is_never_dropped(tmp_path, start, mark):
    rows = [f"{start + n}{mark}{n * n % 7}{mark}{n % 5}" for n in range(40)]
    (tmp_path / "t.csv").write_text("\n".join([f"load{mark}wind", *rows]) + "\n")
    with pytest.raises(
        DataError, match=r"row 1 has more fields than the header has names: name every column"
    ):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("reader", ["table", "pairs"])
def test_lines_that_are_quoted_whole_are_told(tmp_path, mark, reader):
    (tmp_path / "t.csv").write_text(
        "".join(f'"{row}"\n' for row in (f"de{mark}en", f"1{mark}2", f"3{mark}4"))
    )
    read = {
        "table": lambda: read_frame(tmp_path / "t.csv", [], None, None, None),
        "pairs": lambda: read_pairs("data.path", str(tmp_path / "t.csv"), "de", "en"),
    }
    with pytest.raises(DataError, match=r"every line is quoted whole .*: remove these quotes"):
        read[reader]()
    (tmp_path / "t.csv").write_text('"load (kW, net)"\n"1"\n"2"\n')
    assert len(read_frame(tmp_path / "t.csv", [], None, None, None)) == 2


@pytest.mark.parametrize("word", ["NaN", "NA", "null", "None", "n/a"])
@pytest.mark.parametrize("column", ["text", "label"])
def test_words_that_count_as_missing_elsewhere_are_told(tmp_path, word, column):
    rows = [[f"good day {n}", "ab"[n % 2]] for n in range(40)]
    for row in rows[::4]:
        row[column == "label"] = word
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "t.csv", index=False)
    data = LabelledTableDataModule(str(tmp_path / "t.csv"), "label", text="text", cache=str(tmp_path))
    data.setup()
    assert f"column {column!r}: {word!r} (10 times) is read as a word" in data.notes


def test_a_label_of_the_last_row_alone_is_told(tmp_path):
    rows = [f"good day {n},{'ab'[n % 2]}" for n in range(40)]
    for last, told in (("Exported on,2024-05-01", True), ("good day 40,a", False)):
        (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows, last]) + "\n")
        data = LabelledTableDataModule(str(tmp_path / "t.csv"), "label", text="text", cache=str(tmp_path))
        data.setup()
        assert any("row 41 alone has the label" in note for note in data.notes) == told


def test_what_is_told_of_some_files_of_a_panel_names_them(tmp_path):
    for name, mark in (("a", ","), ("b", ";"), ("c", ";")):
        (tmp_path / f"{name}.csv").write_text(f"id{mark}y\n{name}{mark}1\n{name}{mark}2\n")
    notes: list[str] = []
    read_long_frame(str(tmp_path), notes, {}, ["id"])
    assert notes == ["b.csv, c.csv: the fields are separated by semicolon", "3 files read as one panel"]
    (tmp_path / "a.csv").unlink()
    notes.clear()
    read_long_frame(str(tmp_path), notes, {}, ["id"])
    assert notes[0] == "the fields are separated by semicolon"
