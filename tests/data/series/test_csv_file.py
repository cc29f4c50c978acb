"""A CSV file is what its owner means (encoding, separator, header, decimals, counters), or is refused with the fix."""

import csv
import itertools
import re
import time

import numpy as np
import pandas as pd
import pytest

from gatelab.data.messages import DataError
from gatelab.data.series.module import SeriesDataModule
from gatelab.data.series.table import read_table

HOURS = [f"2024-01-0{1 + h // 24} {h % 24:02d}:00" for h in range(48)]
VALUES = np.round(np.random.default_rng(0).normal(size=48) * 10, 2)


def written(tmp_path, text: str, encoding: str = "utf-8", name: str = "t.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def lines(mark: str = ",", decimal: str = ".", header: str = "date{}load", date: list[str] = HOURS) -> str:
    rows = [f"{d}{mark}{v:.2f}".replace(".", decimal) for d, v in zip(date, VALUES, strict=True)]
    return "\n".join([header.format(mark), *rows]) + "\n"


@pytest.mark.parametrize(
    ("mark", "decimal"), [*itertools.product(",;\t|", "."), *itertools.product(";\t|", ",")]
)
@pytest.mark.parametrize("name", ["date{}load", "date{}load (MW, net)", "Zeit{}Größe"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.quick(16, rest="ci")
def test_separators_decimals_and_encodings_without_doubt_are_found_out(
    tmp_path, mark, decimal, name, encoding
):
    header = name.format("\0").replace("\0", "{}")
    if mark == "," and "," in name:
        header = 'date{}"load (MW, net)"'
    path = written(tmp_path, lines(mark, decimal, header), encoding)
    series = read_table(path, time=name.partition("{")[0])
    assert series.values[:, 0].tolist() == VALUES.tolist()
    assert series.channels == (name.partition("}")[2],)
    assert any("separated" in note for note in series.notes) == (mark != ",")
    assert any("decimal commas" in note for note in series.notes) == (decimal == ",")
    assert any("UTF-" in note for note in series.notes) == (encoding in ("utf-16", "utf-32"))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "utf-16-be", "mac-roman"])
def test_other_encodings_are_refused_with_the_setting_which_works(tmp_path, encoding):
    path = written(tmp_path, lines(header="date{}Größe"), encoding)
    with pytest.raises(DataError, match=r"t\.csv: .*data\.encoding="):
        read_table(path, time="date")
    assert read_table(path, time="date", encoding=encoding).channels == ("Größe",)
    with pytest.raises(DataError, match=r"data\.encoding=klingon: no such encoding"):
        read_table(path, time="date", encoding="klingon")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_they_like(tmp_path, end):
    path = written(tmp_path, lines().replace("\n", end))
    assert read_table(path, time="date").values[:, 0].tolist() == VALUES.tolist()


def test_space_separated_tables_are_read(tmp_path):
    series = read_table(
        written(tmp_path, "day  load\n" + "".join(f"{d:3d}  {v}\n" for d, v in enumerate(VALUES, 5)))
    )
    assert series.channels == ("day", "load")


def test_a_separator_in_doubt_is_refused_with_the_setting(tmp_path):
    path = written(tmp_path, "a;b,c\n" + "x;y,z\n" * 5)
    with pytest.raises(
        DataError, match=r"by comma or by semicolon .*data\.separator=comma or data\.separator=semicolon"
    ):
        read_table(path)
    path = written(tmp_path, "a;b,c\n" + "".join(f"{v};{v * v},5\n" for v in range(5, 11)))
    assert read_table(path, separator="semicolon", decimal="comma").channels == ("a", "b,c")
    assert read_table(path, separator=";").values[0].tolist() == [5, 25.5]
    for options in ({"separator": "colon"}, {"decimal": "dot"}):
        with pytest.raises(DataError, match="give "):
            read_table(path, **options)


def test_commas_that_may_separate_thousands_are_refused_with_the_setting(tmp_path):
    path = written(tmp_path, "a;b\n" + "".join(f"{v};1,23{v}\n" for v in range(3, 9)))
    with pytest.raises(DataError, match=r"row 1: '1,233' can have a decimal comma.*data\.decimal=comma"):
        read_table(path)
    assert read_table(path, decimal="comma").values[0].tolist() == [3, 1.233]
    assert read_table(path, decimal="point").values[0].tolist() == [3, 1233]


# header


@pytest.mark.parametrize(
    "first",
    [
        "5.1,4.8,5.6",
        "1,2,4",
        "-1,0,1",
        "5,5,5",
        "2024-01-01 00:00,5.1,4.8",
        "01.02.2024,1,2",
        "1e3,nan,2",
        "3,4",
        "5.5",
    ],
)
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_file_without_a_header_is_refused(tmp_path, first, mark):
    row = mark.join(["7.5"] * len(first.split(",")))
    with pytest.raises(DataError, match=r"line 1 holds values only .* has no header"):
        read_table(written(tmp_path, first.replace(",", mark) + f"\n{row}\n{row}\n"))


@pytest.mark.parametrize("first", ["0,1,2", "1,2,3", "1960,1961,1962", ",0,1"])
def test_names_that_count_are_told(tmp_path, first):
    series = read_table(
        written(tmp_path, first + "\n" + "".join(f"{i},{v},{v * v}\n" for i, v in enumerate(VALUES)))
    )
    assert any("was taken for the header" in note for note in series.notes)


@pytest.mark.parametrize("header", ["d,a,a", "d,a, a", "a,d,a", 'd,"a",a', "d,b,b,a,a", "d,a,b,a"])
def test_names_that_occur_twice_are_refused(tmp_path, header):
    row = ",".join(["1.5"] * len(header.split(",")))
    with pytest.raises(DataError, match=r"columns? ('b', )?'a' occurs? twice"):
        read_table(written(tmp_path, f"{header}\n{row}\n{row}\n"))


def test_names_that_pandas_makes_are_names_of_the_file(tmp_path):
    assert read_table(written(tmp_path, "a.1,a\n3,4\n3,5\n")).channels == ("a.1", "a")


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "Unnamed: 0.1", "No", "index", "id"])
@pytest.mark.parametrize("start", [0, 1])
def test_counters_of_rows_are_left_out_and_told(tmp_path, name, start):
    frame = pd.DataFrame({name: range(start, start + 48), "date": HOURS, "load": VALUES})
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    series = read_table(path, time="date")
    assert series.channels == ("load",)
    assert "counts the rows" in series.notes[0]
    asked = name or "Unnamed: 0"
    assert read_table(path, time="date", channels=[asked, "load"]).channels == (asked, "load")


