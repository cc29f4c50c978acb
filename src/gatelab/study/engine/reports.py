"""How a run tells its worker what validation gave, and hears whether to go on: a socket on this machine.

The worker alone talks to Optuna: it has the study open already, so a run neither reads a long journal nor needs
the password of a database. It answers one line with one line.

On Linux the socket has a name and no file, so a worker that is killed leaves nothing behind; anybody on the machine
could connect to it, and is heard only if it is the same user. Elsewhere it is a file in a folder of this user's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import socketserver
import struct
import sys
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
        self._folder: str | None = None
        if sys.platform.startswith("linux"):
            self.address = f"\0gatelab-{secrets.token_hex(16)}"
        else:  # a short path: it has at most 103 characters
            self._folder = tempfile.mkdtemp(prefix="gatelab-")
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

            def verify_request(self, request: Any, client_address: Any) -> bool:
                return is_mine(request)

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
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def is_mine(connection: socket.socket) -> bool:
    """Whether this user has opened the connection; True where the socket's folder sees to that."""
    if not sys.platform.startswith("linux"):
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return bool(user == os.getuid())


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
