"""TRUE and FALSE are read as 1 and 0 and told, other words for them are refused, wherever a column is of numbers."""

import pandas as pd
import pytest

from gatelab.data import LabelledTableDataModule, PanelDataModule
from gatelab.data.messages import DataError
from gatelab.data.panel.build import read_panel
from gatelab.data.panel.panel import Columns
from gatelab.data.series.table import read_table

TRUTHS = [("TRUE", "FALSE"), ("True", "False"), ("true", "false")]
WORDS = [("yes", "no"), ("Y", "N"), ("t", "f"), ("ja", "nein"), ("on", "off"), ("TRUE", "no"), ("true", "1")]
NOTE = "column 'open' says true or false, which is read as 1 and 0"


def written(tmp_path, words, hole=False, ending="csv"):
    days = [*pd.date_range("2024-01-01", periods=40).astype(str)]
    frame = pd.DataFrame({"id": ["A"] * 40 + ["B"] * 40, "day": days * 2, "y": [n % 5 for n in range(80)]})
    frame["open"] = [words[n * n % 3 % 2] for n in range(80)]
    frame["kind"] = ["a"] * 40 + ["b"] * 40
    if hole:
        frame.loc[7, "open"] = None
    path = tmp_path / f"t.{ending}"
    if ending == "parquet":
        frame["open"] = frame["open"].map({words[0]: True, words[1]: False})
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return str(path)


def panel(path, **part):
    columns = Columns(id="id", time="day", **{"target": ("y",), **part})
    return read_panel(path, columns, missing="mask").notes


ROLES = {
    "target": lambda path: panel(path, target=("open",)),
    "past": lambda path: panel(path, past=("open",)),
    "known": lambda path: panel(path, known=("open",)),
    "table": lambda path: read_table(path, channels=["open"], missing="fill").notes,
}


@pytest.mark.parametrize("words", TRUTHS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("hole", [False, True])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_truths_are_told(tmp_path, words, role, hole, ending):
    assert ROLES[role](written(tmp_path, words, hole, ending)).count(NOTE) == 1


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("role", ["target", "past", "table"])
def test_other_words_are_refused_by_row(tmp_path, words, role):
    with pytest.raises(DataError, match=r"'open'.*holds '.*write (plain )?numbers"):
        ROLES[role](written(tmp_path, words))


@pytest.mark.parametrize("words", TRUTHS)
def test_truths_of_labelled_rows_and_of_a_fact_are_told(tmp_path, words):
    path = written(tmp_path, words)
    frame = pd.read_csv(path)
    frame["group"] = [f"g{n // 4}" for n in range(80)]
    frame["kind"] = [f"k{n // 4 % 2}" for n in range(80)]
    frame.to_csv(path, index=False)
    data = LabelledTableDataModule(path, "kind", id="group", channels=["y", "open"], cache=str(tmp_path))
    data.setup()
    assert data.notes.count(NOTE) == 1
    frame["open"] = frame["id"] == "A"
    frame.to_csv(path, index=False)
    of_panel = PanelDataModule(
        "panel",
        path,
        id="id",
        time="day",
        target=["y"],
        static=["open"],
        lookback=4,
        horizon=2,
        cache=str(tmp_path),
    )
    of_panel.setup()
    assert of_panel.notes.count(NOTE) == 1
