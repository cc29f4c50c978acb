"""A header and its rows are separated by one sign; where they are by two, both are named by every reader of tables."""

import itertools

import pytest

from gatelab.data.audio.own_files import manifest
from gatelab.data.messages import DataError, Problems
from gatelab.data.pairs.read import read_table as read_pairs
from gatelab.data.panel.long_frame import read_long_frame
from gatelab.data.series.table import read_frame

SIGNS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
PAIRS = [
    pair for pair in itertools.permutations(SIGNS, 2) if {*pair} != {"tab", "space"}
]  # both are white space
HEADERS = {2: ["path", "label"], 3: ["path", "label", "day"]}
CELLS = {
    "whole": lambda row, column: f"{7 * row + column}",
    "points": lambda row, column: f"{row}.{column}5",
    "words": lambda row, column: "good-" * (row % 2) + f"x{column}",
}

FILES = [(*pair, cells, columns) for pair in PAIRS for cells in CELLS for columns in (2, 3)]
FILES.remove(("space", "comma", "whole", 2))  # one column, "path label", of numbers with decimal commas


def table(above, below, cells, columns):
    rows = [below.join(CELLS[cells](row, column) for column in range(columns)) for row in range(6)]
    return "\n".join([above.join(HEADERS[columns]), *rows]) + "\n"


@pytest.mark.parametrize(("above", "below", "cells", "columns"), FILES)
@pytest.mark.parametrize("separator", [None, "above", "below"])
@pytest.mark.quick(40, rest="ci")
def test_two_separators_are_named_with_the_fix(tmp_path, above, below, cells, columns, separator):
    path = tmp_path / "t.csv"
    path.write_text(table(SIGNS[above], SIGNS[below], cells, columns))
    given = {None: None, "above": above, "below": below}[separator]
    with pytest.raises(
        DataError, match=rf"t\.csv: the header .* by {above} and the rows below it by {below}: write"
    ):
        read_frame(path, [], given, None, None)


@pytest.mark.parametrize(("above", "below"), [pair for pair in PAIRS if "space" not in pair])
@pytest.mark.parametrize("reader", ["pairs", "manifest", "panel"])
def test_every_reader_of_tables_names_them(tmp_path, above, below, reader):
    path = tmp_path / "t.csv"
    path.write_text(table(SIGNS[above], SIGNS[below], "words", 2))
    read = {
        "pairs": lambda: read_pairs("data.path", str(path), "path", "label"),
        "manifest": lambda: manifest(path, "label"),
        "panel": lambda: read_long_frame(str(path), [], {}, ["path"]),
    }
    with pytest.raises(
        DataError, match=rf"t\.csv: the header .* by {above} and the rows below it by {below}"
    ):
        read[reader]()


MEANT = {
    "decimal commas": ("a;b", ["1,5;2,5", "3,5;4,5"]),
    "decimal commas, a cell left out": ("a;b", ["1,5;2", "3,5"]),
    "a comma in each text": ("a;b", ["x, y;1", "z, w;2"]),
    "a semicolon in each text": ("a,b", ["x;y,1", "z;w,2"]),
    "one column": ("my load", ["1,5", "2,5"]),
    "one column, a sign behind it": ("load;", ["1,5", "2,5"]),
    "a time with a space": ("date,load", ["2024-01-01 00:00,5", "2024-01-01 01:00,6"]),
    "names with spaces": ("my date,my load", ["2024-01-01,5", "2024-01-02,6"]),
    "a comma in the header": ('"a, b";c', ["1;2", "3;4"]),
    "a note below dates with a time": ("date,load", ["2024-01-01 00:00,5", "# end"]),
    "an unnamed column": (",date,load", ["0,2024-01-01 00:00,5", "1,2024-01-01 01:00,6"]),
    "a column without rows": ("date,load,", ["2024-01-01 00:00,5", "2024-01-01 01:00,6"]),
    "tabs and decimal commas": ("Zeit\tPreis", ["2024-01-01 00:00\t1,5", "2024-01-01 01:00\t2,5"]),
    "quoted": ("a,b", ['"1;2",3', '"4;5",6']),
    "a list in a cell": ("a|b", ["1,2|3", "4,5|6"]),
}


@pytest.mark.parametrize(("header", "rows"), MEANT.values(), ids=MEANT)
def test_a_second_sign_within_the_cells_is_none(tmp_path, header, rows):
    path = tmp_path / "t.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    problems = Problems()  # doubts of other kinds are asked about
    frame = problems.of(lambda: read_frame(path, [], None, None, None))
    assert len(rows if frame is None else frame) == len(rows)
    assert "the rows below it" not in "".join(problems)
