"""A line below a table that sums it up is no example: it is refused by its row, or told where it may be one."""

import numpy as np
import pandas as pd
import pytest

from gatelab.data import LabelledTableDataModule, PanelDataModule
from gatelab.data.messages import DataError
from gatelab.data.pairs.read import read_table as read_pairs
from gatelab.data.series.table import read_table
from gatelab.data.totals import is_total

WORDS = [
    "Total",
    "TOTAL:",
    "Grand total",
    "sub-total",
    "Sum",
    "Summe",
    "Gesamt",
    "Mean",
    "avg",
    "Anzahl",
    "总计",
]
TEXTS = [f"good day {n},{'ab'[n % 2]}" for n in range(40)]
NUMBERS = [f"r{n // 4},{n % 4},{n * n % 7}.5,{'ab'[n // 4 % 2]}" for n in range(160)]
SALES = [f"{shop},2024-01-{day:02d},{day * day % 9}" for shop in "AB" for day in range(1, 29)]


def written(tmp_path, header, rows, *below, mark=","):
    path = tmp_path / "t.csv"
    path.write_text("\n".join([header, *rows, *below]).replace(",", mark) + "\n")
    return str(path)


def texts(path, cache):
    data = LabelledTableDataModule(path, "label", text="text", cache=str(cache))
    data.setup()
    return data


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("rest", ["40", "", "39.5", "1 234.5"])
@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_total_below_texts_is_refused_by_its_row(tmp_path, word, rest, mark):
    path = written(tmp_path, "text,label", TEXTS, f"{word},{rest}", mark=mark)
    with pytest.raises(
        DataError, match=r"t\.csv: row 41 .* sums up the rows above it .*; remove it"
    ) as refused:
        texts(path, tmp_path)
    assert "problems" not in str(refused.value)


def test_several_totals_are_told_together_and_a_label_of_others_leaves_an_example(tmp_path):
    path = written(tmp_path, "text,label", TEXTS, "Sum,40", "Mean,20.5")
    with pytest.raises(DataError, match=r"(?s)2 problems:.*row 41 .*row 42 "):
        texts(path, tmp_path)
    path = written(tmp_path, "text,label", [f"good day {n},{n % 2}" for n in range(40)], "Total,1")
    assert any(
        "row 41 ('Total', '1') is read as an example; remove it if" in n for n in texts(path, tmp_path).notes
    )
    within = written(tmp_path, "text,label", [*TEXTS[:20], "Total,a", *TEXTS[20:]])
    assert not any("Total" in note for note in texts(within, tmp_path).notes)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("below", ["{},,1234,", "{},160,1234,a", "{},,1234,a"])
def test_a_total_below_the_rows_of_ids_is_refused(tmp_path, word, below):
    path = written(tmp_path, "run,second,x,kind", NUMBERS, below.format(word))
    with pytest.raises(DataError, match=r"row 161.*remove it") as refused:
        LabelledTableDataModule(path, "kind", id="run", time="second", cache=str(tmp_path)).setup()
    assert "problems" not in str(refused.value)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("below", ["{},,1234", "{},2024-01-28,1234"])
def test_a_total_below_a_panel_is_refused(tmp_path, word, below):
    path = written(tmp_path, "shop,day,sales", SALES, below.format(word))
    options = {"id": "shop", "time": "day", "target": ["sales"], "lookback": 4, "horizon": 2}
    with pytest.raises(DataError, match=r"row 57: .* has this row alone") as refused:
        PanelDataModule("panel", path, **options, cache=str(tmp_path)).setup()
    assert "problems" not in str(refused.value)
    whole = [f"{word},2024-01-{day:02d},{day}" for day in range(1, 29)]
    PanelDataModule(
        "panel", written(tmp_path, "shop,day,sales", SALES, *whole), **options, cache=str(tmp_path)
    ).setup()


def test_a_total_below_pairs_is_told(tmp_path):
    notes: list[str] = []
    read_pairs("p", written(tmp_path, "de,en", ["Haus,house", "Hund,dog"], "Total,2"), "de", "en", notes)
    assert any("line 4 is read as a pair; remove it if it sums up" in note for note in notes)


@pytest.mark.parametrize("columns", [1, 3])
def test_sums_below_a_table_without_times_are_told(tmp_path, columns):
    values = pd.DataFrame(np.random.default_rng(0).normal(9, 2, (50, columns)).round(2)).add_prefix("x")
    pd.concat([values, values.sum().round(2).to_frame().T]).to_csv(tmp_path / "t.csv", index=False)
    assert any(
        "row 51 holds the sums of the rows above it" in note for note in read_table(tmp_path / "t.csv").notes
    )
    values.to_csv(tmp_path / "t.csv", index=False)
    assert not any("sums" in note for note in read_table(tmp_path / "t.csv").notes)


@pytest.mark.parametrize(
    "cells", [["Total cost of ownership", "40"], ["Sum", "good"], ["40", "50"], ["Total", "Sum"], []]
)
def test_what_holds_other_words_is_no_total(cells):
    assert not is_total(cells)
