"""`gatelab predict`: original units, continued stamps, and clear refusals."""

import numpy as np
import pandas as pd
import pytest

from gatelab.cli.main import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("predict")
    hours = pd.date_range("2024-01-01", periods=600, freq="h")
    values = 100 + 10 * np.sin(np.arange(600) * 2 * np.pi / 24)
    table = pd.DataFrame({"when": hours, "load": values, "other": values[::-1]})
    table.to_csv(root / "mine.csv", index=False)
    request = [
        "data=table",
        f"data.path={root}/mine.csv",
        "data.time=when",
        "data.target=[load]",
        "data.lookback=24",
        "data.horizon=12",
        "model.hidden_size=8",
        "trainer.max_epochs=3",
        "name=mine",
        "callbacks=none",
        f"paths.root={root}",
    ]
    assert main(["train", *request]) == 0
    (run,) = (p.parent for p in root.rglob("result.json"))
    return run, root, table


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_forecast_continues_the_table_in_original_units(trained, ending):
    run, root, table = trained
    output = root / f"forecast.{ending}"
    assert main(["predict", str(run), "--input", f"{root}/mine.csv", "--output", str(output)]) == 0
    forecast = pd.read_csv(output, parse_dates=["when"]) if ending == "csv" else pd.read_parquet(output)
    assert list(forecast.columns) == ["when", "load"]
    assert len(forecast) == 12
    assert forecast["when"].iloc[0] == table["when"].iloc[-1] + pd.Timedelta("1h")
    assert forecast["load"].between(60, 140).all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.drop(columns="other"), "column 'other', which does not exist"),
        (lambda t: t.head(10), "10 rows"),
        (lambda t: t.assign(load=t["load"].where(t.index != 590)), "missing values: 'load' 1"),
        (lambda t: t.assign(load="x"), "'load'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(trained, change, expected, capsys):
    run, root, table = trained
    change(table).to_csv(root / "bad.csv", index=False)
    assert main(["predict", str(run), "--input", f"{root}/bad.csv", "--output", f"{root}/o.csv"]) == 2
    assert expected in capsys.readouterr().err
