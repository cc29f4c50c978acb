"""Show that Weights & Biases can neither delay, stop nor falsify a run: without a key, and with a network that is dead.

Starts small runs as a user would, and reads their `.wandb` files back. Prints a table; exit 1 if a line of it fails.
It needs no account and no network.
"""

from __future__ import annotations

import signal
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gatelab.run.record.directory import read_metrics
from gatelab.trackers.follow import STEP, Row, identity, key, to_row
from scripts.checks.wandb_files import Segment, segments
from scripts.harness import Command, environment, gatelab, parser, place

SMALL = ["experiment=quickstart_series", "model.hidden_size=8", "data.lookback=24", "test=false"]
SMALL += ["trainer.log_every_n_steps=1", "trainer.val_check_interval=10", "callbacks.progress=null"]
ALLOWED = 3.0
"""Seconds by which training may start later than with `logger=off`."""


def start(root: Path, *overrides: str, **variables: str) -> Command:
    """Begin a run below `root`, with no account but the one that the variables name."""
    clean = {k: v for k, v in environment().items() if not k.startswith("WANDB_")}
    clean |= {"NETRC": str(root / "none"), "WANDB_CONFIG_DIR": str(root / "none"), **variables}
    paths = [f"paths.root={root}", f"paths.cache={root.parent / 'cache'}"]
    return Command(gatelab("train", *SMALL, *overrides, *paths), root / "log", clean)


def wait_for_step(root: Path, run: Command, step: int) -> float:
    """Wait until `metrics.csv` has a row of that step; the seconds it took."""
    begun = time.perf_counter()

    def reached() -> bool:
        files = root.glob("runs/*/*/metrics.csv")
        return any(int(row["step"]) >= step for file in files for row in read_metrics(file))

    run.until(reached, 120)
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
        for name, (logger, variables) in cases.items():
            root = folder / f"{name.replace(' ', '-')}-{number}"
            process = start(root, f"logger={logger}", "trainer.max_steps=20", **variables)
            took[name].append(wait_for_step(root, process, 1))
            process.wait(120)
    medians = {name: statistics.median(values[1:]) for name, values in took.items()}
    for name in ("no key", "dead network"):
        more = medians[name] - medians["off"]
        text = f"{medians[name]:.2f} s to the first step, {more:+.2f} s beside logger=off"
        yield f"{name}, median of {rounds}", text, more < ALLOWED
        parts, logged, recorded = parts_of(folder / f"{name.replace(' ', '-')}-{rounds}")
        same = [*map(key, logged)] == [*map(key, recorded)] and [part.exit_code for part in parts] == [0]
        yield f"{name}, history", f"{len(logged)} rows read back, {len(recorded)} in metrics.csv", same


def killed(folder: Path) -> tuple[str, str, bool]:
    """`kill -9` in the middle, then the same command again."""
    root = folder / "killed"
    more = ["logger=wandb", "trainer.max_steps=60", "callbacks.checkpoints.every_n_steps=7"]
    process = start(root, *more)
    wait_for_step(root, process, 25)
    process.signal(signal.SIGKILL)
    process.wait(10)
    start(root, *more).wait(120)
    parts, logged, recorded = parts_of(root)
    ids = {part.run["run_id"] for part in parts}
    steps = {row[STEP] for row in logged}
    # a clock measures another speed the second time
    same = [*map(identity, logged)] == [*map(identity, recorded)]
    codes = [part.exit_code for part in parts]
    good = same and len(ids) == 1 and len(parts) == 2 and len(steps) == 60 and codes[-1] == 0
    text = f"{len(parts)} parts of {len(ids)} run, exit codes {codes}, {len(logged)} rows over {len(steps)} steps"
    return "kill -9 and resume", text, good


def crashed(folder: Path) -> tuple[str, str, bool]:
    """A loss that is not finite."""
    root = folder / "crashed"
    code = start(root, "logger=wandb", "trainer.max_steps=20", "optim.lr=1e30").wait(120)
    parts, _, _ = parts_of(root)
    part = parts[-1]
    text = f"exit {code}; in the file exit {part.exit_code}, outcome {part.summary.get('outcome')}"
    return "a run that crashes", text, code == 1 and part.exit_code == 1


def main() -> int:
    p = parser(__doc__)
    p.add_argument("--rounds", type=int, default=5, help="starts of each kind (default: %(default)s)")
    options = p.parse_args()
    good = True
    with place(None, "wandb-", memory=False) as folder, socket.create_server(("127.0.0.1", 0)) as silent:
        dead = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for lines in (starts(folder, options.rounds, dead), map(killed, [folder]), map(crashed, [folder])):
            for what, text, held in lines:
                print(f"{'ok  ' if held else 'FAIL'} {what:26} {text}", flush=True)
                good = good and held
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
