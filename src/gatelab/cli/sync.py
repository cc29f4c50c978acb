"""Send runs that were tracked offline to Weights & Biases; what the server has already is not sent again."""

from __future__ import annotations

import argparse
from pathlib import Path

from gatelab.cli.common import add_json, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="runs (directories or unique beginnings), or folders that hold them (default: runs)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would be sent; needs no network")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Send, or list, what is pending."""
    from gatelab.data.messages import say
    from gatelab.run.record.find import default_runs
    from gatelab.trackers.wandb.sync import find_pending, sync

    pending = find_pending(options.paths or [default_runs()])
    if options.dry_run or not pending:
        return _list(options, pending)
    told = []
    for number, (one, text, complete) in enumerate(sync(pending), 1):
        say(f"{number}/{len(pending)} {one.path}: {text}")
        told.append({"run_dir": str(one.path), "complete": complete, "text": text})
    if options.json:
        print_json(told)
    return 0 if all(one["complete"] for one in told) else 1


def _list(options: argparse.Namespace, pending: list) -> int:
    if options.json:
        print_json([{**vars(one), "path": str(one.path)} for one in pending])
        return 0
    for one in pending:
        print(f"{one.path}: {one.state}, {one.rows} rows, {one.parts} part{'s' * (one.parts != 1)}")
    print(f"{len(pending)} to send" if pending else "nothing to send")
    return 0
