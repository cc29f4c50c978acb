"""What the manual shows besides its own pages: the records of `experiments/`.

A hook of MkDocs, named in `mkdocs.yml`.

Pages of `docs/` link to `../experiments/...`, as they lie in the repository. In the site the records are pages below
`experiments/`, so these links lose one step upwards, and links from a record into `docs/` or to code are made plain
text where the site has no page for them.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
SHOWN = (".md", ".png", ".csv", ".json")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the records' files below `experiments/`."""
    folder = ROOT / "experiments"
    for path in sorted([folder / "RECORDS.md", *folder.glob("*/*")]):
        if path.suffix in SHOWN:
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links to where the site has the file; a link to code that it has not becomes its text."""
    uri = page.file.src_uri
    inside = uri if uri.startswith("experiments/") else f"docs/{uri}"
    here = posixpath.dirname(inside)

    def mended(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match.group()
        path, _, anchor = target.partition("#")
        place = posixpath.normpath(posixpath.join(here, path)).removeprefix("docs/")
        if files.get_file_from_path(place) is None:
            if (ROOT / place).exists() and not place.startswith("docs"):
                return text
            return match.group()  # MkDocs says that it leads nowhere
        way = posixpath.relpath(place, posixpath.dirname(uri) or ".")
        return f"{mark}[{text}]({way}{'#' + anchor if anchor else ''})"

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.S | re.M)
    return "".join(part if part.startswith("```") else LINK.sub(mended, part) for part in parts)
