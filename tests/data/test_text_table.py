"""A table means what its owner means, however it is written: generated writings of the same rows, and faults."""

import csv
import io
import itertools

import pandas as pd
import pytest

from gatelab.data import (
    DataError,
    LabelledTableDataModule,
    PairsDataModule,
    PanelDataModule,
    SeriesDataModule,
)
from gatelab.data.audio.own_files import folder, manifest
from gatelab.data.messages import Problems, refuse_lookalikes, shows
from gatelab.data.pairs.read import read_files, read_table
from gatelab.data.panel.long_frame import read_long_frame
from gatelab.data.series.calendar import read_times
from gatelab.data.series.table import read_frame
from gatelab.data.text.text_files import characters, lines_of, nul_told, split_lines
from gatelab.data.text_table import text_table

ROWS = [(f"Satz {n}, hier", f'He said "{n}"') for n in range(6)]
ROWS += [("a\u2028b", "c d"), ("e\x85f", "g\x0bh"), ("zwei\nZeilen", "two lines")]
WANTED = [("data.source", "de"), ("data.target", "en")]


def written(mark=",", end="\n", quoting=csv.QUOTE_MINIMAL, header=("de", "en"), before="", behind=""):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=mark, quoting=quoting, lineterminator=f"{behind}{end}")
    writer.writerows([header, *ROWS])
    return before + text.getvalue()


WRITINGS = [
    {"mark": mark, "end": end, "quoting": quoting, "behind": behind}
    for mark, end, quoting, behind in itertools.product(
        ",;|\t", ("\n", "\r\n", "\r"), (csv.QUOTE_MINIMAL, csv.QUOTE_ALL), ("", None)
    )
    if end != "\r"
    or quoting == csv.QUOTE_ALL  # a writer that ends lines so leaves \n in a field without quotes
]


@pytest.mark.parametrize("style", WRITINGS, ids=str)
def test_the_same_rows_are_read_from_every_writing(style):
    style = style | {"behind": style["mark"] if style["behind"] is None else ""}
    table = text_table(written(**style), WANTED)
    assert [(line.fields["de"], line.fields["en"]) for line in table.lines] == ROWS


COMMENTS = {
    "one": (
        "# of 2024\n",
        "de{0}en\n",
        "line 2 was taken for the header; 1 line above it that begins with # left out",
    ),
    "two": (
        "#\n\n# a{0}b\n",
        "de{0}en\n",
        "line 4 was taken for the header; 2 lines above it that begin with #",
    ),
    "names": ("# de{0}en and more{0}x\n", "de{0}en\n", "line 2 was taken for the header; 1 line"),
    "header": ("# of 2024\n", "# de{0}en\n", "line 2 was taken for the header; 1 line"),
    "close": ("", "#de{0}en\n", "line 1 was taken for the header"),
    "rows": ("# of 2024\n", "de{0}en\n# 1{0}# eins\n", "line 2 was taken for the header"),
}


@pytest.mark.parametrize("mark", ",;|\t")
@pytest.mark.parametrize("case", COMMENTS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_above_the_header_that_begin_with_a_hash_are_left_out_and_told(mark, case, end):
    above, header, told = COMMENTS[case]
    text = (above + header + "Haus{0}house\n").format(mark).replace("\n", end)
    notes: list[str] = []
    table = text_table(text, WANTED, notes, tabs=mark == "\t")
    assert list(table.lines[-1].fields.values()) == ["Haus", "house"]
    assert table.lines[-1].number == text.count("\n")
    assert table.lines[0].fields["de"] == ("# 1" if case == "rows" else "Haus")
    assert [note for note in notes if note.startswith(told)] == notes
    if case not in ("header", "close"):
        with pytest.raises(DataError, match=r"'sv', which does not exist.* There are de, en"):
            text_table(text, [("data.source", "sv")], tabs=mark == "\t")


@pytest.mark.parametrize(
    ("header", "before"),
    [((" de", "en "), ""), (("de", "en"), "\n\n"), (("de", "en"), "sep=;\n"), (("x", "de", "en"), "")],
)
def test_headers_are_read_without_space_and_below_blank_lines(header, before):
    text = written(";" if "sep" in before else ",", header=header, before=before)
    if len(header) == 3:
        text = text.replace("\nSatz", "\n1,Satz").replace('\n"', '\n1,"').split("\na", 1)[0] + "\n"
    lines = text_table(text, WANTED).lines
    assert (lines[0].fields["de"], lines[0].fields["en"]) == ROWS[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("de,en,de\n1,2,3\n", "column 'de' occurs twice"),
        ("De,en\n1,2\n", "data.source names the column 'de', which does not exist. Did you mean 'De'?"),
        ("x,y\n1,2\n", "2 problems:\n  data.source .*\n  data.target "),
        ("de,en\n1\n1,2\n1,2,3\n", "line 2 has 1 field, line 4 has 3 fields, and 2 columns are named"),
        ('de,en\n"1 2,3\n4,5\n', "line 2: a quote begins a field and is not closed"),
        ('de,en\n1,2\n"a" b,3\n', "line 3: a quote begins a field and is not closed"),
        ('de,en\n"1\n1",2\n3\n', "line 4 has 1 field"),
        ("\n \n", "the file is empty"),
    ],
)
def test_what_is_wrong_is_told_by_line_all_at_once(text, said):
    with pytest.raises(DataError, match=said):
        text_table(text, WANTED)


