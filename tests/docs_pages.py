"""A page of the manual as a list of blocks, and what it takes to run one.

A block is fenced with three backticks. Its language and its title say what it is:

- `python` runs, in one namespace for the page. A `text` block right after it is what it printed.
- `python` or `yaml` with `title="path"` is a file of that name, which later blocks use.
- `bash` is commands, one a line; `title="needs ..."` says what a machine must have that this one has not.
- `text` after anything else was printed by a command on some day; it is not compared.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r'^( *)```(\w+)?(?: title="([^"]*)")?\n(.*?)^\1```$', re.S | re.M)
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
TOLERANCE = 0.05


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is where its text begins."""

    language: str
    title: str
    text: str
    line: int

    @property
    def is_file(self) -> bool:
        """Whether the title is a file's name."""
        return self.language in ("python", "yaml") and "." in self.title

    @property
    def needs(self) -> str:
        """What a machine must have, or an empty string."""
        return self.title.removeprefix("needs ") if self.title.startswith("needs ") else ""


def blocks(text: str) -> list[Block]:
    """The blocks of a page."""
    found = []
    for match in FENCE.finditer(text):
        indent, language, title, body = match.groups()
        body = re.sub(rf"^{indent}", "", body, flags=re.M)
        found.append(Block(language or "", title or "", body, text[: match.start(4)].count("\n") + 1))
    return found


def pages() -> dict[str, str]:
    """Every page of the manual by its path below docs/."""
    return {path.relative_to(DOCS).as_posix(): path.read_text() for path in sorted(DOCS.rglob("*.md"))}


def same_output(shown: str, printed: str) -> bool:
    """Equal words, and numbers that differ by no more than another processor's arithmetic makes them differ."""
    if NUMBER.sub("#", shown).split() != NUMBER.sub("#", printed).split():
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    values = ((float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs)
    return all(abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) + 0.005 for a, b in values)
