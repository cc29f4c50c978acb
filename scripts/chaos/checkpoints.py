"""Kill a process that saves checkpoints, again and again, and fill its disk up: is one ever corrupt, or lost?

A writer saves states of some megabytes one after the other; it is killed (SIGKILL) at random moments, started again,
and killed again: half of the times with the system's temporary folder on the same file system as the checkpoints, half
on another one. Then a training run, with a validation after every fifth step and a checkpoint after every step, is
killed at random and started again until it is done, and compared bit for bit with an undisturbed one. Last, the disk
is full: a small file system in memory, or, without the right to mount one, a limit on the size of files.

Corrupt: a checkpoint that cannot be read, or holds a mixture. Lost: a step whose save had returned, and that no
checkpoint holds any more; or a run that does not come out as the undisturbed one.

examples:
  python -m scripts.chaos.checkpoints                        200 kills of the writer, 40 of runs, 20 times a full disk
  python -m scripts.chaos.checkpoints --second /mnt/other    the other file system (default: in memory, /dev/shm)
  python -m scripts.chaos.checkpoints --plugin lightning --runs 0 --full 0     Lightning's own way, for comparison

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
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from gatelab.tasks import AtomicCheckpointIO, CheckpointError, load_checkpoint
from gatelab.tasks.checkpoint_io import find_latest_checkpoint
from scripts.compare import first_difference
from scripts.forked import ForkedRun, Kind, Request
from scripts.harness import parser, show

DISK = 16 << 20
Found = tuple[dict[str, Any], list[str]]
"""A line of the table, and what went wrong."""


# a process that saves


def state(step: int, size: int) -> dict[str, Any]:
    """A state of about `size` bytes that shows by itself whether it is whole: every number is the step."""
    weights = {f"w{i}": torch.full((size // 16,), float(step)) for i in range(4)}
    return {"global_step": step, "state_dict": weights}


def is_whole(checkpoint: dict[str, Any]) -> bool:
    """Whether every number is the step."""
    return all(bool((w == checkpoint["global_step"]).all()) for w in checkpoint["state_dict"].values())


def write(folder: Path, size: int, temporary: Path, plugin: str, pipe: int) -> None:
    """Save one state after the other from what there is, and say after each that it returned; never returns."""
    with contextlib.suppress(BaseException):
        tempfile.tempdir = str(temporary)
        io: Any = AtomicCheckpointIO()
        if plugin == "lightning":
            from pytorch_lightning.plugins.io import TorchCheckpointIO

            io = TorchCheckpointIO()
        found = find_latest_checkpoint(folder)
        step = found.checkpoint["global_step"] if found else 0
        os.write(pipe, f"{step}\n".encode())
        while True:
            step += 1
            io.save_checkpoint(state(step, size), folder / "last.ckpt")
            os.write(pipe, f"{step}\n".encode())
    os._exit(1)


def strike(folder: Path, size: int, temporary: Path, plugin: str, rng: random.Random) -> tuple[int, bool]:
    """Fork a writer and kill it at a random moment; the last step whose save returned, and whether it hit a save."""
    read, pipe = os.pipe()
    pid = os.fork()
    if pid == 0:
        write(folder, size, temporary, plugin, pipe)
    os.close(pipe)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, read)
        said = _read_one(read)
        for _ in range(rng.randint(1, 4)):
            began = time.monotonic()
            said += _read_one(read)
        time.sleep(
            rng.uniform(0.0, time.monotonic() - began)
        )  # any moment of a save, however slow the disk is
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while more := os.read(read, 1 << 16):
            said += more
    left = [*folder.glob(".*.tmp"), *temporary.glob("*")]
    for path in left:
        path.unlink()
    return int(said.split(b"\n")[-2]), bool(left)


def _read_one(pipe: int) -> bytes:
    said = b""
    while b"\n" not in said:
        ready, _, _ = select.select([pipe], [], [], 60.0)
        if not (more := os.read(pipe, 4096) if ready else b""):
            raise RuntimeError("the writer never began")
        said += more
    return said


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


def line(name: str, killed: int, inside: int, corrupt: list[str], lost: list[str]) -> Found:
    """One part of the experiment."""
    row = {"": name, "killed": killed, "in a save": inside, "corrupt": len(corrupt), "lost": len(lost)}
    return row, [f"{name}: {text}" for text in (*corrupt, *lost)]


def kill_writer(name: str, folder: Path, temporary: Path, kills: int, options: Namespace) -> Found:
    """Kill the writer `kills` times; after each, look at every file."""
    rng, inside, corrupt, lost = random.Random(options.seed), 0, [], []
    folder.mkdir()
    temporary.mkdir()
    for _ in tqdm(range(kills), desc=name, file=sys.stderr, disable=None):
        returned, hit = strike(folder, options.size, temporary, options.plugin, rng)
        inside += hit
        broken, gone = judge(folder, returned)
        corrupt, lost = corrupt + broken, lost + gone
        if broken or gone:  # begin anew, so that each counts once
            shutil.rmtree(folder)
            folder.mkdir()
    return line(name, kills, inside, corrupt, lost)


# training runs


def kill_runs(root: Path, kills: int, options: Namespace) -> Found:
    """Kill training runs until there were enough kills; every one must come out as the undisturbed run."""
    rng, inside, corrupt, lost, done, number = random.Random(options.seed), 0, [], [], 0, 0
    more = ("callbacks.checkpoints.every_n_steps=1", "model.hidden_size=200")
    request = Request(Kind("text", 0, 1), root, more)
    whole = request.undisturbed(root / "undisturbed", options.limit)
    with tqdm(total=kills, desc="training runs", file=sys.stderr, disable=None) as bar:
        while done < kills:
            number, folder = number + 1, root / f"run{number}"
            checkpoints, killed = request.directory(folder) / "checkpoints", True
            while done < kills and (killed := kill_one(ForkedRun(request, folder), rng, options.limit)):
                done, inside = done + 1, inside + any(checkpoints.glob(".*.tmp"))
                bar.update()
                try:
                    find_latest_checkpoint(checkpoints)
                except CheckpointError as error:
                    corrupt.append(str(error))
            if killed:
                ForkedRun(request, folder).wait(options.limit)
            if difference := first_difference(request.directory(folder), whole):
                lost.append(f"{folder.name} differs: {difference}")
    return line(f"{number} training runs", done, inside, corrupt, lost)


def kill_one(run: ForkedRun, rng: random.Random, limit: float) -> bool:
    """Kill a run at a random moment of its training; False if it was done before."""
    end, folder = time.monotonic() + limit, run.run.last.parent

    def stamps() -> list[tuple[str, int]]:
        return sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.ckpt"))

    seen = stamps()
    while stamps() == seen and run.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    wait = time.monotonic() + rng.uniform(0.0, 0.4)
    while time.monotonic() < wait and run.poll() is None:
        time.sleep(0.001)
    ended = run.poll()
    run.kill()
    return ended is None


# full disks


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a file system of 16 MiB at `folder`; False where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, check=False) if shutil.which("mount") else None
    mounted = done is not None and done.returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def little_room(folder: Path, room: int, mounted: bool) -> Iterator[None]:
    """Leave `room` bytes on the disk; where it is not mounted, no file may grow beyond them."""
    if mounted:
        filler, free = folder / "filler.ckpt", os.statvfs(folder)
        filler.write_bytes(bytes(max(free.f_bavail * free.f_frsize - room, 0)))
    else:
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(room, 1), old[1]))
    try:
        yield
    finally:
        if mounted:
            filler.unlink()
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)


def fill(folder: Path, mounted: bool, times: int, rng: random.Random) -> tuple[list[str], str]:
    """Try to save where there is room for a part only; what went wrong, and the writer's last message."""
    wrong, message, io, last, size = [], "", AtomicCheckpointIO(), folder / "last.ckpt", 1 << 20
    io.save_checkpoint(state(0, size), last)
    for step in range(1, times + 1):
        before, room = last.read_bytes(), rng.randrange(0, size)
        try:
            with little_room(folder, room, mounted):
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


