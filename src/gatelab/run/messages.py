"""Messages to the person at the terminal. Imports nothing heavy.

Results go to stdout; everything else goes to stderr through `say`.
"""

from __future__ import annotations

import sys

from gatelab.data.messages import did_you_mean


def say(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def counted(number: int, thing: str) -> str:
    """`1 worker`, `2,000 workers`."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


nearest = did_you_mean
"""The hint of every message of this ring and the outer ones; see `gatelab.data.messages`."""
