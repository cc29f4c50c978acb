"""The dispatch table: the best backend over a grid of sizes, as `gatelab.GRU(backend="auto")` reads it.

Every point is measured in training and in inference. The table has one backend a point, so it takes the one
whose worse half is the best: `ratio` is how fast it is beside the fastest other way, `nn.GRU` included, in that
worse half. A ratio under 1 says what "auto" loses there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from gru_bench.cases import REFERENCE, Case, Shape, contenders
from gru_bench.clock import Pace, measure

HIDDEN = (16, 64, 128, 256, 512, 1024)
BATCH = (1, 4, 20, 64, 256)
STEPS = (1, 4, 35, 256)
MOST = 2e10  # operations of a training call: beyond it a point takes seconds and says what its neighbours say
LOOP = 4  # more steps than this and `reference` has no chance


def points(quick: bool) -> list[tuple[int, int, int, bool]]:
    """(hidden, batch, steps, ragged) of the grid; one step is never ragged."""
    found = [
        p
        for p in product(HIDDEN, BATCH, STEPS, (False, True))
        if not (p[3] and (p[2] == 1 or p[1] == 1)) and _case(*p, training=True).flops <= MOST
    ]
    return found[::10] if quick else found


def _case(hidden: int, batch: int, steps: int, ragged: bool, *, training: bool, threads: int = 0) -> Case:
    return Case(Shape("grid", steps, batch, hidden, hidden), training, ragged, threads)


def table(quick: bool, pace: Pace, threads: int) -> Iterator[dict[str, object]]:
    """One record of the dispatch table after another."""
    for hidden, batch, steps, ragged in points(quick):
        names = [n for n in contenders("cpu") if n != "reference" or steps <= LOOP]
        worst: dict[str, float] = {}
        for training in (True, False):
            case = _case(hidden, batch, steps, ragged, training=training, threads=threads)
            seconds = {t.backend: t.median for t in measure(case, names, pace)}
            for name in names:
                if name != REFERENCE:
                    others = min(s for n, s in seconds.items() if n != name)
                    worst[name] = min(worst.get(name, others / seconds[name]), others / seconds[name])
        best = max(worst, key=lambda name: worst[name])
        yield {
            "hidden": hidden,
            "batch": batch,
            "steps": steps,
            "ragged": ragged,
            "backend": best,
            "ratio": round(worst[best], 3),
        }
