"""New rows of a panel: windows after the last row, times, known futures in either file, refusals by name."""

import numpy as np
import pandas as pd
import pytest

from gatelab.data.messages import DataError
from gatelab.data.panel.module import PanelDataModule
from gatelab.tasks.series.samples import predicted_series


def rows(ids="ab", length=40, begin=0) -> pd.DataFrame:
    """Hourly series; the price is the step, the promotion every fifth one."""
    steps = np.arange(begin, begin + length)
    times = pd.date_range("2024-01-01", periods=begin + length, freq="h")[begin:]
    kind = np.where(steps % 5 == 0, "promo", "none")
    parts = [
        pd.DataFrame({"unique_id": one, "ds": times, "y": 1.0 * steps, "price": steps, "kind": kind})
        for one in ids
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A set-up module, and a way to read a table as its input."""
    monkeypatch.setenv("GATELAB_CACHE", str(tmp_path / "cache"))

    def write(table: pd.DataFrame, name: str) -> str:
        table.to_csv(tmp_path / name, index=False)
        return str(tmp_path / name)

    data = PanelDataModule(
        path=write(rows(), "train.csv"),
        time="ds",
        target=["y"],
        known_future=["price", "kind"],
        calendar=["hour"],
        lookback=6,
        horizon=4,
    )
    data.setup()

    def read(table: pd.DataFrame, future: pd.DataFrame | None = None):
        ahead = None if future is None else write(future, "future.csv")
        return data.panel_input(write(table, "input.csv"), data.spec, ahead)

    return data, read


def test_categories_that_training_has_not_seen_are_told(run):
    _, read = run
    future = rows("ab", 4, begin=40).drop(columns="y")
    assert not read(rows(), future).notes
    (note,) = read(rows(), future.assign(kind="leaflet")).notes
    assert note == "column 'kind': training has not seen 'leaflet'; read as any unseen value"


def test_a_picture_shows_each_series_with_what_came_before(run):
    data, read = run
    history = pd.concat([rows("a", 30), rows("z", 3)])  # one is shorter than what is shown of the past
    found = read(history, pd.concat([rows("a", 4, begin=30), rows("z", 4, begin=3)]).drop(columns="y"))
    told = found.stamps.assign(y=np.arange(8.0), **{"y_q0.1": 0.0, "y_q0.9": 9.0})
    first, second = (sample.windows[0] for sample in predicted_series(found, told, data.spec))
    assert first.start == 30
    assert first.past == [*range(22, 30)]
    assert first.times[0] == "2024-01-01T22:00"
    assert first.times[-1] == "2024-01-02T09:00"
    assert (len(first.times), first.forecast) == (12, [0, 1, 2, 3])
    assert [band.percent for band in first.bands] == [80]
    assert (second.past, second.forecast, len(second.times)) == ([0, 1, 2], [4, 5, 6, 7], 7)


@pytest.mark.parametrize("one_file", [False, True])
def test_windows_begin_after_the_last_row(run, one_file):
    """Of a series never seen as well, with a known future in either file."""
    data, read = run
    history, future = rows("az", 30), rows("az", 4, begin=30).drop(columns="y")
    found = read(pd.concat([history, future])) if one_file else read(history, future)
    batch = found.windows[np.arange(2)]
    original = batch.past * batch.spread[:, None] + batch.level[:, None]
    np.testing.assert_allclose(original[:, :, 0], [np.arange(24, 30)] * 2, rtol=1e-5)
    mean, std = data.spec.scales["price"]
    np.testing.assert_allclose(batch.known[0, :, 0] * std + mean, np.arange(24, 34), rtol=1e-4)
    words = [data.spec.words["kind"][code - 1] for code in batch.known_codes[0, :, 0].tolist()]
    assert words == ["none", "promo", *["none"] * 4, "promo", *["none"] * 3]
    assert batch.known_codes[0, :, 1].tolist() == [step % 24 + 1 for step in range(24, 34)]
    assert found.stamps.unique_id.tolist() == ["a"] * 4 + ["z"] * 4
    assert found.stamps.ds.tolist()[:4] == list(pd.date_range("2024-01-02 06:00", periods=4, freq="h"))


@pytest.mark.parametrize("begin", [0, 1, 29, 30])
def test_a_future_may_repeat_rows_of_the_history(run, begin):
    """As a calendar of the whole year does; targets in it are not read."""
    _, read = run
    want = read(rows("ab", 30), rows("ab", 4, 30))
    found = read(rows("ab", 30), rows("ab", 34 - begin, begin).assign(y=-1.0))
    for one, other in zip(want.windows[np.arange(2)], found.windows[np.arange(2)], strict=True):
        if one is not None:
            np.testing.assert_array_equal(one, other)
    assert found.stamps.equals(want.stamps)


def test_a_series_shorter_than_the_look_back_is_padded(run):
    _, read = run
    found = read(pd.concat([rows("a", 30), rows("b", 3)]), pd.concat([rows("a", 4, 30), rows("b", 4, 3)]))
    batch = found.windows[np.arange(2)]
    assert batch.observed[:, :, 0].sum(dim=1).tolist() == [6, 3]
    assert found.stamps.ds.tolist()[4] == pd.Timestamp("2024-01-01 03:00")


BAD = {
    "short": (
        rows("ab", 30),
        rows("ab", 3, 30),
        "'price' of series 'a' is known for 3 of the 4 steps after 2024-01-02",
    ),
    "id": (
        rows("a", 30),
        rows("aq", 4, begin=30),
        r"1 series without history in .*future.csv: q \(rows future.csv:5, future.csv:6, future.csv:7 and 1 more\)",
    ),
    "none": (rows("ab", 30), rows("a", 4, 30), "'price' of series 'b' is known for 0 of the 4 steps"),
    "hole": (
        rows("ab", 30),
        rows("ab", 4, 30).assign(kind=["none", None, *["none"] * 6]),
        "'kind' of series 'a' is known for 1 of the 4 steps",
    ),
    "column": (
        rows("ab", 30),
        rows("ab", 4, 30).drop(columns="kind"),
        "the column 'kind' is not in the file",
    ),
    "overlap": (
        rows("ab", 30),
        rows("ab", 5, 29).assign(price=1.0),
        "2024-01-02 05:00:00 stands in rows .* different values",
    ),
    "missing": (
        rows("ab", 30).assign(y=lambda t: t.y.where(t.index != 3)),
        rows("ab", 4, 30),
        "'y' has missing values",
    ),
    "empty": (
        rows("ab", 30).assign(y=lambda t: t.y.where(t.index < 30)),
        rows("ab", 4, 30),
        "series 'b' has no target",
    ),
    "step": (rows("ab", 30)[::2], rows("ab", 4, 30), "the step of its rows is 2h, the run was trained on h"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message(run, case):
    history, future, message = BAD[case]
    with pytest.raises(DataError, match=message):
        run[1](history, future)


def test_a_future_of_a_run_without_known_covariates_is_refused(run, tmp_path):
    data, _ = run
    plain = PanelDataModule(
        path=data.path, time="ds", target=["y"], lookback=6, horizon=4, cache=str(tmp_path / "cache")
    )
    plain.setup()
    with pytest.raises(DataError, match=r"no data\.known_future; leave it out"):
        plain.panel_input(data.path, plain.spec, data.path)


@pytest.mark.parametrize(
    ("trained", "here"),
    [(a, b) for a in ("", "+01:00", "Z") for b in ("", "+01:00", "+02:00", "Z")],
)
def test_calendar_features_by_another_clock_are_told(tmp_path, monkeypatch, trained, here):
    """Of two offsets nobody knows whether they are of one place: summer and winter."""
    monkeypatch.setenv("GATELAB_CACHE", str(tmp_path / "cache"))

    def write(zone: str, name: str) -> str:
        table = rows()[["unique_id", "ds", "y"]]
        path = tmp_path / name
        table.assign(ds=table.ds.dt.strftime("%Y-%m-%dT%H:%M:%S") + zone).to_csv(path, index=False)
        return str(path)

    for calendar in (["hour"], []):
        data = PanelDataModule(
            path=write(trained, "train.csv"),
            time="ds",
            target=["y"],
            calendar=calendar,
            lookback=6,
            horizon=4,
        )
        data.setup()
        notes = data.panel_input(write(here, "input.csv"), data.spec, None).notes
        told = [note for note in notes if "read by their own clock" in note]
        differ = trained != here and not (trained[:1] == "+" and here[:1] == "+")
        assert len(told) == (differ and bool(calendar)), notes