def test_what_only_looks_like_a_counter_is_kept(tmp_path):
    for values in (range(5, 53), range(0, 96, 2), VALUES):
        frame = pd.DataFrame({"x": values, "date": HOURS, "load": VALUES})
        frame.to_csv(tmp_path / "t.csv", index=False)
        assert read_table(tmp_path / "t.csv", time="date").channels == ("x", "load")
    frame.assign(x=1.5, load=range(48)).to_csv(tmp_path / "t.csv", index=False)
    assert read_table(tmp_path / "t.csv", time="date").channels == ("x", "load")


def test_a_column_without_a_name_is_refused_unless_it_counts_or_is_empty(tmp_path):
    with pytest.raises(DataError, match="column 2 has no name"):
        read_table(written(tmp_path, "a,,b\n1,2,3\n2,2,4\n5,1,4\n"))
    series = read_table(written(tmp_path, "a,b,\n1,2,\n2,2,\n5,1,\n"))
    assert (series.channels, series.notes) == (
        ("a", "b"),
        ["column 'Unnamed: 2' was left out: it has neither a name nor values"],
    )


# date and time, lists, all problems at once


@pytest.mark.parametrize("order", list(itertools.permutations(["date", "time", "load"])))
@pytest.mark.parametrize(
    "options",
    [
        {"time": "date"},
        {"time": "time"},
        {"time": "time", "channels": ["load"]},
        {"time": "date", "channels": ["load"]},
    ],
)
def test_date_and_time_in_two_columns_are_joined_by_the_reader(tmp_path, order, options):
    parts = [hour.split() for hour in HOURS]
    frame = pd.DataFrame({"date": [p[0] for p in parts], "time": [p[1] for p in parts], "load": VALUES})
    frame[list(order)].to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"date and time are two columns .'date', 'time'.: join them"):
        read_table(tmp_path / "t.csv", **options)


