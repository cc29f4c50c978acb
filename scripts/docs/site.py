"""Looks through the built manual: no page needs anything from a network, and every link into the site leads somewhere.

  python -m scripts.docs.site site

Exits with 1 and names what is wrong, one a line.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from scripts.harness import parser

LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """The addresses that a page loads, those that it links to, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: set[str] = set()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note addresses and ids."""
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if (name := LOADS.get(tag)) and name in given and given.get("rel") != "canonical":
            self.loads.add(given[name])
        if tag == "a" and "href" in given:
            self.links.add(given["href"])


def problems(site: Path) -> list[str]:
    """What is wrong in the site, one line each."""
    pages = {file.resolve(): Page(file.read_text()) for file in site.rglob("*.html")}
    found = []
    for file, page in pages.items():
        name = file.relative_to(site.resolve())
        found += [f"{name} loads {url}" for url in page.loads if urlsplit(url).netloc]
        for url in page.links | page.loads:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or name.name == "404.html":
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{name} links to {url}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{name} links to {url}: no such heading")
    return sorted(found)


def main() -> int:
    """Print what is wrong."""
    p = parser(__doc__)
    p.add_argument("site", type=Path)
    site = p.parse_args().site
    wrong = problems(site)
    pages = len(list(site.rglob("*.html")))
    print("\n".join(wrong) or f"{pages} pages: no link is broken, nothing is loaded")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
