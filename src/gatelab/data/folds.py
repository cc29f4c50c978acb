"""Cross-validation on what stands before the test split: where the folds lie. It reads no files.

`data.folds=K data.fold=k` (k counts from 0) makes one of K runs, whose validation scores are averaged. No fold ever
touches the test split.

    series  rolling origin (Tashman, 2000), with the rounding of scikit-learn's `TimeSeriesSplit`: R rows before the
            test split, blocks of n = floor(R / (K + 1)) rows, c_k = R - (K - k) n. Fold k trains on rows [0, c_k)
            and validates on [c_k, c_k+1): the past is never predicted from the future, and every fold validates on
            as many rows. What the division leaves over belongs to the first training part.
    text    K contiguous blocks of the train and valid text; fold k validates on block k and trains on all others.
    items   (synthetic problems) the same with items instead of characters, sizes that differ by at most one.
"""

from typing import Final, TypeVar

from gatelab.data.messages import DataError
from gatelab.data.text.long_text import LongText

AnyText = TypeVar("AnyText", str, LongText)
_NEARBY: Final = 0.5
"""Share of a block by which a cut may move on to find a line end: no block gets smaller than the other half."""


def check_folds(folds: int | None, fold: int | None) -> None:
    """Raise `DataError` unless both are None, or `folds` is at least 2 and `fold` one of 0..folds-1."""
    if folds is None and fold is None:
        return
    if folds is None:
        raise DataError(f"data.fold={fold} without data.folds: give data.folds=K too, or leave data.fold out")
    if folds < 2:
        raise DataError(f"data.folds={folds}: give at least 2, or null for the ordinary split")
    if fold is None:
        raise DataError(
            f"data.folds={folds} without data.fold: a run is one fold; give data.fold=0 to {folds - 1}"
        )
    if not 0 <= fold < folds:
        raise DataError(
            f"data.fold={fold}: folds are counted from 0; data.folds={folds} has data.fold=0 to {folds - 1}"
        )


def rolling_cuts(rows: int, folds: int, *, lookback: int, horizon: int, season: int) -> list[int]:
    """Return c_0..c_K for the `rows` before the test split.

    Every fold has windows, a seasonal difference and a whole look-back before its block, or `DataError` is raised
    for all of them alike.
    """
    need = max(lookback + horizon, season + 1)

    def cut(count: int) -> list[int]:
        block = rows // (count + 1)
        return [rows - (count - k) * block for k in range(count + 1)]

    def fits(count: int) -> bool:
        cuts = cut(count)
        return cuts[0] >= need and cuts[1] - cuts[0] >= horizon

    if not fits(folds):
        cuts = cut(folds)
        most = next((count for count in range(folds - 1, 1, -1) if fits(count)), None)
        fix = f"data.folds={most} fits" if most else "not even data.folds=2 fits"
        raise DataError(
            f"data.folds={folds}: the {rows} rows before the test split would give the first fold {cuts[0]} rows to "
            f"train on and {cuts[1] - cuts[0]} to validate on; data.lookback={lookback}, data.horizon={horizon} and a "
            f"season of {season} need {need} and {horizon}; {fix}; or shorten look-back, horizon or season"
        )
    return cut(folds)


def text_cuts(text: str | LongText, folds: int) -> list[int]:
    """Return the borders `[K+1]` of `folds` blocks of near-equal length.

    A cut is moved on to the end of its line; where that is more than half a block away, behind the next blank, and
    without one it stays. So a block has 0.5 to 1.5 times its share, give or take a character. Raises `DataError` if
    there are too few characters.
    """
    share = len(text) / folds
    if share < 4:
        raise DataError(
            f"data.folds={folds}: {len(text)} characters before the test split are too few; give fewer"
        )
    cuts = [0]
    for k in range(1, folds):
        at = len(text) * k // folds
        limit = int(at + _NEARBY * share)
        found = [place for mark in "\n " if (place := text.find(mark, at - 1, limit)) >= 0]
        cuts.append(found[0] + 1 if found else at)
    return [*cuts, len(text)]


def fold_of_text(text: AnyText, folds: int, fold: int) -> tuple[list[AnyText], AnyText, str]:
    """Return the pieces to train on (one at either end, else the two around the block), the block, and a note."""
    cuts = text_cuts(text, folds)
    start, end = cuts[fold], cuts[fold + 1]
    pieces = [piece for piece in (text[:start], text[end:]) if piece]
    note = (
        f"data.fold={fold} of data.folds={folds}: the train and valid text is cut into blocks; valid is characters "
        f"{start:,} to {end:,} of {len(text):,}, train the {len(text) - end + start:,} others"
    )
    if len(pieces) > 1:
        note += f" (nothing is carried over the gap at {start:,})"
    return pieces, text[start:end], note


def item_cuts(items: int, folds: int, what: str = "items") -> list[int]:
    """Return the borders `[K+1]` of `folds` blocks of `items` items, the first of them one longer where need be.

    what: they are called in messages.
    """
    if items < folds:
        raise DataError(f"data.folds={folds}: there are only {items} {what}; give fewer folds or more {what}")
    size, longer = divmod(items, folds)
    return [k * size + min(k, longer) for k in range(folds + 1)]
