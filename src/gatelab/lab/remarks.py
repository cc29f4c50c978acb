"""Remarks for the person at the terminal. Results go to stdout, remarks never do."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print a remark on stderr."""
    print(text, file=sys.stderr, flush=True)
