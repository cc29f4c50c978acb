"""Forecast what comes after a table, with a run's forecaster, in original units.

Needs the run directory only: scaling, channels and look-back are in it. It scores nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gatelab.data import SeriesSpec
from gatelab.lab.errors import RequestError
from gatelab.lab.load import load_task


def predict(path: str | Path, table: str | Path) -> pd.DataFrame:
    """The forecast after the last row of `table`.

    Args:
        path: the run directory of a forecaster.
        table: CSV or Parquet with the run's channels as columns, at least `lookback` rows, oldest first or with the
            run's time column to sort by.

    Returns:
        `horizon` rows, one column a target in original units; the time column continued, where there is one.

    Raises:
        RequestError: the run is no forecaster, a column is missing or not numeric, rows are too few or incomplete.
    """
    loaded = load_task(path)
    spec = loaded.task.spec
    if not isinstance(spec, SeriesSpec):
        raise RequestError(f"{path}: no forecaster; `gatelab generate` is for language models.")
    frame = read_table(table)
    time = time_column(frame, loaded.config, spec)
    if time is not None:
        frame = frame.assign(**{time: to_times(frame[time], table, time)}).sort_values(time)
    past = past_values(frame, spec, table)
    mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    index = list(spec.target_index)
    with torch.inference_mode():
        forecast = loaded.task.net(((past - mean) / std)[None].float())[0].double()
    values = forecast * std[index].double() + mean[index].double()
    out = pd.DataFrame(values.numpy(), columns=list(spec.targets))
    if time is not None and spec.frequency:
        stamps = pd.date_range(frame[time].iloc[-1], periods=spec.horizon + 1, freq=spec.frequency)[1:]
        out.insert(0, time, stamps)
    return out


def read_table(path: str | Path) -> pd.DataFrame:
    """A CSV or Parquet file as a table."""
    file = Path(path)
    if not file.is_file():
        raise RequestError(f"{path}: no such file.")
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise RequestError(f"{path}: give a .csv or .parquet file.")
    try:
        return pd.read_csv(file) if file.suffix.lower() == ".csv" else pd.read_parquet(file)
    except (ValueError, OSError) as error:
        raise RequestError(f"{path}: cannot be read: {error}") from None


def time_column(frame: pd.DataFrame, config: dict[str, Any], spec: SeriesSpec) -> str | None:
    """The run's time column, if the table has it (the published data sets call theirs "date")."""
    name = config["data"].get("time") or "date"
    return name if name in frame.columns and name not in spec.channels else None


def to_times(column: pd.Series, table: str | Path, name: str) -> pd.Series:
    """A column as time stamps."""
    try:
        return pd.to_datetime(column)
    except (ValueError, TypeError) as error:
        raise RequestError(f"{table}: column '{name}' holds no time stamps: {error}") from None


def past_values(frame: pd.DataFrame, spec: SeriesSpec, table: str | Path) -> torch.Tensor:
    """The last `lookback` rows of the channels `[Lb, C]` in original units, float64."""
    missing = [name for name in spec.channels if name not in frame.columns]
    if missing:
        raise RequestError(
            f"{table}: has no column '{missing[0]}'; the run was trained on {', '.join(spec.channels)}."
        )
    if len(frame) < spec.lookback:
        raise RequestError(f"{table}: {len(frame)} rows, but the run looks back over {spec.lookback}.")
    rows = frame[list(spec.channels)].iloc[-spec.lookback :]
    for name in spec.channels:
        if not pd.api.types.is_numeric_dtype(rows[name]):
            raise RequestError(f"{table}: column '{name}' is not numeric.")
        if rows[name].isna().any():
            row = int(rows[name].isna().to_numpy().argmax()) + len(frame) - spec.lookback
            raise RequestError(
                f"{table}: column '{name}', row {row}: missing value in the look-back; fill it first."
            )
    return torch.from_numpy(rows.to_numpy(dtype="float64"))


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write CSV or Parquet, by the name's ending."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() == ".parquet":
        frame.to_parquet(file, index=False)
    elif file.suffix.lower() == ".csv":
        frame.to_csv(file, index=False)
    else:
        raise RequestError(f"{path}: give a name that ends in .csv or .parquet.")