def test_lists_in_cells_are_named(tmp_path):
    pd.DataFrame({"l": [[1.0, 2.0]] * 5, "x": VALUES[:5]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"'l' .row 1 holds a list"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("word", [".", "-", "?", "missing", "--", "*"])
def test_words_for_nothing_among_numbers_are_told_to_be_left_empty(tmp_path, word):
    path = written(tmp_path, lines().replace(f"{VALUES[3]:.2f}", word))
    with pytest.raises(
        DataError, match=r"'load' .row 4 holds .*leave cells without a number empty"
    ) as refused:
        read_table(path, time="date")
    assert "data.time" not in str(refused.value)


SIGNS = {
    "%": "{}%",
    "$": "${}",
    "euro": "{} €",
    "brackets": "({})",
    "unit": "{} MW",
    "rate": "{} m/s",
    "apostrophe": "'{}",
}


@pytest.mark.parametrize("form", SIGNS.values(), ids=SIGNS)
def test_signs_around_numbers_are_told_to_be_left_out(tmp_path, form):
    rows = "".join(f"{d},{form.format(abs(v))}\n" for d, v in zip(HOURS, VALUES, strict=True))
    with pytest.raises(DataError, match=r"'load' .row 1 holds .*write plain numbers"):
        read_table(written(tmp_path, "date,load\n" + rows), time="date")


GROUPS = [".", ",", " ", "\u00a0", "\u202f", "'"]


@pytest.mark.parametrize("form", ["{:,.2f}", "{:,.1f}", "{:,.0f}"])
@pytest.mark.parametrize(("group", "decimal"), [(g, d) for g in GROUPS for d in ".," if g != d])
@pytest.mark.parametrize("mark", [",", ";"])
@pytest.mark.parametrize("size", [1000, 1_000_000])
@pytest.mark.quick(8, rest="ci")
def test_thousands_are_read_where_no_doubt_is_left(tmp_path, form, group, decimal, mark, size):
    """Every file is read as it is meant or refused; with `data.decimal` it is read."""
    numbers = np.round(1 + np.abs(VALUES) * size, 2)
    cells = [form.format(n).translate({ord(","): group, ord("."): decimal}) for n in numbers]
    rows = "".join(f'{d}{mark}"{c}"\n' for d, c in zip(HOURS, cells, strict=True))
    path = written(tmp_path, f"date{mark}load\n{rows}")
    meant = [float(form.format(n).replace(",", "")) for n in numbers]
    sign = {",": "comma", ".": "point"}[decimal]
    assert read_table(path, time="date", decimal=sign).values[:, 0].tolist() == meant
    doubtful = form == "{:,.0f}" and size == 1000 and group in ".,"
    if doubtful and (group == "," or mark == ";"):
        with pytest.raises(DataError, match=f"separator of thousands; give .*data.decimal={sign}"):
            read_table(path, time="date")
    elif not doubtful:
        assert read_table(path, time="date").values[:, 0].tolist() == meant


def test_points_are_no_decimals_where_commas_are(tmp_path):
    path = written(
        tmp_path, "date;load;wind\n" + "".join(f"{d};12.{i}50;2,5\n" for i, d in enumerate(HOURS[:9]))
    )
    with pytest.raises(DataError, match=r"'load', row 1: '12.050' can have"):
        read_table(path, time="date")
    assert read_table(path, time="date", decimal="comma").values[0].tolist() == [12_050, 2.5]


ABOVE = {
    "comments": ("# by the plant\n#\n# values, MW; kept\n", "left out"),
    "spreadsheet": ("sep={}\r\n", ""),
    "quoted spreadsheet": ('"sep={}"\n', ""),
    "marks": ("\ufeff\ufeff", ""),
    "blank": ("\n  \n\n", ""),
}


@pytest.mark.parametrize(("above", "note"), ABOVE.values(), ids=ABOVE)
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_what_programs_write_above_the_header_is_left_out(tmp_path, above, note, mark):
    series = read_table(written(tmp_path, above.format(mark) + lines(mark)), time="date")
    assert (series.channels, series.values[:, 0].tolist()) == (("load",), VALUES.tolist())
    assert note in "".join(series.notes)


def test_a_header_may_begin_like_a_comment(tmp_path):
    series = read_table(written(tmp_path, "# of 2024\n" + lines(header="# date{}load")), time="date")
    assert series.channels == ("load",)
    assert "line 2 was taken for the header" in series.notes
    with pytest.raises(DataError, match="every line begins with #: write the names of the columns"):
        read_table(written(tmp_path, "# of 2024\n# by the plant\n"), time="date")


@pytest.mark.parametrize(
    "above", ["Load of my plant\n", "Load of my plant\n\n", "Load of my plant{}\n", "{}MW\n"]
)
@pytest.mark.parametrize("mark", [",", ";"])
def test_titles_above_the_header_are_refused_by_their_place(tmp_path, above, mark):
    with pytest.raises(DataError, match=r"above the header|one line of names"):
        read_table(written(tmp_path, above.format(mark) + lines(mark)), time="date")


@pytest.mark.parametrize("units", [",MW", "[h],[MW]", "time,MWh per hour"])
def test_a_row_of_units_is_refused_by_its_place(tmp_path, units):
    text = lines().replace("\n", f"\n{units}\n", 1)
    with pytest.raises(DataError, match=r"row 1 .*MW.* holds no values: .*units in the names"):
        read_table(written(tmp_path, text), time="date")


@pytest.mark.parametrize(
    "form", ['"{}","{}"', '"{}", "{}"', "'{}','{}'", "{} , {}", "{},{},", "{},{},,,", '"{}";"{}"']
)
@pytest.mark.parametrize("below", ["", ",\n,\n", "\x1a", "\n\n"])
@pytest.mark.quick(9, rest="ci")
def test_quotes_spaces_and_what_is_empty_are_no_content(tmp_path, form, below):
    rows = [form.format(*cells) for cells in [("date", "load"), *zip(HOURS, VALUES, strict=True)]]
    for header in (rows[0], rows[0] if form[0] == "'" else "date;load" if ";" in form else "date,load"):
        text = "\n".join([header, *rows[1:]]) + "\n" + below.replace(",", ";" if ";" in form else ",")
        series = read_table(written(tmp_path, text), time="date")
        assert (series.channels, series.values[:, 0].tolist()) == (("load",), VALUES.tolist())


@pytest.mark.parametrize("cell", ["", '""', "NA"])
def test_an_empty_cell_of_the_only_column_is_a_missing_value(tmp_path, cell):
    text = "\n\nload\n" + "".join(f"{cell if i == 7 else v}\n" for i, v in enumerate(VALUES)) + "\n"
    with pytest.raises(DataError, match=r"missing values: 'load' 1 .first in row 8"):
        read_table(written(tmp_path, text))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04\x14\0", "save the sheet as CSV"),
        (b"PAR1\x15", ".parquet"),
        (b"\x1f\x8b\x08\0", ".csv.gz"),
    ],
)
def test_files_of_another_kind_are_told(tmp_path, content, said):
    (tmp_path / "t.csv").write_bytes(content + bytes(range(256)))
    with pytest.raises(DataError, match=f"the file is .*{said}"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("below", ["Total,12", "Source: my plant", "# end", "Sum;12", "Mean,12.5"])
@pytest.mark.parametrize("place", [1, 20, 48])
def test_a_line_that_is_no_row_is_one_problem_whose_fix_works(tmp_path, below, place):
    rows = lines().splitlines()
    path = written(tmp_path, "\n".join([*rows[: place + 1], below, *rows[place + 1 :]]))
    said = (
        rf"t\.csv: column 'date', row {place + 1}: .* is not a date; .*, or remove the row if it is none of"
    )
    with pytest.raises(DataError, match=said) as refused:
        read_table(path, time="date")
    assert "problems" not in str(refused.value)
    assert (
        read_table(written(tmp_path, "\n".join(rows)), time="date").values[:, 0].tolist() == VALUES.tolist()
    )


@pytest.mark.parametrize(
    "cells", [["DE", "FR"], ["-"], ["yes", "no"], ["#REF!"], ["0x1f"], ["1/2"], ["EUR 5"], ["5 %"]]
)
@pytest.mark.parametrize("others", [0, 1, 6, 7])
def test_columns_that_are_no_numbers_come_with_a_fix_that_works(tmp_path, cells, others):
    names = [f"x{i}" for i in range(others)]
    frame = pd.DataFrame({"date": HOURS, "odd": np.resize(cells, 48)} | dict.fromkeys(names, VALUES))
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"'odd' .row 1 holds .*; write plain numbers \(1234\.5\)") as refused:
        read_table(tmp_path / "t.csv", time="date")
    fix = re.search(r"alone with data\.channels=\[(.*)\]", str(refused.value))
    assert (fix is None) == (others == 0)
    if fix and others <= 6:
        assert fix[1] == ",".join(names)
        assert read_table(tmp_path / "t.csv", time="date", channels=names).channels == tuple(names)