def test_quotes_of_a_file_of_tabs_are_text_unless_they_enclose_fields():
    raw = 'de\ten\n"Ja," sagt er\t"Yes," he says\n"Nein"\tNo\n'
    meant = 'de\ten\n"Er sagt ""ja"""\t"He says ""yes"""\nNein\tNo\n'
    every = 'de\ten\n"a\tb"\tc\n"d"\te\n'
    first = [text_table(text, WANTED, tabs=True).lines[0].fields["de"] for text in (raw, meant)]
    assert first == ['"Ja," sagt er', 'Er sagt "ja"']
    with pytest.raises(DataError, match="line 2 has 3 fields"):
        text_table(every, WANTED, tabs=True)
    assert text_table(every.replace("a\tb", "a b"), WANTED, tabs=True).lines[0].fields["de"] == "a b"


def test_each_of_several_tables_of_pairs_has_its_own_header(tmp_path):
    for name, mark in (("a.csv", ","), ("b.CSV", ";")):
        (tmp_path / name).write_bytes(written(mark).encode())
    (tmp_path / "old").write_text("one\rtwo\r")
    (tmp_path / "new").write_text("uno\ndue\n")
    pairs = read_table("data.path", str(tmp_path / "*.[cC]*"), "de", "en")
    assert len(pairs.sources) == 2 * len(ROWS)
    assert "de" not in pairs.sources
    assert read_files("s", str(tmp_path / "old"), "t", str(tmp_path / "new")).sources == ["one", "two"]
    one_sided = "de,en\na,\n,b\nc,d\n\u200b,e\n"
    (tmp_path / "a.csv").write_text(one_sided)
    with pytest.raises(DataError, match=r"(?s)3 problems.*line 2 is.*line 3 is.*line 5 is"):
        read_table("data.path", str(tmp_path / "a.csv"), "de", "en")


# words stay words

WORDS = [
    "007",
    "7",
    "7.0",
    "1e3",
    "1000",
    "NA",
    "None",
    "null",
    "nan",
    "true",
    "TRUE",
    "1,5",
    "1.234,5",
    "12,345",
]
WORDS += ["2024-01-31", "12345678901234567890", "0x1A", "-", "50%", "a,b"]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_columns_of_text_are_what_stands_in_the_file(tmp_path, mark):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=mark).writerows(
        [["id", "y"], *([word, n / 2] for n, word in enumerate(WORDS))]
    )
    (tmp_path / "t.csv").write_text(text.getvalue())
    frame = read_frame(tmp_path / "t.csv", [], None, None, None, text=["id"])
    assert frame["id"].tolist() == WORDS
    assert frame["y"].tolist() == [n / 2 for n in range(len(WORDS))]
    for word in WORDS:  # alone in its column, too
        (tmp_path / "t.csv").write_text(f'id{mark}y\n"{word}"{mark}1\n"{word}"{mark}2\n')
        frame = read_frame(tmp_path / "t.csv", [], None, None, None, text=["id"])
        assert frame["id"].tolist() == [word, word]


@pytest.mark.parametrize("word", ["NA", "None", "nan", ""])
def test_a_cell_of_numbers_without_one_is_missing_beside_columns_of_text(tmp_path, word):
    (tmp_path / "t.csv").write_text(f"id,y,z\n{word},1,2\nb,{word},3\n")
    frame = read_frame(tmp_path / "t.csv", [], None, None, None, text=["id"])
    assert frame["id"].tolist() == [word or None, "b"]
    assert frame["y"].isna().tolist() == [False, True]
    assert frame["z"].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        ([1, 2], ["1", "2"]),
        ([1.0, 2.5], ["1", "2.5"]),
        ([b"\xc3\xa4", b"b"], ["ä", "b"]),
        ([True, None], ["True", None]),
        (["  ", " a"], [None, " a"]),
        (pd.Categorical(["b", "a"]), ["b", "a"]),
    ],
)
def test_cells_of_parquet_are_text_as_well(tmp_path, cells, read):
    pd.DataFrame({"id": cells, "y": [1, 2]}).to_parquet(tmp_path / "t.parquet")
    assert read_frame(tmp_path / "t.parquet", [], None, None, None, text=["id"])["id"].tolist() == read


