"""The grid behind `gatelab.GRU(backend="auto")`: every backend at every point, and whether auto is ever far off.

`table` measures the backends for the dispatch table (`gatelab.core.backends.dispatch` reads it); `check` measures
"auto" itself against every other way, `nn.GRU` included, and says where it is behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, product
from typing import Any

from gatelab.core.backends.dispatch import Point
from scripts.bench.gru_cases import REFERENCE, Case, Shape, contenders
from scripts.bench.gru_clock import Pace, measure

HIDDEN = (16, 64, 128, 256, 512, 1024)
BATCH = (1, 4, 20, 64, 256)
STEPS = (1, 4, 35, 256)
MOST = 2e10  # operations of a training call: beyond it a point takes seconds and says what its neighbours say
LOOP = 4  # more steps than this and `reference` has no chance


def points(quick: bool) -> list[Point]:
    """The grid; one step or one row is never ragged."""
    found = [
        point
        for point in (Point(*p) for p in product((False, True), (False, True), HIDDEN, BATCH, STEPS))
        if not (point.ragged and (point.steps == 1 or point.batch == 1)) and _case(point, 0).flops <= MOST
    ]
    return found[::10] if quick else found


def _case(p: Point, threads: int) -> Case:
    return Case(Shape("grid", p.steps, p.batch, p.hidden, p.hidden), p.training, p.ragged, threads)


def _names(point: Point) -> list[str]:
    return [n for n in contenders("cpu") if n != "reference" or point.steps <= LOOP]


def table(quick: bool, pace: Pace, threads: int) -> Iterator[dict[str, object]]:
    """One row of the dispatch table after another; `microseconds` has `nn.GRU` too, for whoever reads it."""
    for point in points(quick):
        timings = measure(_case(point, threads), _names(point), pace)
        yield {**point._asdict(), "microseconds": {t.backend: round(t.median * 1e6, 1) for t in timings}}


def check(quick: bool, pace: Pace, threads: int) -> Iterator[dict[str, object]]:
    """For each point, how fast "auto" is beside the fastest backend and beside `nn.GRU` (1: the same)."""
    for point in points(quick):
        timings = {t.backend: t for t in measure(_case(point, threads), [*_names(point), "auto"], pace)}
        auto = timings.pop("auto")
        best = min((t for n, t in timings.items() if n != REFERENCE), key=lambda t: t.median)
        yield {
            **point._asdict(),
            "fastest": best.backend,
            "to_fastest": round(auto.ratio_to(best), 3),
            "to_nn_gru": round(auto.ratio_to(timings[REFERENCE]), 3),
        }


def blocks(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows in the form of dispatch.json: a block for each kind of call and H, with a column for each backend."""
    kinds = ("training", "ragged", "hidden")
    for kind, group in groupby(rows, key=lambda row: [row[name] for name in kinds]):
        same = list(group)
        names = dict.fromkeys(name for row in same for name in row["microseconds"])
        yield {
            **dict(zip(kinds, kind, strict=True)),
            "batch": [row["batch"] for row in same],
            "steps": [row["steps"] for row in same],
            "microseconds": {name: [row["microseconds"].get(name) for row in same] for name in names},
        }