@pytest.mark.parametrize("row", [0, 5])
@pytest.mark.parametrize("others", [0, 1])
def test_missing_values_come_with_the_fixes_that_work(tmp_path, row, others):
    frame = pd.DataFrame({"date": HOURS, "load": VALUES} | {f"x{i}": VALUES for i in range(others)})
    frame.loc[row, "load"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"missing values: 'load' 1 .*; fill them in") as refused:
        read_table(tmp_path / "t.csv", time="date")
    assert ("data.channels=[x0]" in str(refused.value)) == bool(others)
    assert ("data.missing=fill" in str(refused.value)) == (row > 0)
    if row:
        assert read_table(tmp_path / "t.csv", time="date", missing="fill").filled.sum() == 1


@pytest.mark.parametrize("separator", ["", "\n", '"', "'", "0", "a", ".", "\u00a7", "ab", "\\t"])
def test_what_cannot_separate_fields_is_refused(tmp_path, separator):
    with pytest.raises(
        DataError, match=r"data\.separator=.*: give comma, semicolon, tab, pipe, space or another"
    ):
        read_table(written(tmp_path, lines()), time="date", separator=separator)


@pytest.mark.parametrize("mark", "^~:#/")
def test_a_separator_that_is_not_found_out_is_asked_for(tmp_path, mark):
    days = [f"2024-01-{day:02d}" for day in range(1, 29)]
    rows = "".join(f"{day}{mark}{value}\n" for day, value in zip(days, VALUES, strict=False))
    path = written(tmp_path, f"date{mark}load\n{rows}")
    with pytest.raises(
        DataError, match=r"only column is .*; if a sign parts several, give it as data\.separator"
    ):
        read_table(path, time="date")
    assert read_table(path, time="date", separator=mark).channels == ("load",)


