"""A table is read in UTF-8 or in the encoding that is named; that is told with a word to judge it by, or refused."""

import itertools

import pytest

from gatelab.data.labelled.table import read_rows
from gatelab.data.messages import DataError
from gatelab.data.panel.long_frame import read_long_frame
from gatelab.data.series.table import read_table

WORDS = {
    "Größe": ("cp1252", "latin-1", "iso8859-15", "mac-roman", "cp437", "cp850"),
    "naïve": ("cp1252", "latin-1", "mac-roman"),
    "5€": ("cp1252", "iso8859-15", "mac-roman"),
    "“quoted”": ("cp1252", "mac-roman"),
    "Цена": ("cp1251", "koi8-r", "iso8859-5", "cp866"),
    "żółw": ("cp1250", "iso8859-2"),
    "値段": ("shift_jis", "euc_jp", "gbk"),
    "价格": ("gb18030", "gbk"),
}
WRITTEN = [(word, encoding) for word, encodings in WORDS.items() for encoding in encodings]
ENCODINGS = sorted({encoding for _, encoding in WRITTEN})


def rows_with(word):
    return (
        "day,load\n" + "".join(f"{n},{n * n % 7}.5\n" for n in range(3)) + "note,text\n".replace("text", word)
    )


def header_with(word):
    return f"n,{word}\n" + "".join(f"{n},{n * n % 7}.5\n" for n in range(9))


def notes_of(path, encoding):
    notes: list[str] = []
    read_rows(path, notes, ["day", "load"], False, encoding=encoding)
    return [note for note in notes if "the file was read in" in note]


@pytest.mark.parametrize(("word", "encoding"), WRITTEN)
def test_what_is_not_utf_8_is_refused_with_the_line_and_read_as_is_said_and_told(tmp_path, word, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(rows_with(word).encode(encoding))
    readers = (
        lambda: read_table(path),
        lambda: read_rows(path, [], ["load"], False),
        lambda: read_long_frame(str(path), [], {}, ["load"]),
    )
    for read in readers:
        with pytest.raises(DataError, match=r"t\.csv: line 5 is not UTF-8: .*data\.encoding="):
            read()
    assert notes_of(path, encoding) == [
        f"the file was read in {encoding.upper()}, as data.encoding says: line 5 holds {word!r}"
    ]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.quick(30, rest="ci")
def test_utf_8_that_is_read_as_something_else_is_told_with_both_readings(tmp_path, word, encoding):
    path = tmp_path / "t.csv"
    path.write_text(rows_with(word), encoding="utf-8")
    try:
        wrong = word.encode().decode(encoding)
    except UnicodeDecodeError:
        with pytest.raises(DataError, match=rf"line \d is not {encoding.upper()}: leave data\.encoding out"):
            notes_of(path, encoding)
        return
    (note,) = notes_of(path, encoding)
    assert note.endswith(
        f"; in UTF-8, which it is as well, line 5 holds {word!r}: if that is right, leave data.encoding out"
    )
    assert wrong != word


@pytest.mark.parametrize(
    ("word", "encoding"), [(word, e) for word, e in WRITTEN if e in ("cp1252", "mac-roman")]
)
@pytest.mark.parametrize("given", ["latin-1", "cp1251", "koi8-r"])
def test_one_encoding_read_as_another_is_told(tmp_path, word, encoding, given):
    path = tmp_path / "t.csv"
    raw = rows_with(word).encode(encoding)
    path.write_bytes(raw)
    if (wrong := raw.decode(given, "ignore")) == rows_with(word) or len(wrong) < len(raw):
        return
    (note,) = notes_of(path, given)
    assert "line 5 holds" in note
    assert ("with a control character" in note) == any("\x80" <= sign <= "\x9f" for sign in wrong)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf-8-sig", "ascii", "cp1252", "latin-1"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_an_encoding_that_changes_nothing_is_not_told(tmp_path, encoding, mark):
    (tmp_path / "t.csv").write_text(mark + header_with("load"), encoding="utf-8")
    if mark and not encoding.lower().startswith("utf"):
        mark = ""
        (tmp_path / "t.csv").write_text(header_with("load"))
    assert read_table(tmp_path / "t.csv", encoding=encoding).notes == read_table(tmp_path / "t.csv").notes


@pytest.mark.parametrize(
    ("encoding", "word"), [*[*itertools.product(["utf-16", "utf-16-le", "utf-32-be"], ["load", "Größe"])]]
)
def test_wide_encodings_that_are_said_are_told(tmp_path, encoding, word):
    path = tmp_path / "t.csv"
    path.write_bytes(header_with(word).encode(encoding))
    series = read_table(path, encoding=encoding)
    told = "all of it is ASCII" if word == "load" else f"line 1 holds {word!r}"
    assert f"the file was read in {encoding.upper()}, as data.encoding says: {told}" in series.notes
