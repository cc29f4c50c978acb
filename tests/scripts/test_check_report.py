"""`scripts/checks/report.py` finds what must not be in a report, and says so where there is no browser to look with."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.checks.report import problem_of

ROOT = Path(__file__).resolve().parents[2]


PAGE = "file:///report.html"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
BROWSER = os.environ.get("GATELAB_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


def check(page, *arguments):
    command = [sys.executable, "-m", "scripts.checks.report", str(page), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_without_a_browser_it_is_skipped_and_that_fails_only_on_request(tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<p>")
    skipped = check(page, "--browser", str(tmp_path / "none"))
    assert (skipped.returncode, skipped.stdout.split(":")[0]) == (0, "skipped")
    assert check(page, "--browser", str(tmp_path / "none"), "--need").returncode == 1


@pytest.mark.parametrize(
    ("method", "params", "said"),
    [
        (
            "Network.requestWillBeSent",
            {"request": {"url": "https://a.b/c.js"}},
            "a request: https://a.b/c.js",
        ),
        (
            "Network.requestWillBeSent",
            {"request": {"url": "file:///other.css"}},
            "a request: file:///other.css",
        ),
        ("Network.requestWillBeSent", {"request": {"url": PAGE}}, None),
        ("Network.requestWillBeSent", {"request": {"url": "data:image/svg+xml,"}}, None),
        ("Runtime.consoleAPICalled", {"type": "error", "args": [{"value": "bad"}]}, "console: bad"),
        ("Runtime.consoleAPICalled", {"type": "log", "args": [{"value": "fine"}]}, None),
        ("Log.entryAdded", {"entry": {"level": "warning", "text": "odd"}}, "log: odd"),
        ("Network.loadingFailed", {"errorText": "off"}, "a request failed: off"),
    ],
)
def test_errors_and_requests_are_problems_and_the_page_itself_is_none(method, params, said):
    assert problem_of({"method": method, "params": params}, PAGE) == said


@pytest.mark.skipif(BROWSER is None, reason="no browser; GATELAB_BROWSER names one")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<p>fine</p>", None),
        ("<script>nothing()</script>", "nothing is not defined"),
        ('<img src="https://example.com/x.png">', "https://example.com/x.png"),
        ('<div style="width:2000px">wide</div>', "pixels wide"),
        # the browser waits for it as long as for a slow machine
        pytest.param('<div class="plot"></div>', "1 pictures were not drawn", marks=pytest.mark.slow),
    ],
    ids=["fine", "script", "request", "width", "picture"],
)
def test_a_browser_sees_what_is_wrong(tmp_path, body, said):
    page = tmp_path / "report.html"
    icon = '<link rel="icon" href="data:,">'
    page.write_text(f'<!doctype html><meta name="viewport" content="width=device-width">{icon}<body>{body}')
    seen = check(page, "--browser", BROWSER)
    assert seen.returncode == (0 if said is None else 1), seen.stdout
    assert said is None or said in seen.stdout
