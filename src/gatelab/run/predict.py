"""Forecast what comes after a table, with a run's forecaster, in original units.

Needs the run directory only: scaling, channels and look-back are in it. It scores nothing.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from gatelab.data import SeriesSpec, read_table
from gatelab.run.build import request_errors
from gatelab.run.errors import RequestError
from gatelab.run.load import load_task

DATED = ("etth1", "etth2", "ettm1", "ettm2")  # the named data sets whose files have a column "date"


def predict(path: str | Path, table: str | Path, *, trust: bool = False) -> pd.DataFrame:
    """The forecast after the last row of `table`.

    Args:
        path: the run directory of a forecaster.
        table: CSV or Parquet with the run's channels and, if it was trained with one, its time column; read as
            training reads it, so that what was refused there is refused here.
        trust: accept targets that are not part of Gatelab.

    Returns:
        `horizon` rows, one column a target in original units; the time column continued, where there is one.

    Raises:
        RequestError: the run is no forecaster, or the table does not fit it.
    """
    loaded = load_task(path, trust=trust)
    spec = loaded.task.spec
    if not isinstance(spec, SeriesSpec):
        raise RequestError(f"{path}: no forecaster; `gatelab generate` is for language models.")
    node = loaded.config["data"]
    time = node.get("time") or ("date" if node.get("series") in DATED else None)
    with request_errors("--input"):
        series = read_table(
            table,
            time=time,
            channels=list(spec.channels),
            gaps=node.get("gaps", "error"),
            missing=node.get("missing", "error"),
        )
    if len(series.values) < spec.lookback:
        raise RequestError(
            f"{table}: {len(series.values)} rows, but the run looks back over {spec.lookback}."
        )
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (spec.mean, spec.std))
    past = torch.from_numpy(series.values[-spec.lookback :].copy())
    index = list(spec.target_index)
    with torch.inference_mode():
        forecast = loaded.task.net(((past - mean) / std)[None].float())[0].double()
    out = pd.DataFrame((forecast * std[index] + mean[index]).numpy(), columns=list(spec.targets))
    if time is not None and series.times is not None and spec.frequency:
        stamps = pd.date_range(series.times[-1], periods=spec.horizon + 1, freq=spec.frequency)[1:]
        out.insert(0, time, stamps)
    return out


def check_output(path: str | Path) -> None:
    """Refuse a name that cannot be written before anything is computed."""
    if Path(path).suffix.lower() not in (".csv", ".parquet"):
        raise RequestError(f"{path}: give a name that ends in .csv or .parquet.")


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write CSV or Parquet, by the name's ending."""
    check_output(path)
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix.lower() == ".parquet":
            frame.to_parquet(file, index=False)
        else:
            frame.to_csv(file, index=False)
    except OSError as error:
        raise RequestError(f"{path}: cannot be written: {error}") from None
