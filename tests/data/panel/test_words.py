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
