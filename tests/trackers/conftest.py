"""Run directories made by hand, trackers on them without a network, and servers that do not answer."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gatelab.run.loggers import MetricsCSV
from gatelab.trackers.wandb.tracker import WandbTracker

from .fake_wandb import FakeWandb

SETTINGS = {"id": "abcd1234", "name": "x/one-s0", "project": "gatelab", "entity": None, "group": "mine"}
SETTINGS |= {"job_type": "train", "tags": ["a"], "mode": "auto"}
CONFIG = {"task": {"monitor": "val/loss", "mode": "min"}, "callbacks": {}, "model": {"hidden_size": 8}}
CONFIG |= {"logger": {"wandb": {"_target_": "gatelab.trackers.wandb_logger", "group": "mine"}}}


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path_factory):
    """Neither the user's key nor the user's settings reach a test."""
    home = tmp_path_factory.mktemp("home")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(home))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class Parts:
    """A run directory whose parts are made one by one."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        attempt = {"environment": {"git": {"revision": "c0ffee"}}}
        record = {
            "tracker_id": SETTINGS["id"],
            "identity": {"hash8": "one", "seed": 0},
            "config": CONFIG,
            "attempts": [attempt],
        }
        (path / "run.json").write_text(json.dumps(record))
        (path / "metrics.csv").unlink(missing_ok=True)

    def start(self, **settings):
        tracker = WandbTracker(self.path, {**SETTINGS, **settings})
        tracker.log_graph(None)
        return tracker

    def log(self, steps, resume_step=None):
        """Rows as training writes them: a loss at each step, a validation at every fifth."""
        logger = MetricsCSV(self.path / "metrics.csv", resume_step)
        for step in steps:
            logger.log_metrics({"train/loss": 1 / (step + 3), "epoch": 0}, step)
            logger.save()
            if step % 5 == 4:
                logger.log_metrics({"val/loss": abs(step - 9) / 7, "epoch": 0}, step)
                logger.save()
        return logger

    def part(self, steps, outcome="done", resume_step=None, error=None, **settings):
        tracker = self.start(**settings)
        self.log(steps, resume_step)
        tracker.conclude(outcome, error)


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path / "run")


@pytest.fixture
def server(monkeypatch):
    """A server that speaks W&B's protocol, and a key for it."""
    fake = FakeWandb()
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_BASE_URL", fake.url)
    yield fake
    fake.stop()


@pytest.fixture
def silent_server():
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def answering():
    """Make a server that answers every request with a status and a JSON text."""
    started = []

    def start(status, text):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()
