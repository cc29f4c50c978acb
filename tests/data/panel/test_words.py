"""Ids and categories of a panel are words as they stand; numbers among words are refused unless named so."""

import re

import numpy as np
import pandas as pd
import pytest

from gatelab.data.messages import DataError
from gatelab.data.panel.build import read_panel
from gatelab.data.panel.panel import Columns


def words_of(tmp_path, cells, **options):
    frame = pd.DataFrame(
        {
            "id": np.repeat(["001", "1"], 20),
            "time": [*pd.date_range("2024", periods=20)] * 2,
            "y": np.arange(40.0),
        }
    )
    frame["s"] = np.resize(np.array(cells, object), 40)
    frame.to_csv(tmp_path / "p.csv", index=False)
    columns = Columns("id", "time", ("y",), known=("s",), **options)
    return read_panel(str(tmp_path / "p.csv"), columns)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["1", "2", "3", "?"], r"holds '\?' in rows 4, 8, 12 and 7 more; write plain numbers"),
        (["10%", "20%"], r"holds '10%' in rows 1, 2, 3 and 37 more; write plain numbers"),
        (["€1", "€2"], "write plain numbers"),
        (["2024-01-01", "2024-01-02"], "holds times"),
        (["NA", "north"], "20 missing values .* but in data.categorical, where they are words"),
        (["caf\u00e9", "cafe\u0301"], "look the same"),
    ],
)
def test_a_covariate_that_is_half_numbers_is_no_category_unless_it_is_named_one(tmp_path, cells, said):
    with pytest.raises(DataError, match=r"'s'|\.csv") as caught:
        words_of(tmp_path, cells)
    assert re.search(said, str(caught.value))
    if "look" not in said:
        panel = words_of(tmp_path, cells, categorical=("s",))
        assert panel.words == {"s": sorted(set(cells))}
        assert panel.ids == ("001", "1")


@pytest.mark.parametrize("cells", [["yes", "no"], ["A", "B", "10"], ["1a", "2b"], ["S&P", "50% off", "x"]])
def test_words_are_categories_without_being_named(tmp_path, cells):
    assert words_of(tmp_path, cells).words == {"s": sorted(set(cells))}


def test_all_problems_of_a_panel_stand_in_one_message(tmp_path):
    (tmp_path / "p.csv").write_text("id,time,y,z\n,2024-01-01,x,1\na,nonsense,2,inf\n")
    with pytest.raises(DataError, match=r"(?s)4 problems:.*without an id.*'nonsense'.*holds 'x'.*infinite"):
        read_panel(str(tmp_path / "p.csv"), Columns("id", "time", ("y",), past=("z",)))
    with pytest.raises(DataError, match=r"(?s)3 problems:.*data.id.*data.time.*data.target"):
        read_panel(str(tmp_path / "p.csv"), Columns("ID", "when", ("sales",)))


def panel_of(tmp_path, **columns):
    frame = pd.DataFrame(
        {
            "id": np.repeat(["a", "b"], 20),
            "time": [*pd.date_range("2024", periods=20)] * 2,
            "y": np.arange(40.0) % 7,
        }
    )
    frame.assign(**columns).to_csv(tmp_path / "p.csv", index=False)
    return lambda **given: read_panel(str(tmp_path / "p.csv"), Columns("id", "time", ("y",), **given))


@pytest.mark.parametrize("of", ["id", "time"])
@pytest.mark.parametrize(
    ("empty", "said"), [([3], "row 4 .* or remove the row"), ([3, 9], "rows 4, 10 .* these rows")]
)
def test_rows_without_an_id_or_a_time_are_told_in_grammar(tmp_path, of, empty, said):
    cells = np.array(["a"] * 40 if of == "id" else [*map(str, pd.date_range("2024", periods=40))], object)
    cells[empty] = None
    with pytest.raises(DataError, match=f"column '{of}': {said}"):
        panel_of(tmp_path, **{of: cells})()


def test_values_stand_in_messages_as_in_the_file(tmp_path):
    with pytest.raises(
        DataError, match=r"'s' changes within series 'a': 0\.5 in row 1, 1\.5 in row 2; correct"
    ):
        panel_of(tmp_path, s=np.arange(40) + 0.5)(static=("s",))
    with pytest.raises(DataError, match=r"1 missing value .*; fill it in, or mask"):
        panel_of(tmp_path, y=[None, *range(39)])()


@pytest.mark.parametrize("time", ["time", "hour"])
def test_a_panel_with_date_and_time_in_two_columns_says_so(tmp_path, time):
    days, hours = ["2024-01-01"] * 20 + ["2024-01-02"] * 20, [f"{i % 20:02d}:00" for i in range(40)]
    panel_of(tmp_path, id="a", time=days, hour=hours)
    with pytest.raises(DataError, match=r"date and time are two columns .'time', 'hour'.: join them"):
        read_panel(str(tmp_path / "p.csv"), Columns("id", time, ("y",)))
    panel_of(tmp_path, hour=hours)(static=())  # times of day beside whole stamps are no part of them


@pytest.mark.parametrize("mark", [-999, 9999, 1e20])
def test_a_number_that_may_mark_a_missing_value_is_told(tmp_path, mark):
    panel = panel_of(tmp_path, y=[*np.arange(39.0) % 7, mark])()
    (note,) = panel.notes
    assert note.startswith(f"column 'y': {mark:.10g} (1 time, first in row 40), far from all other values")
    assert note.endswith("if it marks missing values, empty these cells")


def test_ids_that_may_be_one_are_told(tmp_path):
    panel = panel_of(tmp_path, id=np.repeat(["a", "A"], 20))()
    assert panel.notes == [
        "ids in column 'id' were taken for different ones: 'a' and 'A'; write them alike if they are one"
    ]
