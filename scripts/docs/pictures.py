"""Draws the pictures of the manual's pages on how Gatelab works: boxes in columns, and arrows between them.

  python -m scripts.docs.pictures

It writes docs/rings/NAME.svg. The pictures have a light ground of their own, so they read in the dark scheme too.
"""

from html import escape
from itertools import pairwise, product
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "rings"
HEIGHT, DOWN, EDGE = 54, 22, 14
LETTER = 6.6  # the width of one, of the line below a title
Box = tuple[str, str]
"""A title and a line below it."""
Arrow = tuple[str, str, str]
"""From a title to another, and what stands at it."""

PICTURES = {
    "rings": """
        core: networks
        data: corpora, series
        tasks: training, metrics
        run: one run
        study: many runs | trackers: W&B, TensorBoard
        report: what is looked at
        cli: commands

        cli > report > study, trackers > run > tasks > data > core
    """,
    "core": """
        Model: LanguageModel, Forecaster
        Layer: GRU: directions, dropout
        Choice: auto, or a named backend
        reference: the oracle | torch: written gradient | native: C, CPU | triton: GPU | cudnn: GPU

        Model > Layer: x, h
        Layer > Choice: layer
        Choice > reference, torch, native, triton, cudnn
    """,
    "gpu": """
        wait: for the rows' counter
        h: all units, from memory
        product: W_hh's part, on the chip
        gates: r, z, n of own units
        h': own units, to memory
        arrive: counter + 1

        wait > h > product > gates > h' > arrive
    """,
    "data": """
        File: text, CSV, Parquet
        Splits: train, valid, test
        Batches: order from the seed | Spec: vocabulary, channels | Baselines: trivial models
        Task: reads all three

        File > Splits: sha256
        Splits > Batches, Spec, Baselines > Task
    """,
    "tasks": """
        Batch: from the data
        Task: loss, metrics, sample
        Trainer: Lightning
        metrics: sums, one division | checkpoints: best, last | trace: every step, exact

        Batch > Task
        Task > Trainer: loss
        Trainer > metrics, checkpoints, trace
    """,
    "run": """
        Request: key=value
        Configuration: composed, checked
        Directory: run.json, held
        Training: fit, or go on
        Score: best.ckpt
        Result: result.json, last

        Request > Configuration: Hydra
        Configuration > Directory: hash
        Directory > Training > Score > Result
    """,
    "study": """
        plan: space, grid, checks
        Storage: Optuna's trials
        Worker 1: claims, tells | Worker 2: claims, tells
        Run 1: a process | Run 2: a process | Run 3: a process
        analysis: leaderboard

        plan > Storage: frozen
        Storage > Worker 1, Worker 2
        Worker 1 > Run 1, Run 2 > analysis
        Worker 2 > Run 3 > analysis
    """,
    "report": """
        Studies: trials | Runs: result.json | Records: experiments/
        Gathered: plain data
        Page: HTML, no network | Text: terminal, md, csv | Picture: PNG | Record: committed

        Studies, Runs, Records > Gathered > Page, Text, Picture, Record
    """,
    "trackers": """
        Run: trains
        metrics.csv: the truth
        Follower: a process of its own | Event files: TensorBoard
        W&B: online | Offline: gatelab sync

        Run > metrics.csv: writes
        metrics.csv > Follower: read
        metrics.csv > Event files
        Follower > W&B, Offline
    """,
    "cli": """
        gatelab: command, arguments
        A command: one file each
        run: train, eval, ... | study: sweep | report: study, report
        Exit code: 0, 1, 2 or 75

        gatelab > A command > run, study, report > Exit code
    """,
}
"""Each line a column of boxes, `title: text | title: text`; then arrows, `from > to: label` or `a > b, c > d`."""


def read(picture: str) -> tuple[list[list[Box]], list[Arrow]]:
    """The columns and arrows of one of the `PICTURES`."""
    above, below = ([line.strip() for line in part.splitlines()] for part in picture.strip().split("\n\n"))
    columns = []
    for line in above:
        boxes = (box.partition(": ") for box in line.split(" | "))
        columns.append([(title, text) for title, _, text in boxes])
    arrows = []
    for line in below:
        chain, _, label = line.partition(": ")
        steps = [names.split(", ") for names in chain.split(" > ")]
        arrows += [(*ends, label) for step in pairwise(steps) for ends in product(*step)]
    return columns, arrows


def svg(name: str) -> str:
    """One of the `PICTURES` as SVG text."""
    columns, arrows = read(PICTURES[name])
    tallest = max(map(len, columns))
    longest = max(max(len(line), 1.3 * len(title)) for column in columns for title, line in column)
    box, across = round(longest * LETTER) + 18, 28 + round(LETTER * max(len(label) for _, _, label in arrows))
    width = 2 * EDGE + len(columns) * (box + across) - across
    height = 2 * EDGE + tallest * (HEIGHT + DOWN) - DOWN
    places: dict[str, tuple[float, float]] = {}
    parts = []
    for i, column in enumerate(columns):
        top = (height - len(column) * (HEIGHT + DOWN) + DOWN) / 2
        for j, (title, line) in enumerate(column):
            x, y = EDGE + i * (box + across), top + j * (HEIGHT + DOWN)
            places[title] = (x, y)
            middle = x + box / 2
            parts += [
                f'<rect class="box" x="{x}" y="{y}" width="{box}" height="{HEIGHT}" rx="8"/>',
                f'<text class="name" x="{middle}" y="{y + 23}">{escape(title)}</text>',
                f'<text class="line" x="{middle}" y="{y + 41}">{escape(line)}</text>',
            ]
    for start, end, label in arrows:
        (x0, y0), (x1, y1) = places[start], places[end]
        right = x1 > x0
        a, b = (x0 + box, x1 - 3) if right else (x0, x1 + box + 3)
        ya, yb = y0 + HEIGHT / 2, y1 + HEIGHT / 2
        half = (a + b) / 2
        path = f"M{a},{ya} C{half},{ya} {half},{yb} {b},{yb}"
        parts.append(f'<path class="arrow" d="{path}" marker-end="url(#head)"/>')
        if label:
            parts.append(f'<text class="line" x="{half}" y="{(ya + yb) / 2 - 7}">{escape(label)}</text>')
    style = (
        "text{font-family:system-ui,sans-serif;text-anchor:middle;fill:#263238}"
        ".name{font-size:16px;font-weight:600}.line{font-size:12.5px;fill:#455a64}"
        ".box{fill:#e0f2f1;stroke:#00796b}.arrow{fill:none;stroke:#546e7a;stroke-width:1.6}"
    )
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#546e7a"/></marker></defs>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-label="{name}">',
            f"<style>{style}</style>",
            head,
            f'<rect width="{width}" height="{height}" rx="10" fill="#fafafa"/>',
            *parts,
            "</svg>\n",
        ]
    )


def main() -> None:
    """Draw all."""
    for name in PICTURES:
        (FOLDER / f"{name}.svg").write_text(svg(name))


if __name__ == "__main__":
    main()
