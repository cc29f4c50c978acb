"""A headless Chromium, spoken to through a pipe in the DevTools protocol. Needs nothing installed but the browser.

Every message is JSON and ends with a zero byte: commands have an `id`, events have none. The browser reads from its
file descriptor 3 and writes to 4, so no port is opened.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu-sandbox", "--hide-scrollbars",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--no-pings",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=http://127.0.0.1:9", "--allow-file-access-from-files",
)  # fmt: skip
"""No name can be resolved and every request goes to a proxy that is not there: the network is off."""
ANSWER_SECONDS = 60.0


class BrowserError(RuntimeError):
    """The browser did not start, did not answer, or refused a command."""


class Browser:
    """Use as a context manager; `version` is the browser's name."""

    def __init__(self, path: str | Path) -> None:
        self._profile = tempfile.mkdtemp(prefix="report-check-")
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        self._process = subprocess.Popen(
            [
                *("/bin/sh", "-c", f'exec "$0" "$@" 3<&{read} 4>&{write}', str(path)),
                *(*FLAGS, f"--user-data-dir={self._profile}", "about:blank"),
            ],
            pass_fds=(read, write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._number, self._buffer = 0, b""
        self.events: list[dict[str, Any]] = []
        self.version = ""

    def __enter__(self) -> Browser:
        self.version = str(self.send("Browser.getVersion")["product"])
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrowserError, OSError):
            self.send("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)
        shutil.rmtree(self._profile, ignore_errors=True)

    def page(self) -> str:
        """A new, empty page; its session."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        return str(self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Give a command and wait for its answer; events that come before it go to `events`."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        try:
            os.write(self._write, json.dumps(message).encode() + b"\0")
        except OSError as error:
            raise BrowserError(f"{method}: the browser has gone ({error})") from None
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            heard = self._next(until, method)
            if heard.get("id") == message["id"]:
                if "error" in heard:
                    raise BrowserError(f"{method}: {heard['error'].get('message')}")
                return dict(heard["result"])

    def wait_for(self, method: str, session: str) -> None:
        """Wait for an event of a session that has not been taken from `events` yet."""
        until = time.monotonic() + ANSWER_SECONDS
        while not any(e["method"] == method and e.get("sessionId") == session for e in self.events):
            self._next(until, method)

    def evaluate(self, session: str, script: str) -> Any:
        """The value of a script in the page; a promise is waited for."""
        answer = self.send(
            "Runtime.evaluate", session, expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(f"{script[:60]}: {answer['exceptionDetails'].get('text')}")
        return answer["result"].get("value")

    def _next(self, until: float, what: str) -> dict[str, Any]:
        """The next message; an event is kept, too."""
        while b"\0" not in self._buffer:
            left = until - time.monotonic()
            ready = left > 0 and select.select([self._read], [], [], left)[0]
            piece = os.read(self._read, 1 << 20) if ready else None
            if piece is None:
                raise BrowserError(f"{what}: no answer within {ANSWER_SECONDS:.0f} s")
            if not piece:
                raise BrowserError(f"{what}: the browser has ended")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        heard = dict(json.loads(line))
        if "method" in heard:
            self.events.append(heard)
        return heard
