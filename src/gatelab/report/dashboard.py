"""TensorBoard and optuna-dashboard for some studies and runs, as servers in threads of this process.

They listen on the loopback, each on a free port, and end with the process. Requests for another host than this one are
refused, so that no page of the web can reach them through the browser. optuna-dashboard is for reading only, whatever
the storage: it answers GET and HEAD, and nothing else.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from gatelab.report.gather import Subject
from gatelab.study.analysis.read import open_storage_to_read
from gatelab.study.analysis.state import Run, Trial, show

EXTRA = "pip install 'gatelab[dashboard]'"
READ = ("GET", "HEAD")
LOCAL = ("127.0.0.1", "localhost", "::1")
Application = Callable[[dict[str, Any], Callable[..., Any]], Any]


class _Server(ThreadingMixIn, WSGIServer):
    """A server that answers several requests at once, as a browser sends them."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing for a request."""


def guarded(application: Application, methods: Sequence[str] | None = None) -> Application:
    """A WSGI application that refuses other hosts' names (403) and, if `methods` are given, other methods (405)."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        host = None
        with contextlib.suppress(ValueError):
            host = urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname
        if host in LOCAL and (methods is None or environ["REQUEST_METHOD"] in methods):
            return application(environ, start_response)
        refused = "405 Method Not Allowed" if host in LOCAL else "403 Forbidden"
        start_response(refused, [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return [b""]

    return answer


def start_servers(
    subjects: Sequence[Subject], scratch: Path, *, trust: bool = False
) -> Iterator[tuple[str, str]]:
    """Start what can be started; yield a name and its address, or why it was not started.

    Args:
        subjects: what is to be shown.
        scratch: an empty folder that stays until the process ends.
        trust: open storages that are named in studies.
    """
    yield "tensorboard", _tensorboard(subjects, scratch)
    studies = [subject.state for subject in subjects if subject.kind == "study"]
    if not studies:
        yield "optuna", "not started: no study among these paths"
    for state in studies:
        yield f"optuna {state.name}", _optuna(state.directory, trust=trust)


def _optuna(study: Path, *, trust: bool) -> str:
    if importlib.util.find_spec("optuna_dashboard") is None:
        return f"not started: {EXTRA}"
    import optuna_dashboard

    application = guarded(optuna_dashboard.wsgi(open_storage_to_read(study, trust=trust)), READ)
    server = make_server("127.0.0.1", 0, application, server_class=_Server, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


def _tensorboard(subjects: Sequence[Subject], scratch: Path) -> str:
    if importlib.util.find_spec("tensorboard") is None:
        return f"not started: {EXTRA}"
    if not link_events(subjects, scratch):
        return "not started: no run here wrote event files (logger=tensorboard does)"
    from tensorboard import program

    class Local(program.WerkzeugServer):  # it reads several series at once by POST
        def __init__(self, application: Application, flags: Any) -> None:
            super().__init__(guarded(application, (*READ, "POST")), flags)

    board = program.TensorBoard(server_class=Local)
    board.configure(argv=["", "--logdir", str(scratch), "--host", "127.0.0.1", "--port", "0"])
    return str(board.launch())


def link_events(subjects: Sequence[Subject], scratch: Path) -> int:
    """Link the runs' event files below `scratch` under names that say what was tried; return how many there are."""
    count = 0
    for subject in subjects:
        name = subject.state.name.replace("/", "_").lstrip(".") or "study"
        # a second one of this name gets a number
        free = (scratch / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1))
        folder = next(folder for folder in free if not folder.exists())
        for trial in subject.state.trials:
            for run in trial.runs:
                events = run.directory / "tensorboard"
                if next(events.glob("*tfevents*"), None):
                    link = folder / _label(trial, run)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(events.absolute(), target_is_directory=True)
                    count += 1
    return count


def _label(trial: Trial, run: Run) -> str:
    """`0003 model=gru hidden_size=64/s0`."""
    params = (f"{key.rpartition('.')[2]}={show(value)}" for key, value in trial.params.items())
    point = " ".join([f"{trial.number:04d}", *params]).replace("/", "_")
    fold = "" if run.fold is None else f"f{run.fold}-"
    return f"{point}/{fold}s{run.seed}"
