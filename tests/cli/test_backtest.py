"""`gatelab backtest`, calibrated predictions, pictures, and the columns of public leaderboards."""

import csv
import io
import json
import os
import re
import signal
import sys

import numpy as np
import pandas as pd
import pytest

from gatelab.cli.main import main

pytestmark = pytest.mark.ci

FEV = (
    "model_name,dataset_path,dataset_config,horizon,num_windows,initial_cutoff,window_step_size,min_context_length,"
    "max_context_length,seasonality,eval_metric,extra_metrics,quantile_levels,id_column,timestamp_column,target,"
    "generate_univariate_targets_from,known_dynamic_columns,past_dynamic_columns,static_columns,task_name,test_error,"
    "training_time_s,inference_time_s,num_forecasts,dataset_fingerprint,trained_on_this_dataset,fev_version,SQL,MASE,"
    "WAPE,WQL,framework_version"
)
"""The header of the result files in autogluon/fev, benchmarks/fev_bench/results."""
GIFT = (
    "dataset,model,eval_metrics/MSE[mean],eval_metrics/MSE[0.5],eval_metrics/MAE[0.5],eval_metrics/MASE[0.5],"
    "eval_metrics/MAPE[0.5],eval_metrics/sMAPE[0.5],eval_metrics/MSIS,eval_metrics/RMSE[mean],"
    "eval_metrics/NRMSE[mean],eval_metrics/ND[0.5],eval_metrics/mean_weighted_sum_quantile_loss,domain,num_variates"
)
"""The header of `all_results.csv` in SalesforceAIResearch/gift-eval, but for the number of the row."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("backtest")
    rows, noise = np.arange(600), np.random.default_rng(0).normal(size=600)
    hours = pd.date_range("2024-01-01", periods=600, freq="h")
    table = pd.DataFrame(
        {"when": hours, "load": 100 + 10 * np.sin(rows * 2 * np.pi / 24) + noise, "wind": noise}
    )
    table.to_csv(root / "mine.csv", index=False)
    request = [
        "data=table",
        f"data.path={root}/mine.csv",
        "data.time=when",
        "data.target=[load]",
        "data.lookback=24",
    ]
    more = [
        "data.horizon=6",
        "model.hidden_size=4",
        "trainer.max_epochs=1",
        "name=mine",
        "callbacks=none",
        "threads=1",
    ]
    assert main(["train", *request, *more, f"paths.root={root}"]) == 0
    (run,) = (p.parent for p in root.rglob("result.json"))
    return run, root


def asked(capsys, *arguments):
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_windows_end_with_the_data_and_together_make_the_whole(trained, capsys):
    run, root = trained
    report = json.loads(
        asked(capsys, "backtest", run, "--windows", 4, "--step", 5, "--json", "--plot", root / "b.png")
    )
    assert [window["row"] for window in report["windows"]] == [579, 584, 589, 594]
    assert report["windows"][0]["time"] == "2024-01-25T03:00"
    for name in ("mae", "mase", "mse_original"):
        alone = [window["metrics"][name] for window in report["windows"]]
        assert report["metrics"][name] == pytest.approx(np.mean(alone))
    assert len(report["per_step"]["mae"]) == 6
    assert np.mean(report["per_step"]["mae"]) == pytest.approx(report["metrics"]["mae"])
    assert {"repeat_last", "seasonal_naive", "drift", "linear"} == report["baselines"].keys()
    assert report["baselines"]["linear"]["windows"] == 4
    assert "sql" in report["baselines"]["drift"]
    assert (root / "b.png").read_bytes().startswith(b"\x89PNG")


def test_one_window_after_the_other_over_the_whole_test_split_is_the_evaluation(trained, capsys):
    run, _ = trained
    whole = json.loads(asked(capsys, "eval", run, "--json"))
    rolled = json.loads(asked(capsys, "backtest", run, "--step", 1, "--json"))
    assert rolled["metrics"]["windows"] == whole["metrics"]["windows"] == 115
    for name in ("mse", "mae_original", "smape", "nd"):
        assert rolled["metrics"][name] == pytest.approx(whole["metrics"][name], rel=1e-6)
        assert rolled["baselines"]["linear"][name] == pytest.approx(
            whole["baselines"]["linear"][name], rel=1e-6
        )


def test_conformal_intervals_are_kept_with_the_run_and_written_and_drawn(trained, capsys):
    run, root = trained
    given = [
        "predict",
        run,
        "--input",
        root / "mine.csv",
        "--output",
        root / "f.csv",
        "--force",
        "--conformal",
    ]
    asked(capsys, *given, "--plot", root / "p.png")
    frame = pd.read_csv(root / "f.csv")
    columns = [name for name in frame if name.startswith("load_q")]
    assert columns[0] == "load_q0.025"
    assert (frame[columns].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert (root / "p.png").read_bytes().startswith(b"\x89PNG")
    kept = (run / "calibration.json").read_bytes()
    asked(capsys, *given)
    assert (run / "calibration.json").read_bytes() == kept
    (run / "calibration.json").write_text(kept.decode().replace('"levels": [', '"levels": [0.3, ', 1))
    assert main([*map(str, given)]) == 2
    assert "calibration.json" in capsys.readouterr().err
    (run / "calibration.json").write_bytes(kept)
    shown = json.loads(asked(capsys, "eval", run, "--rows", "conformal", "--json"))
    assert 0.5 < shown["rows"][0]["metrics"]["coverage_80"] <= 1
    rolled = json.loads(asked(capsys, "backtest", run, "--conformal", "--json"))
    assert "coverage_95" in rolled["metrics"]
    assert "sql" in rolled["shown"]


@pytest.mark.parametrize(("name", "header"), [("fev", FEV), ("gift", GIFT)])
@pytest.mark.parametrize("command", ["eval", "backtest"])
def test_the_columns_are_those_of_the_leaderboard(trained, capsys, name, header, command):
    run, _ = trained
    text = asked(capsys, command, run, "--format", name)
    assert text.splitlines()[0] == header
    row = next(csv.DictReader(io.StringIO(text)))
    if name == "fev":
        assert row["test_error"] == row["SQL"]
        assert float(row["SQL"]) == pytest.approx(float(row["MASE"]))  # points stand for every quantile
        assert row["num_windows"] == ("115" if command == "eval" else "20")
    else:
        assert float(row["eval_metrics/MSIS"]) == pytest.approx(40 * float(row["eval_metrics/MASE[0.5]"]))
        assert 0 < float(row["eval_metrics/MAPE[0.5]"]) < 1
        assert row["num_variates"] == "1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--windows", "30"], "room for 20 windows of 6 steps; give --windows 20 or fewer"),
        (["--windows", "0"], "--windows 0: give at least 1"),
        (["--step", "0"], "--step 0: give at least 1"),
        (["--baselines", "auto_etz"], "there are auto_ets, auto_arima. Did you mean"),
        (["--plot", "b.pdf"], "ends in .png"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_fix(trained, capsys, options, said):
    run, _ = trained
    assert main(["backtest", str(run), *options]) == 2
    assert said in capsys.readouterr().err


def test_each_window_can_have_a_run_of_its_own(trained, capsys):
    run, _ = trained
    given = ("backtest", run, "--windows", 2, "--step", 100, "--refit", "--json")
    report = json.loads(asked(capsys, *given))
    assert [window["row"] for window in report["windows"]] == [494, 594]
    inner = sorted(run.rglob("backtest/**/run.json"))
    borders = sorted(json.loads(file.read_text())["config"]["data"]["borders"] for file in inner)
    assert borders == [[434, 494, 500], [534, 594, 600]]
    before = [file.stat().st_mtime_ns for file in inner]
    assert json.loads(asked(capsys, *given))["metrics"] == report["metrics"]
    assert [file.stat().st_mtime_ns for file in inner] == before  # reported, not trained again


class Striking(io.StringIO):
    """An output during whose first write a signal comes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number: int | None = number

    def write(self, text: str) -> int:
        written = super().write(text)
        if text.strip() and self.number is not None:
            number, self.number = self.number, None
            os.kill(os.getpid(), number)
        return written


COMMANDS = {
    "backtest": ["--windows", "2"],
    "backtest --json": ["--windows", "2", "--json"],
    "eval": [],
    "eval --json": ["--json"],
    "export --json": ["--output", "{root}/shown.safetensors", "--json", "--force"],
    "predict": ["--input", "{root}/mine.csv", "--output", "{root}/shown.csv", "--force"],
}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_while_the_outcome_is_printed_takes_nothing_from_it(trained, monkeypatch, command, name):
    """The work is done: 0, and all of the output."""
    run, root = trained
    arguments = [command.split()[0], str(run), *(word.format(root=root) for word in COMMANDS[command])]
    shown = []
    for number in (signal.SIGCONT, getattr(signal, name)):
        out = Striking(number)
        monkeypatch.setattr(sys, "stdout", out)
        assert main(arguments) == 0
        shown.append(len(re.sub(r"[\d.]+", "", out.getvalue())))
    assert shown[0] == shown[1] > 0
