"""Lines below a table that sum it up, and are none of its rows: `Total;;;1234`, `Mean,12.5`."""

import re
from collections.abc import Iterable
from typing import Final

import numpy as np

_WORD: Final = re.compile(
    r"(?:(?:grand|sub|over ?all)[\s-]*)?(?:totals?|sums?|mean|average|avg|median|count|rows|summe|gesamt(?:summe)?|"
    r"insgesamt|mittel(?:wert)?|durchschnitt|anzahl|total[ei]s?|totaux|sommes?|moyenne|suma|promedio|media|soma|"
    r"totaal|gemiddelde|итого|всего|合[计計]|总计|總計|小计|平均)[\s:.=]*",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"\W{0,3}\d[\d.,' ]*\W{0,3}")


def is_total(cells: Iterable[object]) -> bool:
    """Whether a cell is a word for a sum, a mean or a number of rows, and each of the others a number or empty."""
    words = [word for cell in cells if cell is not None and cell == cell and (word := str(cell).strip())]
    others = [word for word in words if not _WORD.fullmatch(word)]
    return len(others) + 1 == len(words) and all(map(_NUMBER.fullmatch, others))


def told_lone_total(ids: np.ndarray) -> str:
    """What is wrong with the last of the ids `[N]` of all rows; "" unless it is such a word, and has this row alone.

    Where every id has one row, none is odd.
    """
    name = ids[-1] if len(ids) else None
    if not isinstance(name, str) or not _WORD.fullmatch(name.strip()):
        return ""
    if (ids == name).sum() > 1 or len(set(ids)) == len(ids):
        return ""
    called = "has this row alone and is called like a total of the rows above it"
    return f"{name!r} {called}: remove it, or call it otherwise"


def tell_sums(numbers: np.ndarray, notes: list[str]) -> None:
    """Note a last row of a table `[N, C]` that holds the sums of all others, larger than each of their numbers."""
    above, last = numbers[:-1], numbers[-1:].ravel()
    sums, largest = above.sum(axis=0), np.abs(above).max(axis=0, initial=0)
    if len(last) and (np.isclose(last, sums, rtol=1e-6) & (np.abs(sums) > 2 * largest)).all():
        notes.append(
            f"row {len(numbers)} holds the sums of the rows above it and is read as one of them; remove it if it is a "
            "total"
        )
