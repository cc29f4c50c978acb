"""Reads the named series (ETT, Exchange, the made-up ones) into a `Series`.

Arbitrary tables are table.py's business.
"""

import gzip
from typing import Final

import numpy as np
import pandas as pd

from gatelab.data.embedded import embedded_series
from gatelab.data.errors import DataError
from gatelab.data.fetch import fetch
from gatelab.data.lorenz import lorenz_series
from gatelab.data.series import Series

# 12, 4 and 4 months of 30 days (Zhou et al. 2021); what follows in the file is used by nobody
_ETT_HOURS: Final = (8640, 8640 + 2880, 8640 + 2880 + 2880)
_ETT: Final = {"etth1": ("ETTh1", 1), "etth2": ("ETTh2", 1), "ettm1": ("ETTm1", 4), "ettm2": ("ETTm2", 4)}


def load_named(name: str, *, seed: int, mirror: str | None, cache: str | None) -> Series:
    """Return the series `name`; `seed` only matters for made-up ones."""
    if name in _ETT:
        return _ett(*_ETT[name], mirror, cache)
    if name == "exchange":
        return _exchange(mirror, cache)
    if name == "embedded_series":
        return embedded_series(seed)
    if name == "lorenz":
        return lorenz_series(seed)
    known = [*_ETT, "exchange", "embedded_series", "lorenz", "table"]
    raise DataError(f"data.series={name!r}: expected one of {', '.join(known)}")


def _ett(file: str, rows_per_hour: int, mirror: str | None, cache: str | None) -> Series:
    """Electricity transformer temperature: seven channels, hourly or every 15 minutes."""
    name = f"ett/{file}.csv"
    fetched = fetch(name, mirror=mirror, cache=cache)
    frame = pd.read_csv(fetched.path, parse_dates=["date"])
    borders = tuple(rows_per_hour * hours for hours in _ETT_HOURS)
    return Series(
        values=frame.drop(columns="date").to_numpy(np.float64),
        channels=tuple(frame.columns[1:]),
        frequency="h" if rows_per_hour == 1 else "15min",
        times=frame["date"].to_numpy(),
        borders=borders,
        fingerprint={name: fetched.sha256},
        notes=[
            f"splits of 12, 4 and 4 months of 30 days; the last {len(frame) - borders[-1]:,} rows are not used"
        ],
    )


def _exchange(mirror: str | None, cache: str | None) -> Series:
    """Daily exchange rates of eight countries, 1990-2016; the file has neither header nor dates."""
    name = "exchange_rate/exchange_rate.txt.gz"
    fetched = fetch(name, mirror=mirror, cache=cache)
    with gzip.open(fetched.path, "rt") as file:
        values = np.loadtxt(file, delimiter=",", dtype=np.float64)
    return Series(
        values=values,
        channels=tuple(f"rate_{i}" for i in range(values.shape[1])),
        fingerprint={name: fetched.sha256},
        notes=["the file has no dates: no season is assumed and no calendar feature can be built"],
    )
