"""The process beside a run that uploads it to Weights & Biases: `python -m gatelab.trackers.wandb.daemon`.

It reads the settings from its standard input, follows `metrics.csv`, and reads from the next line how the run ended;
an end without that line is a run that was killed. Rows that an earlier part has logged are left out, and rows that it
lost are logged now, so all parts together hold what `metrics.csv` holds. Online the server says what was logged,
offline `logged.jsonl`. Messages for the terminal go to standard output, tracebacks to `wandb/tracker.log`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from gatelab.run.record.secrets import MaskedStream
from gatelab.trackers.wandb.session import (
    PATIENT_SECONDS,
    SECONDS,
    Session,
    asked_to_stop,
    connect,
    history,
    logged_parts,
)
from gatelab.trackers.wandb.sync import mark_if_complete, upload_lock

EVERY = 0.5
"""Seconds between two reads of `metrics.csv`."""
LINGER = 600.0
"""Seconds after the run's end for the last upload; `gatelab sync` sends what was not sent by then."""
KILLED = {"outcome": "killed", "error": "the process was killed", "pictures": []}


class Ending(threading.Thread):
    """Wait for how the run ended; end this process `LINGER` seconds later, whatever a server does."""

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
        shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)  # this process's own folder
        os._exit(1)


def main() -> None:
    """Follow a run until its end."""
    settings = json.loads(sys.stdin.readline())
    run_dir = Path(settings.pop("run_dir"))
    os.nice(5)  # training goes first
    sys.stderr = MaskedStream(sys.stderr)  # wandb/tracker.log
    # wandb removes its temporary files when a process ends by itself, and this one does not
    with tempfile.TemporaryDirectory(prefix="gatelab-wandb-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        ending = Ending()
        ending.start()
        try:
            with upload_lock(run_dir):
                follow(run_dir, settings, ending)
        except Exception as error:
            traceback.print_exc()
            tell(f"failed ({error}); metrics.csv goes on, and wandb/tracker.log has the details")
    sys.stderr.flush()
    os._exit(0)  # wandb would still try for ten seconds to send reports about itself


def follow(run_dir: Path, settings: dict[str, Any], ending: Ending) -> None:
    """Log rows as they come until the run has ended, then how it ended."""
    session, online = begin(run_dir, settings)
    while not ending.come.wait(EVERY):
        session.log_new_rows()
    session.log_new_rows()
    message = ending.message
    if (
        online
        and message["outcome"] == "interrupted"
        and (session.stop.is_set() or asked_to_stop(*session.where))
    ):
        message["outcome"] = "stopped"  # nobody will continue it; as preempted it would be queued again
    session.finish(**message)
    if online:
        mark_if_complete(run_dir, *session.where)


def begin(run_dir: Path, settings: dict[str, Any]) -> tuple[Session, bool]:
    """Start a part of the run: online (True) if that is asked for or possible, else offline."""
    earlier = [row for part in logged_parts(run_dir, settings["id"]) for row in part.rows]
    why = ""
    if settings["mode"] != "offline":
        try:
            connect(SECONDS if settings["mode"] == "auto" else PATIENT_SECONDS)
            session = Session(run_dir, settings, "online")
        except Exception as error:
            traceback.print_exc()
            why = f" ({str(error).strip().splitlines()[0]})"
        else:
            tell(f"online, {session.run.url}")
            session.leave_out(history(*session.where) if earlier else ())
            return session, True
    tell(f"offline{why}; `gatelab sync {run_dir}` sends it later")
    session = Session(run_dir, settings, "offline")
    session.leave_out(earlier)
    return session, False


def tell(text: str) -> None:
    """Print a line for the terminal, if the run is still there to pass it on."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


if __name__ == "__main__":
    main()
