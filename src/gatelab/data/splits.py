"""The names of the splits and the check of fractions: the little that text and series share about splitting."""

from typing import Final

from gatelab.data.messages import DataError

SPLITS: Final = ("train", "valid", "test")
"""In the order of time or text."""


def check_fractions(split: list[float]) -> None:
    """Raise `DataError` unless `split` is two or three positive fractions that sum to 1."""
    if len(split) not in (2, 3) or min(split) <= 0 or abs(sum(split) - 1) > 1e-9:
        raise DataError(
            f"data.split={split}: give [train, valid] or [train, valid, test] fractions that sum to 1"
        )
