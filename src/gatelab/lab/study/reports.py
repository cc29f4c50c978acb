"""How a run tells its worker what validation gave, and hears whether to go on: a socket on this machine.

The worker alone talks to Optuna: it has the study open already, so a run neither reads a long journal nor needs
the password of a database. It answers one line with one line.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 120.0
"""How long a run waits for an answer; a storage on a network may take its time."""


class Reports:
    """The worker's side: answers the runs that have been admitted.

    Attributes:
        address: of the socket, for the runs' requests.
    """

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(
            prefix="gatelab-"
        )  # short: a socket's path has at most 107 characters
        self.address = str(Path(self._folder) / "reports")
        self._judges: dict[str, Callable[[int, float], bool]] = {}
        judges = self._judges

        class Handler(socketserver.StreamRequestHandler):
            timeout = 10.0

            def handle(self) -> None:
                line = self.rfile.readline()
                with contextlib.suppress(OSError):
                    self.wfile.write(json.dumps(answer(judges, line)).encode() + b"\n")

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self._server = Server(self.address, Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="reports", daemon=True).start()

    def admit(self, run: str, judge: Callable[[int, float], bool]) -> None:
        """Take reports of `run` from now on; `judge(step, value)` says whether it is to be pruned."""
        self._judges[run] = judge

    def dismiss(self, run: str) -> None:
        """Take no more reports of `run`."""
        self._judges.pop(run, None)

    def close(self) -> None:
        """Close the socket."""
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder, ignore_errors=True)


def answer(judges: dict[str, Callable[[int, float], bool]], line: bytes) -> dict[str, Any]:
    """The answer to one report: `{"prune": ...}`, or `{"error": ...}`."""
    try:
        report = json.loads(line)
        return {"prune": bool(judges[report["run"]](int(report["step"]), float(report["value"])))}
    except Exception as error:  # whatever it is, the run must hear of it and go on
        return {"error": f"{type(error).__name__}: {error}"}


def send_report(address: str, run: str, step: int, value: float) -> bool:
    """The run's side: report the `step`-th validation (from 0); whether the run is to be pruned.

    Raises:
        OSError: the worker does not answer.
        RuntimeError: it could not judge; the text says why.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(address)
        connection.sendall(json.dumps({"run": run, "step": step, "value": value}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            heard = json.loads(lines.readline() or b'{"error": "no answer"}')
    if "error" in heard:
        raise RuntimeError(heard["error"])
    return bool(heard["prune"])
