"""Dates as people write them beside ISO 8601's full form: weeks, quarters, digits without signs between them."""

import re
from datetime import datetime
from typing import Final

import pandas as pd

_WEEK: Final = r"\d{4}-?W\d"
_QUARTER: Final = r"(\d{4})[ -]?[Qq]([1-4])|[Qq]([1-4])[ /-]?(\d{4})"
_DIGITS: Final = {6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_YEARS: Final = (1800, 2199)
"""Digits of other years are taken for something else: counters, seconds since 1970. A year alone is no date."""


def as_iso(text: pd.Series) -> pd.Series:
    """Return the first day of weeks (`2024-W05`, their Monday) and quarters (`2024Q1`, `Q1 2024`); others as they are.

    A week may name a day of it: `2024-W05-3`.
    """
    for form, first_day in ((_WEEK, _of_week), (rf"(?:{_QUARTER})$", _of_quarter)):
        if (found := text.str.match(form)).any():
            text = text.where(~found, text[found].map(first_day))
    return text


def _of_week(text: str) -> str:
    try:
        return datetime.fromisoformat(text).isoformat(" ")
    except ValueError:
        return text


def _of_quarter(text: str) -> str:
    found = re.match(_QUARTER, text)
    assert found is not None
    quarter = int(found[2] or found[3])
    return f"{found[1] or found[4]}-{3 * quarter - 2:02d}-01"


def of_digits(column: pd.Series) -> pd.Series | None:
    """Return the times of a column of numbers or text, all of it `202401`, `20240131`, `2024013113` and so on.

    None where it is something else or can be read in two ways (`200102`); numbers of UNIX time are never all such dates
    but by chance.
    """
    if pd.api.types.is_numeric_dtype(column):
        whole = column.between(1, 10 ** max(_DIGITS)) & (column % 1 == 0)
        if not whole.all():
            return None
        column = column.astype("int64")
    text = column.astype(str)
    form = _DIGITS.get(len(text.iloc[0]))
    if form is None or not text.str.fullmatch(rf"\d{{{len(text.iloc[0])}}}").all():
        return None
    times = pd.to_datetime(text, format=form, errors="coerce")
    if form == "%Y%m" and pd.to_datetime(text, format="%y%m%d", errors="coerce").notna().all():
        return None  # days, with years of two digits
    return times if times.dt.year.between(*_YEARS).all() else None
