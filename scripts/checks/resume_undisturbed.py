"""What the scripts that disturb runs share: a place for them, and the run that nobody disturbs, to compare with."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.checks.resume_cases import Request
from scripts.checks.resume_forked import ForkedRun


def undisturbed(request: Request, folder: Path, limit: float) -> Path:
    """The directory of the run that nobody disturbs."""
    run = ForkedRun(request, folder)
    codes = run.wait(limit)
    if codes is None or any(codes):
        raise SystemExit(f"the undisturbed run ({request.kind}) ended with {codes}:\n{run.tail()}")
    return request.directory(folder)


def add_folder(parser: argparse.ArgumentParser) -> None:
    """`--folder`."""
    parser.add_argument(
        "--folder", type=Path, help="keep everything there; it must not exist (default: in memory)"
    )


@contextlib.contextmanager
def place(folder: Path | None, prefix: str) -> Iterator[Path]:
    """`folder`, which is made, or one in memory that is gone afterwards: disks are chaos_checkpoints.py's matter."""
    if folder is not None:
        folder.mkdir(parents=True)
        yield folder.resolve()
        return
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=prefix, dir=memory, ignore_cleanup_errors=True) as temporary:
        yield Path(temporary).resolve()
