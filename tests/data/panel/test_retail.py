"""The retail panel: the same of a seed everywhere, with the effects and the holes that it is to have."""

import numpy as np
import pytest

from gatelab.data.messages import DataError
from gatelab.data.panel.module import PanelDataModule
from gatelab.data.panel.retail import DAYS, EVE, LIFTS, STORES, WEEKS, retail_fingerprint, retail_frame


@pytest.fixture(scope="module")
def frame():
    return retail_frame(0)


def test_a_seed_gives_the_same_bits_everywhere(frame):
    assert retail_fingerprint(frame) == {
        "retail_panel": "53fb8b455b8fc7ed371b26615e527bf438c4ffa84e981bd0a92cf91f5b66f477"
    }
    assert retail_fingerprint(retail_frame(1)) != retail_fingerprint(frame)


def test_promotions_and_holidays_lift_the_sales_of_a_series_as_said(frame):
    """Against the same weekday of the weeks without one; levels and noise are those of the series."""
    usual = frame[(frame.promotion == "none") & (frame.holiday == "none")]
    usual = usual.groupby(["unique_id", usual.ds.dt.day_of_week]).sales.mean()
    for column, name, percent in [*(("promotion", n, p) for n, p in LIFTS.items()), ("holiday", "eve", EVE)]:
        other = "holiday" if column == "promotion" else "promotion"
        rows = frame[(frame[column] == name) & (frame[other] == "none")]
        expected = np.array(
            [usual[one, day] for one, day in zip(rows.unique_id, rows.ds.dt.day_of_week, strict=True)]
        )
        assert rows.sales.sum() / expected.sum() == pytest.approx(percent / 100, rel=0.1)


def test_series_have_missing_days_and_facts(frame):
    lengths = frame.groupby("unique_id").size()
    assert len(lengths) == len(STORES) * len(WEEKS)
    assert lengths.max() < DAYS
    assert frame.groupby("unique_id")["size"].nunique().max() == 1


def test_the_module_reads_it_as_a_file_of_the_users(tmp_path):
    columns = {
        "time": "ds",
        "target": ["sales"],
        "known_future": ["promotion", "holiday"],
        "static": ["size"],
    }
    data = PanelDataModule(
        "retail_panel", **columns, gaps="mask", lookback=28, horizon=7, cache=str(tmp_path)
    )
    data.setup()
    assert data.at_hand
    assert data.series_names[0] == "north bread"
    assert data.spec.known_codes == {"promotion": 4, "holiday": 7}
    assert data.spec.windows["test"] == len(STORES) * len(WEEKS)
    assert any("of the rows" in note or "missing" in note for note in data.notes)
    other = PanelDataModule("retail_panel", **columns, gaps="mask", data_seed=1, cache=str(tmp_path))
    other.setup()
    assert other.fingerprint != data.fingerprint
    with pytest.raises(DataError, match=r"leave data\.path out"):
        PanelDataModule("retail_panel", path="mine.csv", **columns)
