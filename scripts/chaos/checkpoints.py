"""Kill a process that saves checkpoints, again and again, and fill its disk up: is one ever corrupt, or lost?

A writer saves states of some megabytes one after the other; it is killed (SIGKILL) at random moments, started again,
and killed again: half of the times with the system's temporary folder on the same file system as the checkpoints, half
on another one. Then a training run, with a validation after every fifth step and a checkpoint after every step, is
killed at random and started again until it is done, and compared bit for bit with an undisturbed one. Last, the disk
is full.

Corrupt: a checkpoint that cannot be read, or holds a mixture. Lost: a step whose save had returned, and that no
checkpoint holds any more; or a run that does not come out as the undisturbed one.

examples:
  python -m scripts.chaos.checkpoints                        200 kills of the writer, 40 of runs, 20 times a full disk
  python -m scripts.chaos.checkpoints --second /mnt/other    the other file system (default: in memory, /dev/shm)
  python -m scripts.chaos.checkpoints --plugin lightning --runs 0 --full 0     Lightning's own way, for comparison

Exit code 0 if nothing was corrupt or lost; else 1. Not for Windows.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from tqdm import tqdm

from gatelab.tasks import CheckpointError
from gatelab.tasks.checkpoint_io import find_latest_checkpoint
from scripts.chaos.full_disk import fill, small_disk
from scripts.chaos.writer import judge, strike
from scripts.compare import first_difference
from scripts.forked import ForkedRun, Kind, Request


class Tally:
    """What happened, a line for each part; `bad` says what went wrong."""

    def __init__(self) -> None:
        self.lines = [f"{'':34}{'killed':>8}{'in a save':>11}{'corrupt':>9}{'lost':>6}"]
        self.bad: list[str] = []

    def add(self, name: str, killed: int, inside: int, corrupt: list[str], lost: list[str]) -> None:
        """One part of the experiment."""
        self.lines.append(f"{name:34}{killed:8}{inside:11}{len(corrupt):9}{len(lost):6}")
        self.bad += [f"{name}: {text}" for text in (*corrupt, *lost)]


def kill_writer(name: str, places: tuple[Path, Path], kills: int, options: Namespace, tally: Tally) -> None:
    """Kill the writer `kills` times; after each, look at every file. `places`: checkpoints, temporary folder."""
    folder, temporary = places
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
    tally.add(name, kills, inside, corrupt, lost)


def kill_runs(root: Path, kills: int, options: Namespace, tally: Tally) -> None:
    """Kill training runs until there were enough kills; every one must come out as the undisturbed run."""
    rng, inside, corrupt, lost, done, validating = random.Random(options.seed), 0, [], [], 0, 0
    request = Request(
        Kind("text", 0, 1), root, ("callbacks.checkpoints.every_n_steps=1", "model.hidden_size=200")
    )
    whole = ForkedRun(request, root / "undisturbed")
    if whole.wait(options.limit) != [0]:
        raise SystemExit(f"the undisturbed run failed:\n{whole.tail()}")
    with tqdm(total=kills, desc="training runs", file=sys.stderr, disable=None) as bar:
        number = 0
        while done < kills:
            number, folder, killed = number + 1, root / f"run{number}", False
            mark = mark_validation(folder / "validating")
            checkpoints = request.directory(folder) / "checkpoints"
            while done < kills and (
                killed := _kill_one(ForkedRun(request, folder, mark), rng, options.limit)
            ):
                done, inside = done + 1, inside + any(checkpoints.glob(".*.tmp"))
                validating += (folder / "validating").exists()
                (folder / "validating").unlink(missing_ok=True)
                bar.update()
                try:
                    find_latest_checkpoint(checkpoints)
                except CheckpointError as error:
                    corrupt.append(str(error))
            if killed:
                ForkedRun(request, folder).wait(options.limit)
            if not (request.directory(folder) / "result.json").is_file():
                lost.append(f"{folder.name} could not be finished")
            elif difference := first_difference(
                request.directory(folder), request.directory(root / "undisturbed")
            ):
                lost.append(f"{folder.name} differs: {difference}")
    tally.add(f"{number} training runs", done, inside, corrupt, lost)
    tally.lines.append(f"({validating} of these kills fell into a validation)")


def mark_validation(path: Path) -> Any:
    """For `ForkedRun`: `path` is there while the run validates."""

    class Mark(pl.Callback):
        def on_validation_start(self, *args: Any) -> None:
            path.touch()

        def on_validation_end(self, *args: Any) -> None:
            path.unlink()

    return lambda rank: [Mark()]


def _kill_one(run: ForkedRun, rng: random.Random, limit: float) -> bool:
    """Kill a run at a random moment of its training; False if it was done before."""
    end, checkpoints = time.monotonic() + limit, run.run.last.parent
    seen = _stamp(checkpoints)
    while _stamp(checkpoints) == seen and run.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    wait = time.monotonic() + rng.uniform(0.0, 0.4)
    while time.monotonic() < wait and run.poll() is None:
        time.sleep(0.001)
    ended = run.poll()
    run.kill()
    return ended is None


def _stamp(folder: Path) -> list[tuple[str, int]]:
    return sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.ckpt"))


def fill_disk(folder: Path, options: Namespace, tally: Tally) -> None:
    """Save again and again where there is room for a part only."""
    with small_disk(folder) as mounted:
        wrong, message = fill(folder, mounted, options.full, random.Random(options.seed))
    how = "a file system of 16 MiB" if mounted else "RLIMIT_FSIZE (no right to mount)"
    tally.lines.append(
        f"full disk, {how}: {options.full} refused saves, {len(wrong)} wrong; the message:\n  {message}"
    )
    tally.bad += wrong


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kills", type=int, default=200, help="of the writer (default: %(default)s)")
    p.add_argument(
        "--runs", type=int, default=40, metavar="N", help="kills of training runs (default: %(default)s)"
    )
    p.add_argument(
        "--full", type=int, default=20, metavar="N", help="saves on a full disk (default: %(default)s)"
    )
    p.add_argument(
        "--first",
        type=Path,
        metavar="DIR",
        help="of the checkpoints (default: the temporary one)",
    )
    p.add_argument(
        "--second", type=Path, default=Path("/dev/shm"), metavar="DIR", help="(default: %(default)s)"
    )
    p.add_argument("--plugin", default="gatelab", choices=("gatelab", "lightning"), help="what writes")
    p.add_argument("--size", type=int, default=4 << 20, help="bytes of a state (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    p.add_argument(
        "--limit", type=float, default=120.0, help="seconds that a run may take (default: %(default)g)"
    )
    return p


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    torch.set_num_threads(1)  # a process with more than one thread must not fork
    tally, began = Tally(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", dir=options.first, ignore_cleanup_errors=True) as first,
        tempfile.TemporaryDirectory(
            prefix="chaos-", dir=options.second, ignore_cleanup_errors=True
        ) as second,
    ):
        one, other = Path(first), Path(second)
        if one.stat().st_dev == other.stat().st_dev:
            raise SystemExit(f"--second {options.second}: the same file system as {one.parent}")
        if half := options.kills // 2:
            rest = options.kills - half
            kill_writer("one file system", (one / "same", one / "temporary"), half, options, tally)
            kill_writer("two file systems", (one / "two", other / "temporary"), rest, options, tally)
        if options.runs:
            kill_runs(one, options.runs, options, tally)
        if options.full:
            fill_disk(one / "full", options, tally)
    print("\n".join([*tally.lines, *tally.bad, f"{time.monotonic() - began:.0f} s"]))
    return int(bool(tally.bad))


if __name__ == "__main__":
    sys.exit(main())
