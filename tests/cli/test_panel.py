"""A panel from the command line: backtest beside baselines, a future in a file of its own, refusals by name."""

import json

import numpy as np
import pandas as pd
import pytest

from gatelab.cli.main import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("panel")
    parts, random = [], np.random.default_rng(0)
    for number, days in enumerate((60, 45)):
        ds = pd.date_range("2024-03-01", periods=60, freq="D")[60 - days :]
        promotion = np.where(random.random(days) < 0.2, "leaflet", "none")
        y = 10.0 * (number + 1) + 5 * (promotion == "leaflet") + random.normal(size=days)
        parts.append(pd.DataFrame({"unique_id": "ab"[number], "ds": ds, "y": y, "promotion": promotion}))
    pd.concat(parts).to_csv(root / "sales.csv", index=False)
    request = [
        *("data=panel", f"data.path={root}/sales.csv", "data.time=ds", "data.target=[y]"),
        *("data.known_future=[promotion]", "data.lookback=7", "data.horizon=3", "data.test_windows=3"),
        *("task.net.output=quantiles", "model.hidden_size=4", "trainer.max_steps=2", "callbacks=none"),
        *("threads=1", "test=false", f"paths.root={root}"),
    ]
    assert main(["train", *request]) == 0
    (run,) = (p.parent for p in root.rglob("result.json"))
    ds = pd.date_range("2024-04-30", periods=3, freq="D")
    plans = [pd.DataFrame({"unique_id": one, "ds": ds, "promotion": "leaflet"}) for one in "ab"]
    return run, root, pd.concat(plans, ignore_index=True)


def test_a_panel_is_backtested_beside_its_baselines(trained, capsys):
    run, _, _ = trained
    capsys.readouterr()
    assert main(["backtest", str(run), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [window["time"] for window in report["windows"]] == [
        "2024-04-21T00:00",
        "2024-04-24T00:00",
        "2024-04-27T00:00",
    ]
    assert report["metrics"]["windows"] == 6
    assert report["metrics"]["mase"] == pytest.approx(
        np.mean([window["metrics"]["mase"] for window in report["windows"]])
    )
    assert report["baselines"].keys() == {"repeat_last", "seasonal_naive", "drift", "linear"}
    assert all({"sql", "wql", "nd", "coverage_80"} <= found.keys() for found in report["baselines"].values())
    assert main(["eval", str(run), "--json"]) == 0  # the same windows
    whole = json.loads(capsys.readouterr().out)
    for name in ("mse", "nd", "coverage_80"):
        assert report["baselines"]["linear"][name] == pytest.approx(
            whole["baselines"]["linear"][name], rel=1e-5
        )


def test_each_window_of_a_panel_can_have_a_run_of_its_own(trained, capsys):
    run, _, _ = trained
    capsys.readouterr()
    assert main(["backtest", str(run), "--windows", "2", "--step", "12", "--refit", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [window["time"] for window in report["windows"]] == ["2024-04-15T00:00", "2024-04-27T00:00"]
    inner = sorted(run.rglob("backtest/**/run.json"))
    assert sorted(json.loads(file.read_text())["config"]["data"]["leave_out"] for file in inner) == [0, 12]
    assert report["metrics"]["windows"] == 4


def test_a_future_of_its_own_is_read_and_what_it_lacks_is_named(trained, capsys):
    run, root, plans = trained
    given = ["predict", str(run), "--input", f"{root}/sales.csv", "--future", f"{root}/plans.csv"]
    given += ["--output", f"{root}/forecast.csv", "--force"]
    plans.to_csv(root / "plans.csv", index=False)
    assert main([*given, "--plot", f"{root}/forecast.png"]) == 0
    assert (root / "forecast.png").read_bytes().startswith(b"\x89PNG")
    forecast = pd.read_csv(root / "forecast.csv", parse_dates=["ds"])
    assert forecast.ds.tolist() == plans.ds.tolist()
    assert forecast.unique_id.tolist() == plans.unique_id.tolist()
    none = plans.assign(promotion="none")
    none.to_csv(root / "plans.csv", index=False)
    assert main(given) == 0
    assert (pd.read_csv(root / "forecast.csv").y != forecast.y).all()  # what is planned is read
    for table, said in (
        (plans[plans.ds < plans.ds.max()], "'promotion' of series 'a' is known for 2 of the 3 steps"),
        (plans.replace("b", "new"), "1 series without history in"),
        (plans.drop(columns="promotion"), "'promotion' is not in the file of the future"),
    ):
        table.to_csv(root / "plans.csv", index=False)
        capsys.readouterr()
        assert main(given) == 2
        assert said in capsys.readouterr().err
    assert main([*given[:-3], "--output", f"{root}/plans.csv", "--force"]) == 2  # never over its own input
    assert "plans.csv" in capsys.readouterr().err
