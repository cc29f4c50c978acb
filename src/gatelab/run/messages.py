"""Messages to the person at the terminal. Imports nothing heavy.

Results go to stdout; everything else goes to stderr through `say`.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


def say(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def counted(number: int, thing: str) -> str:
    """`1 worker`, `2,000 workers`."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known spelling, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
