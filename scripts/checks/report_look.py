"""What is looked at in an opened report: errors, requests, width and pictures, in each of four views."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.checks.browser import Browser


@dataclass(frozen=True)
class View:
    """One way to look at a page: a window's width in pixels, and the reader's colour scheme."""

    width: int
    scheme: str

    @property
    def name(self) -> str:
        """`390-dark`."""
        return f"{self.width}-{self.scheme}"

    @property
    def phone(self) -> bool:
        """Whether it has a touch screen."""
        return self.width < 600


VIEWS = tuple(View(width, scheme) for width in (360, 390, 1280) for scheme in ("light", "dark"))
MOST_HEIGHT = 16000  # pixels of a screenshot; the browser draws no higher ones
DRAWN = """
new Promise(resolve => {
  let left = 40;
  const look = () => {
    const plots = [...document.querySelectorAll('.plot')];
    const drawn = plots.filter(p => p.querySelector('.main-svg')).length;
    if (drawn === plots.length || --left === 0) {
      requestAnimationFrame(() => requestAnimationFrame(() => resolve({
        plots: plots.length, drawn,
        width: document.documentElement.scrollWidth, window: document.documentElement.clientWidth,
        height: document.documentElement.scrollHeight,
        paper: getComputedStyle(document.body).backgroundColor,
        wide: [...document.querySelectorAll('body *')]
          .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
          .filter(e => !e.closest('.box, .wide, pre'))
          .slice(0, 3).map(e => e.tagName + '.' + e.className),
      })));
    } else { setTimeout(look, 100); }
  };
  look();
})
"""


@dataclass
class Found:
    """What was seen, in words, and what is wrong."""

    said: str = ""
    problems: list[str] = field(default_factory=list)


def look(browser: Browser, page: Path, view: View, shots: Path | None) -> Found:
    """Open the page in one view."""
    browser.events.clear()
    session = browser.page()
    for domain in ("Page", "Runtime", "Log", "Network"):
        browser.send(f"{domain}.enable", session)
    browser.send(
        "Network.emulateNetworkConditions",
        session,
        offline=True,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )
    size = {"width": view.width, "height": 844 if view.phone else 900, "deviceScaleFactor": 1}
    browser.send("Emulation.setDeviceMetricsOverride", session, **size, mobile=view.phone)
    browser.send("Emulation.setTouchEmulationEnabled", session, enabled=view.phone)
    scheme = [{"name": "prefers-color-scheme", "value": view.scheme}]
    browser.send("Emulation.setEmulatedMedia", session, features=scheme)
    address = page.resolve().as_uri()
    browser.send("Page.navigate", session, url=address)
    browser.wait_for("Page.loadEventFired", session)
    seen = browser.evaluate(session, DRAWN)
    found = Found(f"{seen['drawn']} of {seen['plots']} pictures, {seen['width']} x {seen['height']} pixels")
    found.problems += [problem for event in browser.events if (problem := problem_of(event, address))]
    if seen["drawn"] < seen["plots"]:
        found.problems.append(f"{seen['plots'] - seen['drawn']} pictures were not drawn")
    if seen["width"] > seen["window"]:
        found.problems.append(f"the page is {seen['width']} pixels wide: {', '.join(seen['wide'])}")
    if shots is not None:
        _shoot(browser, session, seen, shots / f"{page.stem}-{view.name}.png")
    return found


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


def _shoot(browser: Browser, session: str, seen: dict[str, Any], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    clip = {"x": 0, "y": 0, "width": seen["window"], "height": min(seen["height"], MOST_HEIGHT), "scale": 1}
    shot = browser.send(
        "Page.captureScreenshot", session, format="png", captureBeyondViewport=True, clip=clip
    )
    target.write_bytes(base64.b64decode(shot["data"]))
