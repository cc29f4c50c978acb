"""Show studies and runs in the browser: the report, TensorBoard and optuna-dashboard where they have something to show.

The report goes into the study's folder, or for anything else to paths.root. The servers listen on this machine only,
each on a free port; the command waits, and Ctrl-C stops them all. optuna-dashboard is for reading only: it can be left
open while a sweep runs, and nothing that is clicked there changes what was recorded.

examples:
  gatelab dashboard                                    everything below .
  gatelab dashboard size                               the study below ./studies
  gatelab dashboard runs/etth1_gru --no-browser        prints the addresses only
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gatelab.cli.common import split_root

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
    parser.add_argument(
        "--trust", action="store_true", help="run code and open storages that the runs and studies name"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the addresses, open nothing")


def run(options: argparse.Namespace) -> int:
    """Start, wait, stop."""
    from gatelab.report.dashboard import start_servers
    from gatelab.report.gather import gather
    from gatelab.report.page import write_page

    paths, root = split_root(options.arguments)
    subjects, notes = gather(paths or [root], root / "studies", trust=options.trust)
    one = len(subjects) == 1 and subjects[0].kind == "study"
    folder = subjects[0].state.directory if one else root.absolute()
    page = write_page(subjects, folder / "report.html", notes=notes, trust=options.trust)
    _print("report", page.as_uri())
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="gatelab-") as scratch:
        started = [page.as_uri()]
        for name, answer in start_servers(subjects, Path(scratch), trust=options.trust):
            _print(name, answer)
            started += [answer] * answer.startswith("http")
        _print_leet(subjects)
        if not options.no_browser:
            for address in started:
                webbrowser.open(address)
        if len(started) > 1:
            print("Ctrl-C stops them", flush=True)
            while not stop.wait(0.5):  # a wait without an end would not notice the signal
                pass
    return 0


def _print(name: str, text: str) -> None:
    print(f"{name:12} {text}", flush=True)


def _print_leet(subjects: Sequence[Subject]) -> None:
    """Name the dashboard for a terminal where there is no other screen, or where W&B's files are here anyway."""
    runs = (run.directory for s in subjects for trial in s.state.trials for run in trial.runs)
    folder = next((run / "wandb" for run in runs if next((run / "wandb").glob("*run-*"), None)), None)
    screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if folder:
        _print("terminal", f"wandb leet {folder}   (no browser and no account needed)")
    elif not screen:
        _print("terminal", "no screen here? Runs with logger=wandb can be seen by `wandb leet RUN_DIR/wandb`")
