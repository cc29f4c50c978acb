"""Blocks of a text whose name is that of several secrets: what is below `passwords` is a secret, whatever its own name.

A block is a mapping in brackets, the indented lines below a line `passwords:` (YAML), or a section `[passwords]` (INI,
TOML). Of blocks in blocks only the outermost is told, so that the whole takes time linear in the text.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator

from gatelab.run.record.secrets.names import MARKS, kind_of

_NAME = rf"[\"'`]?(?P<{{}}>[\w.{MARKS}-]{{{{1,100}}}})\\?[\"'`]?"
_OPENED = re.compile(
    rf"(?<![\w.{MARKS}-]){_NAME.format('name')}[ \t]{{0,9}}(?::|=>?|:[ \t]?(?:dict|Mapping)\[[^\n=]{{1,60}}=)"
    rf"\s{{0,9}}(?:dict\(|[\[{{])"
    rf"|(?m:^)[ \t+-]{{0,80}}(?:{_NAME.format('heading')}[ \t]{{0,9}}:[ \t]{{0,9}}(?:#[^\n]{{0,200}})?(?=\n)"
    rf"|\[{{1,2}}(?P<section>[\w.'\" {MARKS}-]{{1,100}})\]{{1,2}}[ \t]{{0,9}}(?=\n))"
)
"""`passwords = {`, `passwords:` alone on its line, `[passwords]`."""
_BRACKET, _LINE = re.compile(r"[()\[\]{}]"), re.compile(r"[^\n]+")
_KINDS = ("secret", "weak", "random", "solid")
_SEVERAL = re.compile(r".*(?:s|wörter|woerter|daten)", re.IGNORECASE)


class Blocks:
    """The blocks of a text, in order."""

    def __init__(self, text: str) -> None:
        self._blocks = list(_blocks(text))
        self._starts = [start for start, _, _ in self._blocks]

    def kind_at(self, place: int) -> str:
        """The kind of the name of the block in which a place of the text is; empty where it is in none."""
        if not (before := bisect.bisect_right(self._starts, place)):
            return ""
        _, end, kind = self._blocks[before - 1]
        return kind if place < end else ""


def dent(line: str) -> int:
    """The width of what stands before a line's first word: spaces, the dash of a list, the sign of a difference."""
    return len(line) - len(line.lstrip("+- \t"))


def kind_of_several(name: str) -> str:
    """The kind of a name, or of a part of a section's name, where it is one of several secrets; else empty."""
    kinds = (kind_of(part) for part in re.split(r"[.\s'\"]+", name) if _SEVERAL.fullmatch(part))
    return next((kind for kind in kinds if kind in _KINDS), "")


def _blocks(text: str) -> Iterator[tuple[int, int, str]]:
    at, closing = 0, _closing(text)
    while found := _OPENED.search(text, at):
        at = found.end()
        name = found["name"] or found["heading"] or found["section"]
        if kind := kind_of_several(name.rpartition(".")[2] if found["section"] is None else name):
            end = _end(text, found, closing)
            yield at, end, kind
            at = end


def _closing(text: str) -> dict[int, int]:
    """The place of the bracket that closes each one; an open one that none closes is left out."""
    places: dict[int, int] = {}
    opened: list[int] = []
    for bracket in _BRACKET.finditer(text):
        if bracket[0] in "([{":
            opened.append(bracket.start())
        elif opened:
            places[opened.pop()] = bracket.start()
    return places


def _end(text: str, found: re.Match[str], closing: dict[int, int]) -> int:
    """Where a block ends: at the bracket that closes it (else with its line), or before the line that is not below."""
    if found["name"]:
        end = text.find("\n", found.end())
        return closing.get(found.end() - 1, end if end > 0 else len(text))
    for line in _LINE.finditer(text, found.end() + 1):
        section = line[0].lstrip("+- \t").startswith("[")
        if line[0].strip("+- \t") and (section if found["section"] else dent(line[0]) <= dent(found[0])):
            return line.start()
    return len(text)
