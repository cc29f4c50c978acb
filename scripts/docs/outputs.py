"""Runs the Python of a page of the manual and writes what it printed into the `text` blocks after it.

  python -m scripts.docs.outputs docs/gru-from-scratch.md

With a notebook's name the page is also written as a notebook: its prose and its code as cells, with their outputs.

  python -m scripts.docs.outputs docs/gru-from-scratch.md --notebook docs/notebooks/gru_from_scratch.ipynb
"""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

from scripts.harness import parser

PAIR = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.S | re.M)
AT_A_TIME = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def with_outputs(page: str) -> str:
    """The page with fresh outputs."""
    space: dict[str, Any] = {}

    def run(match: re.Match[str]) -> str:
        code, shown = match.groups()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "page", "exec"), space)
        block = f"```python\n{code}```\n"
        return block if shown is None else f"{block}\n```text\n{printed.getvalue().rstrip()}\n```\n"

    return PAIR.sub(run, page)


def notebook(page: str) -> str:
    """The page as a notebook (nbformat 4.5)."""
    cells: list[dict[str, Any]] = []

    def add(kind: str, text: str, **more: Any) -> None:
        if text := text.strip("\n"):
            source = text.splitlines(keepends=True)
            cells.append(
                {"cell_type": kind, "id": f"c{len(cells)}", "metadata": {}, "source": source, **more}
            )

    end = 0
    for match in PAIR.finditer(page):
        add("markdown", page[end : match.start()])
        code, shown = match.groups()
        stream = {"name": "stdout", "output_type": "stream", "text": (shown or "").splitlines(keepends=True)}
        add("code", code, execution_count=None, outputs=[stream] if shown else [])
        end = match.end()
    add("markdown", page[end:])
    for cell in cells:  # links are from docs/notebooks/
        if cell["cell_type"] == "markdown":
            cell["source"] = [re.sub(r"\]\((?!http|#)", "](../", line) for line in cell["source"]]
    whole = {"cells": cells, "metadata": AT_A_TIME, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Rewrite a page, and the notebook of it."""
    p = parser(__doc__)
    p.add_argument("page", type=Path)
    p.add_argument("--notebook", type=Path)
    options = p.parse_args()
    text = with_outputs(options.page.read_text())
    options.page.write_text(text)
    if options.notebook:
        options.notebook.write_text(notebook(text))


if __name__ == "__main__":
    main()
