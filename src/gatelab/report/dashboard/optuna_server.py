"""optuna-dashboard over one study, in a process of its own: `python -m gatelab.report.dashboard.optuna_server FOLDER`.

A journal is opened for reading only, so nothing that is clicked can change what was recorded or disturb a sweep that
runs. Says its address on stdout once it listens; it ends when its stdin closes.
"""

from __future__ import annotations

import os
import sys
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from gatelab.study.analysis.read import open_storage_to_read


class Threading(ThreadingMixIn, WSGIServer):
    """A browser asks for several things at once."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """Nobody reads a line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main(folder: str) -> None:
    """Serve the study in `folder` until stdin closes."""
    import optuna_dashboard

    storage = open_storage_to_read(folder)
    application = optuna_dashboard.wsgi(storage)
    server = make_server("127.0.0.1", 0, application, server_class=Threading, handler_class=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    while os.read(sys.stdin.fileno(), 4096):
        pass


if __name__ == "__main__":
    main(sys.argv[1])