@pytest.mark.parametrize("given", ["utf-16", "utf-16-le", "UTF_32", "ascii", "utf-8"])
@pytest.mark.parametrize("name", ["Gr\u00f6\u00dfe", "Gr\u00f6\u00dfen"])
def test_an_encoding_that_is_wrongly_given_is_to_be_left_out(tmp_path, given, name):
    path = written(tmp_path, lines(header=f"date{{}}{name}"), "cp1252" if given == "utf-8" else "utf-8")
    fix = "leave data.encoding out if it is in UTF-8, or give the right one"
    with pytest.raises(DataError, match=rf"line \d+ is not {given.upper()}: {fix}"):
        read_table(path, time="date", encoding=given)


@pytest.mark.parametrize(
    ("kept", "given"),
    [
        *itertools.product(["utf-8", "cp1252"], ["cp037", "cp500", "utf-16-be"]),
        *itertools.product(
            ["utf-16-le", "cp037"], ["utf-8", "latin-1", "cp1252", "koi8-r", "big5", "utf-16-be"]
        ),
    ],
)
def test_a_refusal_names_the_encoding_that_was_given(tmp_path, kept, given):
    path = written(tmp_path, lines(header="date{}Größe"), kept)
    told = rf"encoding=|read in {given.upper()}, as data\.encoding says"
    with pytest.raises(DataError, match=told):
        read_table(path, time="date", encoding=given)


