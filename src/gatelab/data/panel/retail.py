"""A retail panel made from a seed: daily sales of four products in six stores, for runs without a network.

Sales have a level of each store and product, a week of each product and a year; promotions and the days around holidays
lift them, both are known in advance and most of a forecaster's skill lies in them. A tenth of the products is listed
later than the rest, and one day in forty is missing from the file. Sales are whole numbers, so that the bits do not
depend on the processor.

Dimensions: `N` days of a series.
"""

import hashlib
import math
from typing import Final

import numpy as np
import pandas as pd

FIRST: Final = "2022-01-03"  # a Monday
DAYS: Final = 730
STORES: Final = {"north": 900, "harbour": 400, "market": 1500, "station": 250, "mill": 700, "hill": 550}
"""Store -> square metres, on which its level depends."""
WEEKS: Final = {
    "bread": (90, 95, 100, 105, 130, 150, 30),
    "milk": (110, 100, 100, 100, 120, 140, 30),
    "ice cream": (80, 80, 85, 95, 130, 170, 60),
    "flowers": (70, 75, 80, 90, 140, 200, 45),
}
"""Product -> percent of its level on Monday to Sunday."""
LIFTS: Final = {"none": 100, "leaflet": 150, "price cut": 240}
"""Promotion -> percent of the sales without it."""
HOLIDAYS: Final = {"01-01": "new year", "05-01": "may day", "10-03": "autumn feast", "12-25": "christmas"}
EVE: Final = 180
CLOSED: Final = 10
"""Percent of the sales on the day before a holiday, and on it."""


def retail_frame(seed: int = 0) -> pd.DataFrame:
    """Return the long frame of a seed.

    Columns: unique_id, ds, sales; known in the future: promotion (none, leaflet, price cut) and holiday (none, eve, its
    name); static: store, product, size (square metres).
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    days = np.datetime64(FIRST, "D") + np.arange(DAYS)
    holiday = np.array([HOLIDAYS.get(str(day)[5:], "none") for day in days], object)
    eve = np.append(holiday[1:] != "none", False) & (holiday == "none")
    holiday[eve] = "eve"
    closed = ~eve & (holiday != "none")
    year = np.array([round(1000 * math.sin(2 * math.pi * (t - 120) / 365)) for t in range(DAYS)])
    parts = []
    for store, size in STORES.items():
        for product, week in WEEKS.items():
            level = size // 20 + int(generator.integers(5, 40))
            share = np.resize(np.array(week), DAYS) * (
                1000 + year * (4 if product == "ice cream" else 1) // 10
            )
            promotion = _promotions(generator)
            lift = np.array([LIFTS[name] for name in promotion])
            around = np.where(eve, EVE, np.where(closed, CLOSED, 100))
            noise = 100 + generator.integers(-10, 11, DAYS) + generator.integers(-10, 11, DAYS)
            sales = level * share * lift // 100 * around // 100 * noise // 10_000_000
            first = int(generator.integers(100, 300)) if generator.integers(10) == 0 else 0
            there = (generator.integers(40, size=DAYS) > 0) & (np.arange(DAYS) >= first)
            there[-1] = True  # all series end on one day
            columns = {"ds": days, "sales": sales, "promotion": promotion, "holiday": holiday}
            part = pd.DataFrame(columns)[there]
            one = f"{store} {product}"
            parts.append(part.assign(unique_id=one, store=store, product=product, size=size))
    return pd.concat(parts, ignore_index=True)


def retail_fingerprint(frame: pd.DataFrame) -> dict[str, str]:
    """The sha256 of the frame as CSV."""
    return {"retail_panel": hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()}


def _promotions(generator: np.random.Generator) -> np.ndarray:
    """The promotion `[N]` of each day: weeks from Thursday to Wednesday, about one in six."""
    weeks = generator.integers(12, size=DAYS // 7 + 2)
    of_week = np.array(["leaflet", "price cut", *["none"] * 10], object)[weeks]
    return np.repeat(of_week, 7)[4 : 4 + DAYS]
