"""A worker whose trials take several nodes and its followers, one on each further node: how they find and hear them.

The worker leads. It writes its address to `<study>/nodes/<group>.json`, each follower connects, and from then on they
send JSON lines. The connection is the lifeline: when it breaks, the other end is gone. What they have each other do is
`spread.py` and `follower.py`; who starts the processes is the launcher's business.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatelab.run.record.directory import write_json
from gatelab.study.engine.liveness import machine

START_SECONDS = 600.0
"""How long the processes of one group may begin after each other."""
HELLO_SECONDS = 10.0
ALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A machine that has vanished says nothing: after 30 seconds without an answer the connection counts as broken."""


@dataclass(frozen=True)
class Place:
    """Which process of which worker this is.

    Attributes:
        group: one name for the processes of a worker, another one at each launch.
        index: of the worker, from 0.
        node, nodes: 0 leads; of how many.
    """

    group: str = ""
    index: int = 0
    node: int = 0
    nodes: int = 1

    def file(self, study: Path) -> Path:
        """Where the leader says how it is reached."""
        return study / "nodes" / f"{self.group}.json"


class Line:
    """One end of a connection: messages in both directions, from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in ALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._connection, self._lock = connection, threading.Lock()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send, if the other end is still there."""
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the other end sends, until it is gone; the connection is closed then."""
        try:
            with contextlib.suppress(OSError, ValueError), self._connection.makefile("rb") as lines:
                for line in lines:
                    yield json.loads(line)
        finally:
            self.close()

    def close(self) -> None:
        """Hang up; the other end's `messages` end."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class Leader:
    """The worker's side.

    Args:
        study: its folder.
        place: of the worker.

    Attributes:
        changed: notified whenever a follower came, left or said something.
    """

    def __init__(self, study: Path, place: Place) -> None:
        self.place, self.changed = place, threading.Condition()
        self._lines: dict[int, Line] = {}
        self._hosts: dict[int, tuple[str, str]] = {}
        self._left: set[int] = set()
        self._codes: dict[tuple[int, int], int] = {}
        self._until = time.monotonic() + START_SECONDS
        self._secret = secrets.token_hex(16)
        self._server = socket.create_server(("", 0), backlog=place.nodes)
        self._file = place.file(study)
        port = self._server.getsockname()[1]
        write_json(self._file, {"host": socket.gethostname(), "port": port, "secret": self._secret})
        self._file.chmod(0o600)
        threading.Thread(target=self._accept, name="followers", daemon=True).start()

    def whole(self) -> bool:
        """Whether every follower is there."""
        with self.changed:
            return len(self._lines) == self.place.nodes - 1 and not self._left

    def problem(self) -> str:
        """Why the group will not be whole any more; empty while it may."""
        with self.changed:
            if self._left:
                node = min(self._left)
                return f"node {node} ({self._hosts[node][0]}) has left, and a trial takes {self.place.nodes} nodes"
            missing = {*range(1, self.place.nodes)} - {*self._lines}
            if missing and time.monotonic() > self._until:
                return (
                    f"node {min(missing)} of {self.place.nodes} has not begun within {START_SECONDS:.0f} s: does the "
                    "launcher have so many at once?"
                )
        return ""

    def address(self) -> str:
        """How the nodes reach this one: by its name, or the loopback where all are on one machine."""
        with self.changed:
            here = all(seen == machine() for _, seen in self._hosts.values())
        return "127.0.0.1" if here else socket.gethostname()

    def host(self, node: int) -> str:
        """The name of a follower's machine."""
        return self._hosts[node][0]

    def send(self, message: Mapping[str, Any]) -> None:
        """Tell every follower."""
        with self.changed:
            lines = [*self._lines.values()]
        for line in lines:
            line.send(message)

    def ends(self, run: int) -> dict[int, int | None]:
        """The exit code of a run on each node where it has ended; None where the node itself is gone."""
        with self.changed:
            found: dict[int, int | None] = dict.fromkeys(self._left)
            return found | {node: code for (number, node), code in self._codes.items() if number == run}

    def close(self) -> None:
        """Send the followers home."""
        self._server.close()
        with self.changed:
            lines = [*self._lines.values()]
        for line in lines:
            line.close()
        self._file.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection: socket.socket) -> None:
        connection.settimeout(HELLO_SECONDS)
        line = Line(connection)
        messages = line.messages()
        hello = next(messages, {})
        node = int(hello.get("node", 0))
        with self.changed:
            expected = 0 < node < self.place.nodes and node not in self._lines
            known = expected and hello.get("secret") == self._secret
            if known:
                self._lines[node], self._hosts[node] = line, (hello["host"], hello["machine"])
            self.changed.notify_all()
        if not known:
            line.close()
            return
        for message in messages:
            with self.changed:
                self._codes[message["run"], node] = message["code"]
                self.changed.notify_all()
        with self.changed:
            self._left.add(node)
            self.changed.notify_all()


def call(study: Path, place: Place) -> Line | None:
    """The follower's side: connect to the leader; None while it is not to be reached."""
    try:
        found = json.loads(place.file(study).read_text())
        host = "127.0.0.1" if found["host"] == socket.gethostname() else found["host"]
        connection = socket.create_connection((host, found["port"]), HELLO_SECONDS)
    except (OSError, json.JSONDecodeError):
        return None
    line = Line(connection)
    line.send(
        {
            "secret": found["secret"],
            "node": place.node,
            "host": socket.gethostname(),
            "machine": machine(),
        }
    )
    return line


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as server:
        server.bind(("", 0))
        return int(server.getsockname()[1])