@pytest.mark.parametrize("column", ["load", "note"])
def test_a_quote_that_is_never_closed_is_told_by_its_line(tmp_path, column):
    frame = pd.DataFrame({"date": HOURS, "load": VALUES, "note": "x"}).astype(str)
    frame.loc[6, column] = '"5'
    frame.to_csv(tmp_path / "t.csv", index=False, quoting=csv.QUOTE_NONE, quotechar="\0")
    with pytest.raises(DataError, match="line 8: a quote begins a field and is not closed at its end"):
        read_table(tmp_path / "t.csv", time="date", channels=["load"])


@pytest.mark.parametrize("channels", [["load", "load"], ["load", "date"], []])
def test_channels_are_different_columns_without_the_time(tmp_path, channels):
    with pytest.raises(DataError, match=r"data\.channels (names|is empty)"):
        read_table(written(tmp_path, lines()), time="date", channels=channels)


def test_all_problems_of_a_file_come_in_one_short_message(tmp_path):
    wide = {f"text{i}": ["x" * 10_000] * 48 for i in range(30)}
    frame = pd.DataFrame({"date": HOURS, "load": VALUES, "wind": VALUES, "sun": VALUES, **wide}).drop(
        index=[7, 8]
    )
    frame.loc[3, "load"], frame.loc[4, "wind"] = np.nan, np.inf
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError) as refused:
        read_table(tmp_path / "t.csv", time="date")
    message = str(refused.value)
    for problem in (
        "4 problems",
        "'load' 1",
        "'wind', row 5: infinite",
        "2 times are missing",
        "'text0'",
        "and 24 more",
    ):
        assert problem in message
    assert len(message) < 3000


@pytest.mark.slow
def test_ten_thousand_columns_take_linear_time(tmp_path):
    def seconds(columns: int) -> float:
        names = [f"sensor_{i}" for i in range(columns)]
        rows = np.round(np.random.default_rng(0).normal(size=(48, columns)), 3).astype(str)
        text = "\n".join(
            [",".join(["date", *names]), *(",".join([d, *r]) for d, r in zip(HOURS, rows, strict=True))]
        )
        path = written(tmp_path, text)
        start = time.perf_counter()
        data = SeriesDataModule("table", str(path), "date", target=names[:5], lookback=4, horizon=2, season=2)
        data.setup()
        return time.perf_counter() - start

    seconds(100)
    few, many = min(seconds(1000) for _ in range(2)), min(seconds(10_000) for _ in range(2))
    assert many < 40 * few
