"""Open a report in a headless Chromium with the network off, on two phones and a desk, in light and dark.

It fails on an error in the console, a request for anything but the page itself, a page wider than its window, or a
picture that was not drawn, and writes a screenshot of each view. Any Chromium or Chrome will do; without one it says so
and exits with 0, or with --need with 1.

examples:
  gatelab report experiments/002-hidden-size --output report.html
  python -m scripts.checks.report report.html --browser /usr/bin/chromium --shots shots
"""

import argparse
import shutil
import sys
from pathlib import Path

from scripts.checks.browser import Browser, BrowserError
from scripts.checks.report_look import VIEWS, look

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, metavar="PAGE", help="the HTML file")
    parser.add_argument("--browser", metavar="PATH", help=f"default: the first of {', '.join(NAMES)} in PATH")
    parser.add_argument("--shots", type=Path, metavar="DIR", help="where the screenshots go (default: none)")
    parser.add_argument("--need", action="store_true", help="fail where there is no browser")
    given = parser.parse_args()
    if not given.page.is_file():
        parser.error(f"{given.page}: no such file")
    browser = given.browser or next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None or not Path(browser).is_file():
        print(f"skipped: no browser {given.browser or 'among ' + ', '.join(NAMES)}; give --browser PATH")
        return 1 if given.need else 0
    problems = 0
    try:
        with Browser(browser) as opened:
            print(opened.version)
            for view in VIEWS:
                found = look(opened, given.page, view, given.shots)
                problems += len(found.problems)
                print(f"{'FAILED' if found.problems else 'ok    '} {view.name:14} {found.said}")
                for problem in found.problems:
                    print(f"       {problem}")
    except BrowserError as error:
        print(f"FAILED {browser}: {error}")
        return 1
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
