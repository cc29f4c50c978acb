"""Kill a process that saves checkpoints, again and again, and let its disk be full: is one ever corrupt, or lost?

A writer saves states of some megabytes one after the other; it is killed (SIGKILL) at random moments, started again,
and killed again: half of the times with the system's temporary folder on the same file system as the checkpoints, half
on another one. Last, no file
may grow beyond a part of a checkpoint, as on a full disk.

Corrupt: a checkpoint that cannot be read, or holds a mixture. Lost: a step whose save had returned, and that no
checkpoint holds any more. (Killed training runs: `scripts.checks.resume` and `scripts.chaos.sweep`.)

examples:
  python -m scripts.chaos.checkpoints                        200 kills of the writer, 20 times a full disk
  python -m scripts.chaos.checkpoints --second /mnt/other    the other file system (default: in memory, /dev/shm)

Exit code 0 if nothing was corrupt or lost; else 1. Not for Windows.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from gatelab.tasks import AtomicCheckpointIO, CheckpointError, load_checkpoint
from gatelab.tasks.checkpoint_io import find_latest_checkpoint
from scripts.harness import parser, show

SIZE = 4 << 20
Found = tuple[dict[str, Any], list[str]]
"""A line of the table, and what went wrong."""


def state(step: int, size: int) -> dict[str, Any]:
    """A state of about `size` bytes that shows by itself whether it is whole: every number is the step."""
    weights = {f"w{i}": torch.full((size // 16,), float(step)) for i in range(4)}
    return {"global_step": step, "state_dict": weights}


def is_whole(checkpoint: dict[str, Any]) -> bool:
    """Whether every number is the step."""
    return all(bool((w == checkpoint["global_step"]).all()) for w in checkpoint["state_dict"].values())


def write(folder: Path, temporary: Path, pipe: int) -> None:
    """Save one state after the other from what there is, and say after each that it returned; never returns."""
    with contextlib.suppress(BaseException):
        tempfile.tempdir = str(temporary)
        found = find_latest_checkpoint(folder)
        step = found.checkpoint["global_step"] if found else 0
        while True:
            os.write(pipe, f"{step}\n".encode())
            step += 1
            AtomicCheckpointIO().save_checkpoint(state(step, SIZE), folder / "last.ckpt")
    os._exit(1)


def strike(folder: Path, temporary: Path, rng: random.Random) -> tuple[int, bool]:
    """Fork a writer and kill it at a random moment; the last step whose save returned, and whether it hit a save."""
    read, pipe = os.pipe()
    pid = os.fork()
    if pid == 0:
        write(folder, temporary, pipe)
    os.close(pipe)
    with open(read, "rb", buffering=0) as lines:
        said = _read_one(lines)
        for _ in range(rng.randint(1, 4)):
            began = time.monotonic()
            said += _read_one(lines)
        time.sleep(
            rng.uniform(0.0, time.monotonic() - began)
        )  # any moment of a save, however slow the disk is
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        said += lines.read()
    left = [*folder.glob(".*.tmp"), *temporary.glob("*")]
    for path in left:
        path.unlink()
    return int(said.split(b"\n")[-2]), bool(left)


def _read_one(lines: Any) -> bytes:
    if not select.select([lines], [], [], 60.0)[0] or not (line := lines.readline()):
        raise RuntimeError("the writer never began")
    return bytes(line)


def judge(folder: Path, returned: int) -> tuple[list[str], list[str]]:
    """What is corrupt, and what is lost, after a kill."""
    corrupt, lost = [], []
    for path in sorted(folder.glob("*.ckpt")):
        try:
            if not is_whole(load_checkpoint(path)):
                corrupt.append(f"{path}: holds a mixture")
        except CheckpointError as error:
            corrupt.append(str(error))
    with contextlib.suppress(CheckpointError):
        found = find_latest_checkpoint(folder)
        step = found.checkpoint["global_step"] if found else None
        if step is None or step < returned:
            lost.append(f"{folder}: step {returned} was saved, {step} is left")
    return corrupt, lost


def kill_writer(name: str, folder: Path, temporary: Path, kills: int, rng: random.Random) -> Found:
    """Kill the writer `kills` times; after each, look at every file."""
    inside, corrupt, lost = 0, [], []
    folder.mkdir()
    temporary.mkdir()
    for _ in tqdm(range(kills), desc=name, file=sys.stderr, disable=None):
        returned, hit = strike(folder, temporary, rng)
        inside += hit
        broken, gone = judge(folder, returned)
        corrupt, lost = corrupt + broken, lost + gone
        if broken or gone:  # begin anew, so that each counts once
            shutil.rmtree(folder)
            folder.mkdir()
    row = {"": name, "killed": kills, "in a save": inside, "corrupt": len(corrupt), "lost": len(lost)}
    return row, [f"{name}: {text}" for text in (*corrupt, *lost)]


def fill(folder: Path, times: int, rng: random.Random) -> tuple[list[str], str]:
    """Try to save where there is room for a part only; what went wrong, and the writer's last message."""
    wrong, message, io, last, size = [], "", AtomicCheckpointIO(), folder / "last.ckpt", 1 << 20
    folder.mkdir()
    io.save_checkpoint(state(0, size), last)
    free = resource.getrlimit(resource.RLIMIT_FSIZE)
    for step in range(1, times + 1):
        before, room = last.read_bytes(), rng.randrange(1, size)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, free[1]))
        try:
            io.save_checkpoint(state(step, size), last)
            wrong.append(f"step {step}: {room} bytes were enough")
        except CheckpointError as error:
            message = str(error)
            if "last.ckpt" not in message or "untouched" not in message:
                wrong.append(f"step {step}: the message does not say it: {message}")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, free)
        if last.read_bytes() != before:
            wrong.append(f"step {step}: the old checkpoint has changed")
        if left := [path.name for path in folder.iterdir() if path.suffix != ".ckpt"]:
            wrong.append(f"step {step}: left behind {left}")
        io.save_checkpoint(state(step, size), last)  # there is room again
        if (now := load_checkpoint(last))["global_step"] != step or not is_whole(now):
            wrong.append(f"step {step}: could not be saved afterwards")
    return wrong, message


