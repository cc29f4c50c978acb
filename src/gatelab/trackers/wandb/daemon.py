"""The process beside a run that gives it to Weights & Biases: `python -m gatelab.trackers.wandb.daemon`.

It is told the settings on its standard input, follows `metrics.csv`, and on the next line is told how the run
ended; an end without that line is a run that was killed. Rows that an earlier part of the run has logged are left
out and rows that it lost are logged now, so all parts together hold what `metrics.csv` holds. What counts as logged
is what the server has, or offline what the local files hold. Remarks for the person at the terminal go to its
standard output, tracebacks to `wandb/tracker.log`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gatelab.trackers.wandb.local_files import read_segment, segment_files
from gatelab.trackers.wandb.server import asked_to_stop, history, why_offline
from gatelab.trackers.wandb.session import Part
from gatelab.trackers.wandb.sync_state import alone, note_if_complete

EVERY = 0.5
"""Seconds between two looks at `metrics.csv`."""
LINGER = 600.0
"""Seconds after the run's end for the last upload; what is not sent then is sent by `gatelab sync`."""
KILLED = {"outcome": "killed", "error": "the process ended without a word", "pictures": []}


class Ending(threading.Thread):
    """Waits for how the run ended, and sees to it that this process ends too."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.message: dict[str, Any] = dict(KILLED)
        self.come = threading.Event()

    def run(self) -> None:
        """Read the last line, then allow the upload its time."""
        with contextlib.suppress(ValueError, OSError):
            self.message = json.loads(sys.stdin.readline())
        self.come.set()
        time.sleep(LINGER)
        shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)  # our own
        os._exit(1)


def begin(run_dir: Path, settings: dict[str, Any]) -> Part:
    """Start a part of the run: online if it is asked for or possible, else offline."""
    # the server is asked while wandb is imported
    asking = ThreadPoolExecutor().submit(why_offline) if settings["mode"] == "auto" else None
    earlier = [row for file in segment_files(run_dir, settings["id"]) for row in read_segment(file).rows]
    why = asking.result() if asking is not None else None
    if settings["mode"] != "offline" and why is None:
        try:
            part = Part(run_dir, settings, "online")
        except Exception as error:
            traceback.print_exc()
            why = str(error).strip().splitlines()[0]
        else:
            remark(f"online, {part.run.url}")
            if earlier:
                part.leave_out(history(part.run.entity, part.run.project, part.run.id))
            return part
    remark(f"offline{f' ({why})' if why else ''}; `gatelab sync {run_dir}` sends it later")
    part = Part(run_dir, settings, "offline")
    part.leave_out(earlier)
    return part


def remark(text: str) -> None:
    """Tell the person at the terminal, if the run is still there."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def main() -> None:
    """Follow a run until its end."""
    settings = json.loads(sys.stdin.readline())
    run_dir = Path(settings.pop("run_dir"))
    os.nice(5)  # training goes first
    stop = threading.Event()
    signal.signal(
        signal.SIGINT, lambda *_: stop.set()
    )  # so wandb tells that somebody asks at the server to stop
    with own_temporaries():
        ending = Ending()
        ending.start()
        try:
            with alone(run_dir):
                follow(run_dir, settings, ending, stop)
        except Exception as error:
            traceback.print_exc()
            remark(f"failed ({error}); metrics.csv goes on, and wandb/tracker.log has the details")
    sys.stderr.flush()
    os._exit(0)  # wandb would still try for ten seconds to send reports about itself


def follow(run_dir: Path, settings: dict[str, Any], ending: Ending, stop: threading.Event) -> None:
    """Pass on what comes until the run has ended, then how it ended."""
    part = begin(run_dir, settings)
    while not ending.come.wait(EVERY):
        part.pass_on()
    part.pass_on()
    message, where = ending.message, (part.run.entity, part.run.project, part.run.id)
    interrupted = message["outcome"] == "interrupted" and not part.run.offline
    if interrupted and (stop.is_set() or asked_to_stop(*where)):
        message["outcome"] = "stopped"  # nobody will continue it; as preempted it would be queued again
    part.conclude(**message)
    if not part.run.offline:
        note_if_complete(run_dir, *where)


@contextlib.contextmanager
def own_temporaries() -> Iterator[None]:
    """A folder for wandb's temporary files: wandb removes them when a process ends by itself, and this one does not."""
    folder = tempfile.mkdtemp(prefix="gatelab-wandb-")
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