@pytest.mark.parametrize(
    ("cells", "said"), [([["a"], ["b"]], "one word or text"), ([b"a", b"\xff"], "row 2 .*not UTF-8")]
)
def test_cells_of_parquet_that_are_no_text_are_refused(tmp_path, cells, said):
    pd.DataFrame({"id": cells, "y": [1, 2]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=rf"t\.parquet: column 'id', .*{said}"):
        read_frame(tmp_path / "t.parquet", [], None, None, None, text=["id"])


def test_ids_of_several_files_are_one_kind_of_name(tmp_path):
    (tmp_path / "a.csv").write_text("id,y\n001,1\n2,2\n")
    (tmp_path / "b.csv").write_text("id,y\nA1,3\n001 ,4\n")
    pd.DataFrame({"id": [2, 3], "y": [5.0, 6.0]}).to_parquet(tmp_path / "c.parquet")
    assert read_long_frame(str(tmp_path), [], {}, ["id"]).frame["id"].tolist() == [
        "001",
        "2",
        "A1",
        "001",
        "2",
        "3",
    ]
    (tmp_path / "id=9").mkdir()
    (tmp_path / "id=9/d.csv").write_text("id,y\n9,1\n8,2\n")
    with pytest.raises(DataError, match=r"column 'id' holds '8' in row 2, and the folder is called id=9"):
        read_long_frame(str(tmp_path / "id=9/.."), [], {}, ["id"])


@pytest.mark.parametrize(
    ("left", "right"), [("é", "e\u0301"), ("a", "a\u200b"), ("a b", "a\u00a0b"), ("a b", "a  b")]
)
def test_names_that_look_the_same_are_refused(left, right):
    with pytest.raises(DataError, match=r"the classes .* look the same"):
        refuse_lookalikes("classes", [left, "c", right])
    refuse_lookalikes("classes", [left, "c", left, "C", "²", "2"])
    assert not shows("\u200b \ufeff\t")


@pytest.mark.parametrize("place", [0, 3, 2000])
@pytest.mark.parametrize("number", [1, 2])
def test_a_nul_byte_is_told_by_its_line(tmp_path, place, number):
    lines = [b"text,label"] + [b"word,good"] * 2500
    lines[place + 1] = b"wo\0rd," + b"\0" * (number - 1) + b"good"
    raw = b"\n".join(lines)
    path = tmp_path / "t.csv"
    path.write_bytes(raw)
    said = rf"line {place + 2} holds a NUL byte \(byte {raw.index(0)} is 0x00{', 2 in all' * (number == 2)}\)"
    readers = (
        lambda: read_frame(path, [], None, None, None),
        lambda: LabelledTableDataModule(
            str(path), label="label", text="text", cache=str(tmp_path / "c")
        ).setup(),
        lambda: read_table("data.path", str(path), "text", "label"),
        lambda: manifest(path, None),
        lambda: lines_of(path),
        lambda: read_long_frame(str(path), [], {}, ["text"]),
    )
    for read in readers:
        with pytest.raises(DataError, match=said) as caught:
            read()
        assert "t.csv" in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_told_as_that(tmp_path, encoding):
    path = tmp_path / "t.txt"
    path.write_bytes("a line\nGrüße\n".encode(encoding))
    name = "UTF-16BE" if encoding.endswith("be") else "UTF-16LE"
    with pytest.raises(
        DataError, match=rf"t\.txt: is {name}; convert it to UTF-8 \(iconv -f {name} -t UTF-8"
    ):
        lines_of(path)
    assert nul_told(b"GIF\x01\0\0\0").startswith("is a binary file (byte 4 is 0x00)")
    with pytest.raises(DataError, match="line 3 holds a NUL byte"):
        list(characters("x", iter([b"a\nb", b"\nc\0d"]), "char"))


def test_no_other_sign_than_a_line_end_parts_lines(tmp_path):
    (tmp_path / "t.txt").write_bytes("\ufeffa\u2028b\r\nc\x85d\x0b\n\n".encode())
    assert lines_of(tmp_path / "t.txt") == ["a\u2028b", "c\x85d\x0b", ""]
    assert [split_lines(text) for text in ("", "a", "a\rb\r", "a\rb\n")] == [[], ["a"], ["a", "b"], ["a\rb"]]


@pytest.mark.parametrize("form", ["{:%d.%m.%Y}", "{:%d/%m/%Y}", "{:%d-%m-%Y}"])
@pytest.mark.parametrize("other", ["{:%Y-%m-%d}", "{:%Y/%m/%d}"])
def test_times_that_begin_with_the_year_are_never_turned(form, other):
    days = pd.date_range("2024-01-01", periods=60)
    text = pd.Series([(form if n % 2 else other).format(day) for n, day in enumerate(days)])
    assert read_times(text, []).times.tolist() == list(days)


# lists of sounds


def sounds(tmp_path, text):
    (tmp_path / "c").mkdir(exist_ok=True)
    for name in "abcd":
        (tmp_path / f"c/{name}.wav").write_bytes(b"RIFF")
    (tmp_path / "m.csv").write_text(text)
    return tmp_path / "m.csv"


@pytest.mark.parametrize("mark", ",;\t")
def test_a_manifest_may_be_written_with_any_separator(tmp_path, mark):
    text = f"path{mark} label{mark}split\n c/a.wav{mark}x{mark}Train\n\nc/b.wav{mark}y{mark}dev\n"
    rows = manifest(sounds(tmp_path, text), "label")
    assert [(row.file.name, row.text, row.split) for row in rows] == [
        ("a.wav", "x", "train"),
        ("b.wav", "y", "valid"),
    ]
    assert rows[1].where == "m.csv, line 4 (c/b.wav)"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "path,label,split\nc/a.wav,x,train\nc/b.wav,y,",
            r"line 3 \(c/b.wav\): the split is empty and other rows",
        ),
        (
            "path,label,speaker\nc/a.wav,x,\nc/b.wav,y,u",
            r"line 2 \(c/a.wav\): the speaker is empty and other rows",
        ),
        (
            "path,label\nc/a.wav,x\nc/../c/a.wav,y",
            r"line 3 .*: is the file of m.csv, line 2 \(c/a.wav\) with another text",
        ),
        ("path,label,split\nc/a.wav,x,train\nc/a.wav,x,test", "with another split or speaker"),
        ("path,label\nc/x.wav,x\nc/a.wav,\nc\\b.wav,y", r"(?s)3 problems:.*no such.*empty.*write / between"),
        ("path,label,label\nc/a.wav,x,y", "column 'label' occurs twice"),
        ("path,label\nc/a.wav,x,y", "line 2 has 3 fields"),
        ("path,label\nc/a.wav,a\nc/b.wav,a\u200b", "look the same"),
    ],
)
def test_a_manifest_that_says_two_things_is_refused(tmp_path, lines, said):
    with pytest.raises(DataError, match=said):
        manifest(sounds(tmp_path, lines), "label")


