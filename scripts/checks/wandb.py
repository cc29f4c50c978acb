"""Show that Weights & Biases can neither delay, stop nor falsify a run: without a key, and with a network that is dead.

Starts small runs as a user would, and reads their `.wandb` files back. Prints a table; exit 1 if a line of it fails.
It needs no account and no network.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gatelab.run.record.metrics import read_metrics
from gatelab.trackers.follow import STEP, Row, identity, key, to_row
from scripts.checks.wandb_files import Segment, segments

SMALL = ["experiment=quickstart_series", "model.hidden_size=8", "data.lookback=24", "test=false"]
SMALL += ["trainer.log_every_n_steps=1", "trainer.val_check_interval=10", "callbacks.progress=null"]
ALLOWED = 3.0
"""Seconds by which training may start later than with `logger=off`."""


def start(root: Path, *overrides: str, **environment: str) -> subprocess.Popen[bytes]:
    """Begin a run below `root`, with no account but the one that `environment` names."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    clean |= {"NETRC": str(root / "none"), "WANDB_CONFIG_DIR": str(root / "none"), **environment}
    command = [sys.executable, "-m", "gatelab", "train", *SMALL, *overrides, f"paths.root={root}"]
    command += [f"paths.cache={root.parent / 'cache'}"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=clean)


def wait_for_step(root: Path, process: subprocess.Popen[bytes], step: int) -> float:
    """Wait until `metrics.csv` has a row of that step; the seconds it took."""
    begun = time.perf_counter()
    while process.poll() is None:
        for file in root.glob("runs/*/*/metrics.csv"):
            if any(int(row["step"]) >= step for row in read_metrics(file)):
                return time.perf_counter() - begun
        time.sleep(0.005)
    return time.perf_counter() - begun


def parts_of(root: Path) -> tuple[list[Segment], list[Row], list[Row]]:
    """The parts of the one run below `root`, what they logged, and what `metrics.csv` holds."""
    (run,) = root.glob("runs/*/*-s0")
    parts = segments(run)
    logged = [row for part in parts for row in part.rows]
    return parts, logged, [to_row(row) for row in read_metrics(run / "metrics.csv")]


def starts(folder: Path, rounds: int, dead: str) -> Iterator[tuple[str, str, bool]]:
    """Seconds to the first training step, interleaved, without a key and with a dead network."""
    cases = {"off": ("off", {}), "no key": ("wandb", {})}
    cases["dead network"] = ("wandb", {"WANDB_API_KEY": "0123456789" * 4, "WANDB_BASE_URL": dead})
    took: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):  # the first round fills caches
        for name, (logger, environment) in cases.items():
            root = folder / f"{name.replace(' ', '-')}-{number}"
            process = start(root, f"logger={logger}", "trainer.max_steps=20", **environment)
            took[name].append(wait_for_step(root, process, 1))
            process.wait()
    medians = {name: statistics.median(values[1:]) for name, values in took.items()}
    for name in ("no key", "dead network"):
        more = medians[name] - medians["off"]
        text = (
            f"{medians[name]:.2f} s to the first step, {medians['off']:.2f} s with logger=off: {more:+.2f} s"
        )
        yield f"{name}, median of {rounds}", text, more < ALLOWED
        parts, logged, recorded = parts_of(folder / f"{name.replace(' ', '-')}-{rounds}")
        same = [*map(key, logged)] == [*map(key, recorded)] and [part.exit_code for part in parts] == [0]
        yield f"{name}, history", f"{len(logged)} rows read back, {len(recorded)} in metrics.csv", same


def killed(folder: Path) -> tuple[str, str, bool]:
    """`kill -9` in the middle, then the same command again."""
    root, more = (
        folder / "killed",
        ["logger=wandb", "trainer.max_steps=60", "callbacks.checkpoints.every_n_steps=7"],
    )
    process = start(root, *more)
    wait_for_step(root, process, 25)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    start(root, *more).wait()
    parts, logged, recorded = parts_of(root)
    ids = {part.run["run_id"] for part in parts}
    steps = {row[STEP] for row in logged}
    same = [*map(identity, logged)] == [
        *map(identity, recorded)
    ]  # a clock measures another speed the second time
    codes = [part.exit_code for part in parts]
    good = same and len(ids) == 1 and len(parts) == 2 and len(steps) == 60 and codes[-1] == 0
    text = f"{len(parts)} parts of {len(ids)} run, exit codes {codes}, {len(logged)} rows over {len(steps)} steps"
    return "kill -9 and resume", text, good


def crashed(folder: Path) -> tuple[str, str, bool]:
    """A loss that is not finite."""
    root = folder / "crashed"
    code = start(root, "logger=wandb", "trainer.max_steps=20", "optim.lr=1e30").wait()
    parts, _, _ = parts_of(root)
    part = parts[-1]
    text = f"exit {code}; in the file exit {part.exit_code}, outcome {part.summary.get('outcome')}"
    return "a run that crashes", text, code == 1 and part.exit_code == 1


def main() -> int:
    """Run the checks and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as silent:
        folder, dead = Path(name), f"http://127.0.0.1:{silent.getsockname()[1]}"
        for check in (
            lambda: starts(folder, options.rounds, dead),
            lambda: [killed(folder)],
            lambda: [crashed(folder)],
        ):
            for what, text, held in check():
                print(f"{'ok  ' if held else 'FAIL'} {what:26} {text}", flush=True)
                good = good and held
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
