"""A disk that is full while a checkpoint is written: a small file system in memory, or a limit on the size of files.

The first needs the right to mount; without it, no file may grow beyond the limit, which the system refuses in the same
place with another error number. Both are real refusals of the kernel.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from gatelab.tasks import AtomicCheckpointIO, CheckpointError, load_checkpoint
from scripts.chaos.writer import is_whole, state

DISK = 16 << 20


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a file system of 16 MiB at `folder`; False where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    done = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False)
    mounted = bool(done) and done.returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, mounted: bool, times: int, rng: random.Random) -> tuple[list[str], str]:
    """Try to save where there is room for a part only, `times` times.

    Returns:
        what went wrong; and the last message that the writer would have shown.
    """
    wrong, message, io, last = [], "", AtomicCheckpointIO(), folder / "last.ckpt"
    size = 1 << 20
    io.save_checkpoint(state(0, size), last)
    for step in range(1, times + 1):
        before = last.read_bytes()
        room = rng.randrange(0, size)
        try:
            with _little_room(folder, room, mounted):
                io.save_checkpoint(state(step, size), last)
            wrong.append(f"step {step}: {room} bytes were enough")
        except CheckpointError as error:
            message = str(error)
            if "last.ckpt" not in message or "untouched" not in message:
                wrong.append(f"step {step}: the message does not say it: {message}")
        if last.read_bytes() != before:
            wrong.append(f"step {step}: the old checkpoint has changed")
        if left := [path.name for path in folder.iterdir() if path.suffix != ".ckpt"]:
            wrong.append(f"step {step}: left behind {left}")
        io.save_checkpoint(state(step, size), last)  # there is room again
        if (now := load_checkpoint(last))["global_step"] != step or not is_whole(now):
            wrong.append(f"step {step}: could not be saved afterwards")
    return wrong, message


@contextlib.contextmanager
def _little_room(folder: Path, room: int, mounted: bool) -> Iterator[None]:
    if not mounted:
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(room, 1), old[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        return
    filler = folder / "filler.ckpt"
    free = os.statvfs(folder)
    with filler.open("wb") as file:
        file.write(bytes(max(free.f_bavail * free.f_frsize - room, 0)))
    try:
        yield
    finally:
        filler.unlink()