def test_folders_that_are_splits_are_no_classes(tmp_path):
    for name in ("train/a", "val/b", "test/a"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"folders are splits .* write a manifest"):
        folder(tmp_path, "label")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/1.wav").write_bytes(b"RIFF")
    (tmp_path / "loose.wav").write_bytes(b"RIFF")
    rows, notes = folder(tmp_path, "label")
    assert len(rows) == 4
    assert notes == ["1 sound in no folder of a class left out: loose.wav"]


def test_problems_are_told_together_and_few_of_many():
    problems = Problems()
    problems.refuse()
    assert problems.of(lambda: 3) == 3
    for number in range(20):
        problems.append(f"problem {number}")
    with pytest.raises(DataError, match=r"(?s)20 problems:\n  problem 0\n.*  problem 11\n  and 8 more$"):
        problems.refuse()


JOINED = {
    "table": lambda path: SeriesDataModule("table", path, "date", channels=["y"], lookback=2, horizon=1),
    "panel": lambda path: PanelDataModule("panel", path, id="id", time="date", target=["y"]),
    "labelled": lambda path: LabelledTableDataModule(path, "id", text="word"),
    "pairs": lambda path: PairsDataModule("pairs", path=path, source="id", target="word"),
}


@pytest.mark.parametrize("reader", JOINED.values(), ids=JOINED)
@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["id,date,word,y", '"id","date","word","y"', "id , date, word,y "])
@pytest.mark.parametrize("below", [0, 20, 40])
@pytest.mark.quick(12, rest="ci")
def test_a_header_within_the_rows_is_refused_by_its_place(tmp_path, reader, mark, header, below):
    header = header.replace(",", mark)
    rows = [
        mark.join(["ab"[i % 2], f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}", f"w{i}", f"{i}.5"])
        for i in range(40)
    ]
    path = tmp_path / "my.csv"
    path.write_text("\n".join([header, *rows[:below], header, *rows[below:]]) + "\n")
    with pytest.raises(
        DataError, match=rf"(row {below + 1}|line {below + 2}) is the header again; keep the first"
    ):
        reader(str(path)).setup()


def test_names_that_stand_in_single_cells_are_content(tmp_path):
    rows = "".join(f"word {i},{'word' if i % 2 else 'text'}\n" for i in range(40))
    (tmp_path / "t.csv").write_text(f"text,word\ntext,text\nword,word\n{rows}")
    LabelledTableDataModule(str(tmp_path / "t.csv"), "word", text="text", cache=str(tmp_path)).setup()
