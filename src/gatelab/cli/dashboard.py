"""Show studies and runs in the browser: the report, TensorBoard and optuna-dashboard where they have something to show.

The report goes into the study's folder, or for anything else to paths.root. The servers listen on this machine only,
each on a free port; the command waits, and Ctrl-C stops them all. optuna-dashboard opens a study's journal for reading
only: it can be left open while a sweep runs, and nothing that is clicked there changes what was recorded.

examples:
  gatelab dashboard                                    everything below .
  gatelab dashboard size                               the study below ./studies
  gatelab dashboard runs/etth1_gru --no-browser        prints the addresses only
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatelab.report.gather import Subject


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="PATH",
        help="studies, run directories or folders of them (default: all below paths.root, which is . by default)",
    )
    parser.add_argument("--no-browser", action="store_true", help="print the addresses, open nothing")


def run(options: argparse.Namespace) -> int:
    """Start, wait, stop."""
    from gatelab.report.dashboard.servers import Servers
    from gatelab.report.dashboard.show import start_all
    from gatelab.report.gather import gather
    from gatelab.report.page import write_page
    from gatelab.run.config.compose import compose

    overrides = [given for given in options.arguments if given.startswith("paths.")]
    root = compose(overrides).resolved()["paths"]["root"]
    paths = [given for given in options.arguments if not given.startswith("paths.")] or [root]
    subjects, notes = gather(paths, Path(root) / "studies")
    one = len(subjects) == 1 and subjects[0].kind == "study"
    folder = subjects[0].state.directory if one else Path(root).absolute()
    page = write_page(subjects, folder / "report.html", notes=notes)
    _say("report", page.as_uri())
    with tempfile.TemporaryDirectory(prefix="gatelab-") as scratch, Servers() as servers:
        for name, said in start_all(subjects, servers, Path(scratch)):
            _say(name, said)
        _leet(subjects)
        if not options.no_browser:
            for address in (page.as_uri(), *(server.address for server in servers.running)):
                webbrowser.open(address)
        if not servers.running:
            return 0
        print("Ctrl-C stops them", flush=True)
        for server in servers.wait():
            _say(server.name, f"has ended (exit code {server.process.returncode})")
    return 0


def _say(name: str, text: str) -> None:
    print(f"{name:12} {text}", flush=True)


def _leet(subjects: Sequence[Subject]) -> None:
    """Name the dashboard for a terminal where there is no other screen, or where W&B's files are here anyway."""
    from gatelab.report.dashboard.show import wandb_folders

    folders = wandb_folders(subjects)
    screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if folders:
        _say("terminal", f"wandb leet {folders[0]}   (no browser and no account needed)")
    elif not screen:
        _say("terminal", "no screen here? Runs with logger=wandb can be seen by `wandb leet RUN_DIR/wandb`")
