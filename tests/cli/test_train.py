"""The closing summary of `gatelab train`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from gatelab.cli.train import print_summary
from gatelab.tasks.series.forecast import ForecastTask

COMMAND = "predict RUN --input FILE --output out.csv"


def finished(folder: Path, **more: Any) -> dict[str, Any]:
    task = {"metrics": [asdict(figure) for figure in ForecastTask.figures], "commands": [COMMAND]}
    (folder / "run.json").write_text(json.dumps({"config": {}, "attempts": [{}], "task": task}))
    metrics = {"mse": 0.30, "mae": 0.41, "windows": 851}
    naive, linear = {"mse": 0.52, "mae": 0.56, "windows": 851}, {"mse": 0.27, "mae": 0.39, "windows": 851}
    split = {"metrics": metrics, "baselines": {"seasonal_naive": naive, "linear": linear}, "seconds": 0.1}
    result = {
        "outcome": "done",
        "already": False,
        "run_dir": str(folder),
        "monitor": "val/mse",
        "validated": True,
    }
    result |= {"epochs": 3, "steps": 1200, "parameters": 19_680, "seconds": {"fit": 12.34}}
    return (
        result | {"splits": {"valid": split, "test": split}, "finished": "2026-01-01T00:00:00+00:00"} | more
    )


def test_the_summary_says_what_was_reached_what_it_took_and_what_to_type_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = {"cpu_peak_bytes": 512 << 20, "gpu_peak_bytes": None}
    speed = {"per_second": 4512.4, "unit": "windows"}
    print_summary(finished(tmp_path, best=0.3, best_epoch=1, memory=memory, throughput=speed))
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    assert "best       val/mse 0.3000 in epoch 2 (best baseline: linear 0.2700)" in lines
    assert "model      19,680 parameters" in lines
    assert "training   12.3 s for 1,200 steps in 3 epochs, 4,512 windows/s" in lines
    assert "memory     at most 512 MiB (CPU)" in lines
    assert f"run        {tmp_path}" in lines
    assert lines[-3:] == [
        "next",
        f"  gatelab predict {tmp_path} --input FILE --output out.csv",
        f"  gatelab eval {tmp_path} --split test --json",
    ]
    assert text.count("seasonal naive") == 2


def test_the_best_baseline_is_the_largest_where_more_is_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = finished(tmp_path, best=0.3, best_epoch=1)
    record = json.loads((tmp_path / "run.json").read_text())
    record["task"]["metrics"][0]["better"] = "max"
    (tmp_path / "run.json").write_text(json.dumps(record))
    print_summary(result)
    assert "best baseline: seasonal naive 0.5200" in capsys.readouterr().out


@pytest.mark.parametrize(("reached", "behind"), [(3.782e10, True), (0.53, True), (0.52, False), (0.3, False)])
def test_a_run_behind_every_baseline_says_so(
    reached: float, behind: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_summary(finished(tmp_path, best=reached, best_epoch=1))
    assert ("(best baseline: linear 0.2700; worse than every baseline)" in capsys.readouterr().out) == behind


def test_a_result_of_an_earlier_version_is_shown_without_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = finished(tmp_path, already=True)
    (tmp_path / "run.json").write_text(json.dumps({"config": {}, "attempts": [{}]}))
    print_summary(result)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("This run is already finished (2026-01-01")
    assert "training   12.3 s for 1,200 steps in 3 epochs" in lines
    assert not any(line.startswith(("best", "memory")) for line in lines)


def test_the_tables_fit_eighty_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("repeat_last", "seasonal_naive", "drift", "linear")
    keys = ("mse", "mae", "mse_original", "mae_original", "mase", "smape", "windows", "ridge", "parameters")
    rows = {name: dict.fromkeys(keys, 1234.567) for name in names}
    split = {"metrics": dict.fromkeys(keys, 1234.567), "baselines": rows, "seconds": 0.1}
    print_summary(finished(tmp_path, splits={"test": split}))
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == len(keys) + 2  # titles and the line below them
    assert max(map(len, table)) <= 80