def main() -> int:
    p = parser(__doc__)
    p.add_argument("--kills", type=int, default=200, help="of the writer (default: %(default)s)")
    p.add_argument("--full", type=int, default=20, metavar="N", help="saves on a full disk (%(default)s)")
    p.add_argument(
        "--first", type=Path, metavar="DIR", help="of the checkpoints (default: the temporary one)"
    )
    p.add_argument("--second", type=Path, default=Path("/dev/shm"), metavar="DIR", help="(%(default)s)")
    options = p.parse_args()
    torch.set_num_threads(1)  # a process with more than one thread must not fork
    began, rng, parts = time.monotonic(), random.Random(0), []
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", dir=options.first) as first,
        tempfile.TemporaryDirectory(prefix="chaos-", dir=options.second) as second,
    ):
        one, other = Path(first), Path(second)
        if one.stat().st_dev == other.stat().st_dev:
            raise SystemExit(f"--second {options.second}: the same file system as {one.parent}")
        if half := options.kills // 2:
            parts.append(kill_writer("one file system", one / "same", one / "temporary", half, rng))
            rest = options.kills - half
            parts.append(kill_writer("two file systems", one / "two", other / "temporary", rest, rng))
        show("", [row for row, _ in parts])
        bad = [text for _, texts in parts for text in texts]
        if options.full:
            wrong, message = fill(one / "full", options.full, rng)
            print(f"full disk: {options.full} refused saves, {len(wrong)} wrong; the message:\n  {message}")
            bad += wrong
    print("\n".join([*bad, f"{time.monotonic() - began:.0f} s"]))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