def main(arguments: list[str] | None = None) -> int:
    p = parser(__doc__)
    p.add_argument("--kills", type=int, default=200, help="of the writer (default: %(default)s)")
    p.add_argument("--runs", type=int, default=40, metavar="N", help="kills of runs (default: %(default)s)")
    p.add_argument("--full", type=int, default=20, metavar="N", help="saves on a full disk (%(default)s)")
    p.add_argument(
        "--first", type=Path, metavar="DIR", help="of the checkpoints (default: the temporary one)"
    )
    p.add_argument("--second", type=Path, default=Path("/dev/shm"), metavar="DIR", help="(%(default)s)")
    p.add_argument("--plugin", default="gatelab", choices=("gatelab", "lightning"), help="what writes")
    p.add_argument("--size", type=int, default=4 << 20, help="bytes of a state (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    p.add_argument("--limit", type=float, default=120.0, help="seconds of a run (default: %(default)g)")
    options = p.parse_args(arguments)
    torch.set_num_threads(1)  # a process with more than one thread must not fork
    began, parts, bad = time.monotonic(), [], []
    with contextlib.ExitStack() as stack:
        folders = [
            tempfile.TemporaryDirectory(prefix="chaos-", dir=d) for d in (options.first, options.second)
        ]
        one, other = (Path(stack.enter_context(folder)) for folder in folders)
        if one.stat().st_dev == other.stat().st_dev:
            raise SystemExit(f"--second {options.second}: the same file system as {one.parent}")
        if half := options.kills // 2:
            parts.append(kill_writer("one file system", one / "same", one / "temporary", half, options))
            rest = options.kills - half
            parts.append(kill_writer("two file systems", one / "two", other / "temporary", rest, options))
        if options.runs:
            parts.append(kill_runs(one, options.runs, options))
        show("", [row for row, _ in parts])
        bad = [text for _, texts in parts for text in texts]
        if options.full:
            with small_disk(one / "full") as mounted:
                wrong, message = fill(one / "full", mounted, options.full, random.Random(options.seed))
            how = "a file system of 16 MiB" if mounted else "RLIMIT_FSIZE (no right to mount)"
            print(
                f"full disk, {how}: {options.full} refused saves, {len(wrong)} wrong; the message:\n  {message}"
            )
            bad += wrong
    print("\n".join([*bad, f"{time.monotonic() - began:.0f} s"]))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
