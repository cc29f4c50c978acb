"""Trainings of one language model beside one another: compiled beside plain, and the kernels beside the plain loop,
in a layer whose units fill no tile and in a batch that takes several launches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from scripts.checks.gpu.runs import train
from scripts.checks.gpu.setup import Row, Setup

TASK = "language model"
Compared = list[tuple[str, list[str]]]
"""What runs are called, and their options; the first is what the others are compared with."""
SAME = 2e-2
"""How far a loss may lie from that of the first run, of itself: other kernels, and products in bfloat16."""
LOSSES = 4
"""How many logged losses are compared: later the trajectories part, whatever is at work."""


def compiled(at: Setup) -> Iterator[Row]:
    """`compile=default` and `compile=cudagraphs`: the first losses of a plain run, and tokens a second beside it."""
    ways = ("aot_eager",) if at.quick else ("default", "cudagraphs")
    runs: Compared = [("eager", []), *((way, [f"compile={way}"]) for way in ways)]
    yield from beside(at, "compiled", runs, ["trainer.precision=32-true"], 20 if at.quick else 300)


def large(at: Setup) -> Iterator[Row]:
    """The fast backend beside `reference` with 900 units and zoneout, of 64 rows and of more than one launch takes."""
    fast, precision = ("triton", "bf16-mixed") if at.device == "cuda" else ("native", "32-true")
    runs: Compared = [(name, [f"model.backend={name}"]) for name in ("reference", fast)]
    for rows in (2,) if at.quick else (64, 512):
        given = [f"trainer.precision={precision}", "model.zoneout=0.1", f"data.batch_size={rows}"]
        given += [] if at.quick else ["model.hidden_size=900", "optim.lr=1e-3"]
        yield from beside(at, f"large-{rows}", runs, given, 20 if at.quick else 50)


def beside(at: Setup, name: str, runs: Compared, given: list[str], steps: int) -> Iterator[Row]:
    """One row a run: its first losses are those of the first."""
    limits = [f"trainer.max_steps={steps}", f"trainer.log_every_n_steps={max(1, steps // 30)}"]
    limits += ["callbacks.throughput={_target_: gatelab.tasks.callbacks.Throughput}"]
    first: list[float] = []
    for way, options in runs:
        row: Row = {"what": name, "run": way, "steps": steps}
        try:
            directory = train(at, TASK, f"{name}-{way}", *given, *options, *limits)
        except RuntimeError as error:
            yield {**row, "said": str(error)[-1500:], "ok": False}
            continue
        losses, speed = told(directory)
        first = first or losses
        apart = max(abs(a - b) / b for a, b in zip(losses[:LOSSES], first, strict=False))
        row |= {"losses": [round(loss, 4) for loss in losses[:LOSSES]], "apart": round(apart, 5)}
        yield {**row, "tokens a second": speed, "said": "", "ok": apart <= SAME}


def told(directory: Path) -> tuple[list[float], float]:
    """The logged training losses of a run, and its tokens a second after the first third of it."""
    from gatelab.run.record.directory import read_metrics

    rows = read_metrics(directory / "metrics.csv")
    losses = [float(row["train/loss"]) for row in rows if row.get("train/loss")]
    speeds = [float(row["time/tokens_per_second"]) for row in rows if row.get("time/tokens_per_second")]
    return losses, round(median(speeds[len(speeds) // 3 :]))


PARTS: dict[str, Callable[[Setup], Iterator[Row]]] = {"compiled": compiled, "large": large}
