"""Remarks for the person at the terminal. Results go to stdout, remarks never do."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print a remark on stderr."""
    print(text, file=sys.stderr, flush=True)


def counted(number: int, thing: str) -> str:
    """`1 worker`, `2,000 workers`."""
    return f"{number:,} {thing}{'s' * (number != 1)}"
