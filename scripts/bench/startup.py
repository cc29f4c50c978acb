"""Seconds from Enter to the first training step, and of `gatelab --help`; from outside.

Every turn is a fresh process of `gatelab train`, killed when the first row of its metrics.csv is there, which the
first step writes; so any two checkouts can be compared in one run. What follows from the data is in the cache after the
turn that does not count, as it is for whoever trains on a data set again.

examples:
  python -m scripts.bench.startup experiment=etth1_gru
  python -m scripts.bench.startup --other ../before --turns 9
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from scripts.harness import Checkout, checkouts, compared, in_turns, parser, place, show

REQUEST = ["experiment=quickstart_series"]
FIRST = ["trainer.log_every_n_steps=1", "callbacks.progress=null", "test=false"]


def first_step(checkout: Checkout, request: list[str], root: Path) -> Callable[[], float]:
    """A call that starts a run and returns the seconds to its first step."""
    count = [0]

    def call() -> float:
        count[0] += 1
        runs = root / f"{checkout.name}{count[0]}"
        where = [f"paths.root={runs}", f"paths.cache={root / checkout.name}-cache"]
        began = time.perf_counter()
        command = checkout.start(checkout.gatelab("train", *request, *FIRST, *where), root / "log")
        stepped = command.until(
            lambda: any(f.read_bytes().count(b"\n") > 1 for f in runs.glob("runs/*/*/metrics.csv")), 120
        )
        seconds = time.perf_counter() - began
        command.kill()
        if not stepped:
            raise SystemExit(f"{checkout.name}: no step:\n{command.tail()}")
        return seconds

    return call


def main() -> int:
    p = parser(__doc__, other=True)
    p.add_argument("request", nargs="*", default=REQUEST, metavar="KEY=VALUE", help=f"default: {REQUEST[0]}")
    p.add_argument("--turns", type=int, default=7, help="default: %(default)s")
    options = p.parse_args()
    with place(None, "startup-") as root:
        there = checkouts(options)
        steps = in_turns({c.name: first_step(c, options.request, root) for c in there}, options.turns)
        asked = {c.name: partial(c.seconds, c.gatelab("--help"), root / "log") for c in there}
        helps = in_turns(asked, options.turns)
    show(f"{' '.join(options.request)}: to the first step, {options.turns} turns", compared(steps, "this"))
    show("gatelab --help", compared(helps, "this"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
