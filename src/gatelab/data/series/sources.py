"""Reads the named series (ETT, Exchange, the made-up ones) into a `Series`, and keeps what was read.

How arbitrary tables are read is table.py's business. Pandas takes half a second to load, and what is kept needs none
of it, so it is imported where a file is read.
"""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from gatelab.data.disk_cache import CacheEntry, cached
from gatelab.data.fetch import fetch, sha256_of
from gatelab.data.messages import DataError
from gatelab.data.series.protocol import Series
from gatelab.data.series.synthetic import embedded_series, lorenz_series

# 12, 4 and 4 months of 30 days (Zhou et al. 2021); what follows in the file is used by nobody
_ETT_HOURS: Final = (8640, 8640 + 2880, 8640 + 2880 + 2880)
_ETT: Final = {"etth1": ("ETTh1", 1), "etth2": ("ETTh2", 1), "ettm1": ("ETTm1", 4), "ettm2": ("ETTm2", 4)}
_EXCHANGE: Final = "exchange_rate/exchange_rate.txt.gz"


def time_column(name: str) -> str | None:
    """The name of the time column in the published file of a series; None where it has none."""
    return "date" if name in _ETT else None


def read_series(
    name: str,
    path: str | None,
    options: Mapping[str, Any],
    *,
    seed: int,
    mirror: str | None,
    cache: str | None,
) -> Series:
    """Return the table at `path` (read with `options`, see `read_table`) or, without one, the series `name`.

    Parsed once; later the bytes of the file are only hashed (see disk_cache.py).
    """

    def key() -> dict[str, Any]:
        if path is not None:
            file = Path(path).expanduser()
            source = {file.name: sha256_of(file) if file.is_file() else None}
            return {"what": "table", "source": source, **options}
        file_name = published_file(name)
        fetched = file_name and fetch(file_name, mirror=mirror, cache=cache).sha256
        return {"what": "series", "series": name, "source": {file_name: fetched}, "seed": seed}

    def make() -> CacheEntry:
        if path is not None:
            from gatelab.data.series.table import read_table

            return _keep(read_table(path, **options))
        return _keep(load_named(name, seed=seed, mirror=mirror, cache=cache))

    return _restore(cached(cache, key, make))


def published_file(name: str) -> str | None:
    """Return the file that a series is published in; None for a made-up one."""
    return f"ett/{_ETT[name][0]}.csv" if name in _ETT else _EXCHANGE if name == "exchange" else None


def _keep(series: Series) -> CacheEntry:
    facts = {
        name: getattr(series, name)
        for name in ("channels", "frequency", "borders", "fingerprint", "notes", "zone")
    }
    optional = {"times": series.times, "filled": series.filled, "wall": series.wall}
    arrays = {name: array for name, array in optional.items() if array is not None}
    return CacheEntry({"values": series.values, **arrays}, facts)


def _restore(entry: CacheEntry) -> Series:
    fields = entry.facts | {name: array.copy("K") for name, array in entry.arrays.items()}
    tuples = {name: tuple(fields[name]) for name in ("channels", "borders") if fields[name] is not None}
    return Series(**(fields | tuples))


def load_named(name: str, *, seed: int, mirror: str | None, cache: str | None) -> Series:
    """Return the series `name`; `seed` only matters for made-up ones."""
    if name in _ETT:
        return _ett(name, mirror, cache)
    if name == "exchange":
        return _exchange(mirror, cache)
    if name == "embedded_series":
        return embedded_series(seed)
    if name == "lorenz":
        return lorenz_series(seed)
    known = [*_ETT, "exchange", "embedded_series", "lorenz", "table"]
    raise DataError(f"data.series={name!r}: expected one of {', '.join(known)}")


def _ett(name: str, mirror: str | None, cache: str | None) -> Series:
    """Electricity transformer temperature: seven channels, hourly or every 15 minutes."""
    import pandas as pd

    file, rows_per_hour = f"ett/{_ETT[name][0]}.csv", _ETT[name][1]
    fetched = fetch(file, mirror=mirror, cache=cache)
    frame = pd.read_csv(fetched.path, parse_dates=["date"])
    borders = tuple(rows_per_hour * hours for hours in _ETT_HOURS)
    return Series(
        values=frame.drop(columns="date").to_numpy(np.float64),
        channels=tuple(frame.columns[1:]),
        frequency="h" if rows_per_hour == 1 else "15min",
        times=frame["date"].to_numpy(),
        borders=borders,
        fingerprint={file: fetched.sha256},
        notes=[
            f"splits of 12, 4 and 4 months of 30 days; the last {len(frame) - borders[-1]:,} rows are not used"
        ],
    )


def _exchange(mirror: str | None, cache: str | None) -> Series:
    """Daily exchange rates of eight countries, 1990-2016; the file has neither header nor dates."""
    fetched = fetch(_EXCHANGE, mirror=mirror, cache=cache)
    with gzip.open(fetched.path, "rt") as file:
        values = np.loadtxt(file, delimiter=",", dtype=np.float64)
    return Series(
        values=values,
        channels=tuple(f"rate_{i}" for i in range(values.shape[1])),
        fingerprint={_EXCHANGE: fetched.sha256},
        notes=["the file has no dates: no season is assumed and no calendar feature can be built"],
    )
