"""Open a report in a headless Chromium with the network off, on two phones and a desk, in light and dark.

It fails on an error in the console, a request for anything but the page itself, a page wider than its window, or a
picture that was not drawn, and writes a screenshot of each view. Any Chromium or Chrome will do; without one it says so
and exits with 0, or with --need with 1.

examples:
  gatelab report experiments/002-hidden-size --output report.html
  python -m scripts.checks.report report.html --browser /usr/bin/chromium --shots shots
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from scripts.harness import parser

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu-sandbox", "--hide-scrollbars",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--no-pings",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=http://127.0.0.1:9", "--allow-file-access-from-files",
)  # fmt: skip
"""No name can be resolved and every request goes to a proxy that is not there: the network is off."""
ANSWER_SECONDS = 60.0
WIDTHS, SCHEMES = (360, 390, 1280), ("light", "dark")
MOST_HEIGHT = 16000  # pixels of a screenshot; the browser draws no higher ones
DRAWN = """
new Promise(resolve => {
  const page = document.documentElement;
  const look = left => {
    const plots = [...document.querySelectorAll('.plot')];
    const drawn = plots.filter(p => p.querySelector('.main-svg')).length;
    if (drawn < plots.length && left > 0) return setTimeout(look, 100, left - 1);
    const seen = {plots: plots.length, drawn, width: page.scrollWidth, window: page.clientWidth};
    requestAnimationFrame(() => requestAnimationFrame(() => resolve({...seen, height: page.scrollHeight})));
  };
  look(40);
})
"""


class Browser:
    """A headless Chromium, spoken to in the DevTools protocol through its file descriptors 3 and 4: no port is opened.

    Every message is JSON and ends with a zero byte: commands have an `id`; what has none is kept in `events`.
    """

    def __init__(self, path: str | Path) -> None:
        self._profile = tempfile.mkdtemp(prefix="report-check-")
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        shell = ["/bin/sh", "-c", f'exec "$0" "$@" 3<&{read} 4>&{write}', str(path), *FLAGS]
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        arguments = [*shell, f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(arguments, pass_fds=(read, write), **quiet)  # type: ignore[call-overload]
        os.close(read)
        os.close(write)
        self._number, self._buffer = 0, b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        os.close(self._read)
        os.close(self._write)
        shutil.rmtree(self._profile, ignore_errors=True)

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        try:
            os.write(self._write, json.dumps(message).encode() + b"\0")
        except OSError as error:
            raise RuntimeError(f"{method}: the browser has gone ({error})") from None
        heard = self._hear(method, lambda heard: heard.get("id") == message["id"])
        if "error" in heard:
            raise RuntimeError(f"{method}: {heard['error'].get('message')}")
        return dict(heard["result"])

    def _hear(self, what: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message that is wanted; events are kept."""
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            while b"\0" not in self._buffer:
                left = until - time.monotonic()
                if left <= 0 or not select.select([self._read], [], [], left)[0]:
                    raise RuntimeError(f"{what}: no answer within {ANSWER_SECONDS:.0f} s")
                if not (piece := os.read(self._read, 1 << 20)):
                    raise RuntimeError(f"{what}: the browser has ended")
                self._buffer += piece
            line, _, self._buffer = self._buffer.partition(b"\0")
            heard = dict(json.loads(line))
            if "method" in heard:
                self.events.append(heard)
            if wanted(heard):
                return heard

    def loaded(self) -> None:
        """Wait until the page has loaded."""
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._hear("load", lambda heard: heard.get("method") == "Page.loadEventFired")


def look(browser: Browser, page: Path, width: int, scheme: str, shots: Path | None) -> tuple[str, list[str]]:
    """Open the page in a window of that width in that colour scheme; what was seen, and what is wrong."""
    browser.events.clear()
    target = browser.send("Target.createTarget", url="about:blank")["targetId"]
    session = str(browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def send(method: str, **params: Any) -> dict[str, Any]:
        return browser.send(method, session, **params)

    for domain in ("Page", "Runtime", "Log", "Network"):
        send(f"{domain}.enable")
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    send("Network.emulateNetworkConditions", **offline)
    phone, address = width < 600, page.resolve().as_uri()
    size = {"width": width, "height": 844 if phone else 900, "deviceScaleFactor": 1, "mobile": phone}
    send("Emulation.setDeviceMetricsOverride", **size)
    send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    send("Page.navigate", url=address)
    browser.loaded()
    answer = send("Runtime.evaluate", expression=DRAWN, returnByValue=True, awaitPromise=True)
    if "exceptionDetails" in answer:
        raise RuntimeError(f"{page}: {answer['exceptionDetails'].get('text')}")
    seen = answer["result"]["value"]
    problems = [problem for event in browser.events if (problem := problem_of(event, address))]
    if seen["drawn"] < seen["plots"]:
        problems.append(f"{seen['plots'] - seen['drawn']} pictures were not drawn")
    if seen["width"] > seen["window"]:
        problems.append(f"the page is {seen['width']} pixels wide")
    if shots is not None:
        shots.mkdir(parents=True, exist_ok=True)
        clip = {
            "x": 0,
            "y": 0,
            "width": seen["window"],
            "height": min(seen["height"], MOST_HEIGHT),
            "scale": 1,
        }
        shot = send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        (shots / f"{page.stem}-{width}-{scheme}.png").write_bytes(base64.b64decode(shot["data"]))
    return f"{seen['drawn']} of {seen['plots']} pictures, {seen['width']} x {seen['height']} pixels", problems


def problem_of(event: dict[str, Any], address: str) -> str | None:
    """What an event says that must not be; None for all others."""
    method, params = event["method"], event["params"]
    if method == "Runtime.exceptionThrown":
        return f"exception: {params['exceptionDetails'].get('exception', {}).get('description', '')[:300]}"
    if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
        return f"console: {' '.join(str(a.get('value', a.get('description'))) for a in params['args'])[:300]}"
    if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
        return f"log: {params['entry']['text'][:300]}"
    if method == "Network.loadingFailed":
        return f"a request failed: {params.get('errorText')}"
    if method == "Network.requestWillBeSent":
        url = str(params["request"]["url"])
        if url != address and not url.startswith(("data:", "blob:")):
            return f"a request: {url[:200]}"
    return None


def main() -> int:
    p = parser(__doc__)
    p.add_argument("page", type=Path, metavar="PAGE", help="the HTML file")
    p.add_argument("--browser", metavar="PATH", help=f"default: the first of {', '.join(NAMES)} in PATH")
    p.add_argument("--shots", type=Path, metavar="DIR", help="where the screenshots go (default: none)")
    p.add_argument("--need", action="store_true", help="fail where there is no browser")
    given = p.parse_args()
    if not given.page.is_file():
        p.error(f"{given.page}: no such file")
    path = given.browser or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None or not Path(path).is_file():
        print(f"skipped: no browser {given.browser or 'among ' + ', '.join(NAMES)}; give --browser PATH")
        return int(given.need)
    wrong = 0
    try:
        with Browser(path) as browser:
            print(browser.send("Browser.getVersion")["product"])
            for width, scheme in product(WIDTHS, SCHEMES):
                said, problems = look(browser, given.page, width, scheme, given.shots)
                wrong += len(problems)
                print(f"{'FAILED' if problems else 'ok    '} {width}-{scheme:10} {said}")
                for problem in problems:
                    print(f"       {problem}")
    except RuntimeError as error:
        print(f"FAILED {path}: {error}")
        return 1
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
