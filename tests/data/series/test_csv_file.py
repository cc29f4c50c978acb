"""A CSV file is what its owner means (encoding, separator, header, decimals, counters), or is refused with the fix."""

import itertools
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
    with pytest.raises(DataError, match="not numeric: 'b'"):
        read_table(path, decimal="point")
    path = written(tmp_path, "a;b\n" + "1,5;1.234,5\n" * 4)
    with pytest.raises(DataError, match=r"'b' .row 1 holds '1\.234,5'"):
        read_table(path)


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
