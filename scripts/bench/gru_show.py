"""How the results are shown: a table on the terminal, and the picture in the README."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from scripts.bench.gru_cases import REFERENCE

Record = dict[str, Any]
MEAN_OF = "ABCDEF"
COLOURS = {"native": "#1f6f8b", "torch": "#99a8b2", "reference": "#d9c5a0"}


def _group(record: Record) -> tuple[Any, ...]:
    return record["threads"], record["mode"], record["ragged"], record["dtype"]


def tables(results: list[Record]) -> Iterable[Table]:
    """One table for each number of threads, mode, kind of batch and dtype; a shape a row."""
    for group in dict.fromkeys(map(_group, results)):
        rows = [r for r in results if _group(r) == group]
        names = [n for n in dict.fromkeys(r["backend"] for r in rows) if n != REFERENCE]
        threads, mode, ragged, dtype = group
        kind = "ragged, per valid token" if ragged else "padded"
        where = f"{threads} thread{'s' * (threads != 1)}" if threads else "CUDA"
        table = Table(title=f"{mode}, {kind}, {where}, {dtype}: ratio to nn.GRU", title_justify="left")
        table.add_column("shape T,B,D,H")
        table.add_column("nn.GRU", justify="right")
        for name in names:
            table.add_column(name, justify="right")
            table.add_column("% of peak" if threads else "µs/step", justify="right", style="dim")
        for key in dict.fromkeys(_shape(r) for r in rows):
            of_shape = {r["backend"]: r for r in rows if _shape(r) == key}
            cells = [key, _time(of_shape[REFERENCE]["microseconds"])]
            for name in names:
                record = of_shape.get(name)
                cells += ["-", "-"] if record is None else [f"{record['ratio']:.2f}x", _second(record)]
            table.add_row(*cells)
        means = [mean(rows, name) for name in names]
        if all(m is not None for m in means):
            table.add_section()
            table.add_row("geometric mean A-F", "", *(c for m in means for c in (f"{m:.2f}x", "")))
        yield table


def mean(rows: list[Record], name: str) -> float | None:
    """Geometric mean of a backend's ratios on shapes A to F, or None if one is missing."""
    ratios = {r["shape"]: r["ratio"] for r in rows if r["backend"] == name}
    if not set(MEAN_OF) <= set(ratios):
        return None
    return math.exp(sum(math.log(ratios[s]) for s in MEAN_OF) / len(MEAN_OF))


def _shape(r: Record) -> str:
    return f"{r['shape']:3} {r['T']},{r['B']},{r['D']},{r['H']}"


def _label(shape: str) -> str:
    """The name, then T,B and D,H below it: side by side they would not fit."""
    name, sizes = shape.split()
    steps, batch, inputs, hidden = sizes.split(",")
    return f"{name}\n{steps},{batch}\n{inputs},{hidden}"


def _time(microseconds: float) -> str:
    return f"{microseconds / 1000:.2f} ms" if microseconds >= 1000 else f"{microseconds:.0f} µs"


def _second(r: Record) -> str:
    return f"{r['peak_percent']:.0f}" if "peak_percent" in r else f"{r['microseconds_per_step']:.2f}"


def picture(document: Record, path: Path) -> None:
    """Bars: ratios to `nn.GRU` in training with the most threads, padded and ragged side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    threads = max(document["threads"])
    rows = [r for r in document["results"] if r["threads"] == threads and r["mode"] == "training"]
    names = [n for n in ("native", "torch") if any(r["backend"] == n for r in rows)]
    kinds = [ragged for ragged in (False, True) if any(r["ragged"] is ragged for r in rows)]
    figure, axes = plt.subplots(1, len(kinds), figsize=(5.2 * len(kinds), 3.6), sharey=True, squeeze=False)
    for ragged, axis in zip(kinds, axes[0], strict=True):
        shapes = list(dict.fromkeys(_shape(r) for r in rows if r["ragged"] is ragged and r["shape"] != "one"))
        for i, name in enumerate(names):
            found = {_shape(r): r["ratio"] for r in rows if r["ragged"] is ragged and r["backend"] == name}
            at = [n + (i - (len(names) - 1) / 2) * 0.4 for n in range(len(shapes))]
            bars = axis.bar(at, [found.get(s, 0) for s in shapes], 0.38, color=COLOURS[name], label=name)
            axis.bar_label(bars, fmt="%.1f", fontsize=7)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_xticks(range(len(shapes)), [_label(s) for s in shapes])
        axis.tick_params(axis="x", labelsize=6)
        axis.set_yscale("log")
        axis.set_yticks([1, 2, 4, 8, 16], ["1x", "2x", "4x", "8x", "16x"])
        axis.minorticks_off()
        axis.set_title("ragged batches (per valid token)" if ragged else "full batches", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("times faster than nn.GRU")
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"Training, float32, {threads} threads, {document['processor']} ({document['capability']}), "
        f"torch {document['torch']}; shapes are T,B,D,H",
        fontsize=8,
    )
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
