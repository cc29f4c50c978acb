"""Small pieces of HTML, every text in them escaped: tables, figures, links. Nothing here knows what a study is."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go


def text(value: object) -> str:
    """A text between tags or inside an attribute."""
    return html.escape(str(value))


def paragraph(*sentences: str, kind: str = "") -> str:
    """One paragraph of what there is to say; nothing without a sentence."""
    said = " ".join(sentence for sentence in sentences if sentence)
    opening = f'<p class="{kind}">' if kind else "<p>"
    return f"{opening}{text(said)}</p>" if said else ""


def link(target: Path, page: Path, shown: str) -> str:
    """A link from the page to a file or folder, relative to the page; the text alone where nothing is there."""
    if not target.exists():
        return text(shown)
    relative = os.path.relpath(target.absolute(), page.absolute().parent)
    return f'<a href="{text(Path(relative).as_posix())}/">{text(shown)}</a>'


def table(
    caption: str,
    columns: Mapping[str, Sequence[str]],
    *,
    marked: Sequence[str] = (),
    sortable: bool = True,
    raw: Sequence[str] = (),
) -> str:
    """A table in a box of its own, which scrolls where the page is narrow.

    Args:
        caption: said to those who do not see it.
        columns: title -> one text a row.
        marked: a class for each row.
        sortable: a click on a title sorts by it.
        raw: titles of columns whose texts are HTML already.
    """
    head = "".join(_title(name, columns[name], sortable) for name in columns)
    rows = []
    for place, cells in enumerate(zip(*columns.values(), strict=True)):
        kind = f' class="{marked[place]}"' if marked and marked[place] else ""
        shown = (
            f'<td class="{_align(columns[name])}">{cell if name in raw else text(cell)}</td>'
            for name, cell in zip(columns, cells, strict=True)
        )
        rows.append(f"<tr{kind}>{''.join(shown)}</tr>")
    box = f'<div class="box" role="region" tabindex="0" aria-label="{text(caption)}">'
    return (
        f"{box}<table><caption>{text(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _title(name: str, cells: Sequence[str], sortable: bool) -> str:
    align = _align(cells)
    inner = f'<button type="button">{text(name)}</button>' if sortable else text(name)
    return f'<th scope="col" class="{align}">{inner}</th>'


def _align(cells: Sequence[str]) -> str:
    """Words to the left, numbers to the right."""
    known = [cell for cell in cells if cell]
    return "word" if any(cell[:1].isalpha() or cell[:1] in "<_[('" for cell in known) else "number"


class Figures:
    """The figures of a page: a place in the text for each, and their data behind it."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def place(self, figure: go.Figure, label: str, note: str = "") -> str:
        """The element that the figure is drawn into; `label` is what those hear who do not see it."""
        number = len(self._data)
        self._data.append(figure.to_json().replace("</", "<\\/"))
        meta = figure.layout.meta or {}
        least = f"min-width:{meta['width']}px;" if "width" in meta else ""
        caption = f"<figcaption>{text(note)}</figcaption>" if note else ""
        height = int(figure.layout.height or 420)
        return (
            f'<figure><div class="wide"><div class="plot" id="plot-{number}" data-figure="{number}" role="img" '
            f'aria-label="{text(label)}" style="{least}height:{height}px"></div></div>{caption}</figure>'
        )

    def data(self) -> str:
        """The figures as elements that the page's script reads."""
        return "\n".join(
            f'<script type="application/json" id="figure-{number}">{data}</script>'
            for number, data in enumerate(self._data)
        )
