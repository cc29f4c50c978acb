"""Train a recorded run again in a temporary place and compare every step's loss and every epoch's weights, bit for bit.

The run directory is only read. The recorded configuration, threads and environment variables are used; what differs
all the same (code, versions, processor, data) is named.

exit codes: 0 every bit is the same, 1 something differs, 2 something differs and so does the environment, or the
run cannot be made again here

examples:
  gatelab reproduce RUN_DIR
  gatelab reproduce RUN_DIR --steps 100
  gatelab reproduce RUN_DIR seed=1                 another seed must differ, at the first step
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gatelab.cli.common import add_run_dir, print_json
from gatelab.data.messages import counted

if TYPE_CHECKING:
    from gatelab.run.reproduce import Reproduction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_run_dir(parser)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="change a value, to see whether it matters"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="compare the first N training steps only")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new folder to keep the new run in")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 2 when the environment differs, even if no bit does"
    )


def run(options: argparse.Namespace) -> int:
    """Train again, compare, and say what came of it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gatelab.run.reproduce import reproduce

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("starting", total=None)
        found = reproduce(
            options.run_dir,
            options.overrides,
            steps=options.steps,
            keep=options.keep,
            strict=options.strict,
            trust=options.trust,
            on_step=lambda done, total: progress.update(
                bar, description="steps compared", completed=done, total=total
            ),
        )
    if options.json:
        print_json({**asdict(found), "exit_code": found.exit_code})
    else:
        _print(found)
    return found.exit_code


def _print(found: Reproduction) -> None:
    compared = f"{counted(found.steps, 'step')} and the weights after {counted(found.epochs, 'epoch')}"
    divergences = [one for one in (found.initial, found.first) if one is not None]
    if not divergences:
        print(f"the same: {compared}, bit for bit")
    for divergence in divergences:
        print(f"differs: {divergence.describe()}")
    if found.first is not None and found.initial is None:
        print(f"the same until there: {compared}")
    if found.overrides:
        print(f"changed on purpose: {' '.join(found.overrides)}")
    if found.environment:
        print("the environment differs (recorded -> now):")
        for difference in found.environment:
            print(f"  {difference}")
    elif divergences and not found.overrides:
        print("code, versions, processor, threads and data are the recorded ones")
    if found.kept:
        print(f"the new run is kept in {found.kept}")
