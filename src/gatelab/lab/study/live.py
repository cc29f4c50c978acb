"""A study while it runs: a table in a terminal, a line now and then elsewhere. On stderr; changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def following(directory: str | Path, *, every: float = 1.0, lines_every: float = 30.0) -> Iterator[None]:
    """Show the study's progress from a thread of this process while the block runs (`gatelab sweep`)."""
    yield


def watch(directory: str | Path, *, every: float = 1.0, lines_every: float = 30.0) -> None:
    """Show the study's progress until it is finished or stopped (`gatelab study NAME --watch`)."""
