"""The dispatch table: how long each backend took on a grid of sizes, as `scripts/bench/gru.py --table` measured it.

`dispatch.json` beside this file holds, for a device and a dtype, microseconds of each backend at each point of the
grid. A call takes the figures of the nearest point, in powers of two. Nothing is measured here, and whether a
backend can serve a call at all is the backends' own business (`choice.py` asks them).
"""

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("dispatch.json")
CLOSE = 1.05  # a backend this little slower than the fastest is as good: noise must not decide


class Point(NamedTuple):
    """A point of the grid; `training` has a gradient, `ragged` has lengths."""

    training: bool
    ragged: bool
    hidden: int
    batch: int
    steps: int

    def __str__(self) -> str:
        kind = f"{'training' if self.training else 'inference'}{', ragged' if self.ragged else ''}"
        return f"H={self.hidden}, B={self.batch}, T={self.steps}, {kind}"


Table = dict[Point, Mapping[str, float]]


@functools.cache
def table(device: str, dtype: str) -> Table:
    """Microseconds by point and backend; empty where nothing was measured."""
    if not TABLE.is_file():
        return {}
    rows = json.loads(TABLE.read_text()).get(device, {}).get(dtype, [])
    return {Point(*(row[name] for name in Point._fields)): row["microseconds"] for row in rows}


def nearest(device: str, dtype: str, call: Point) -> Point | None:
    """The measured point that is most like the call: of its kind, and nearest in powers of two."""

    def distance(point: Point) -> float:
        pairs = zip(point[2:], call[2:], strict=True)
        return math.sqrt(sum(math.log2(max(a, 1) / max(b, 1)) ** 2 for a, b in pairs))

    kind = [p for p in table(device, dtype) if p[:2] == call[:2]]
    return min(kind, key=distance, default=None)


def fastest(microseconds: Mapping[str, float], able: tuple[str, ...]) -> str | None:
    """The fastest of the backends `able`, the first of them if it is as good; None if none was measured."""
    known = [name for name in able if name in microseconds]
    if not known:
        return None
    best = min(microseconds[name] for name in known)
    return next(name for name in known if microseconds[name] <= CLOSE * best)
