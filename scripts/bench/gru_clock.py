"""How it is measured: bursts of calls, the contenders in turns, medians.

On a shared machine seconds drift from minute to minute. So the contenders take turns within fractions of a
second, a ratio is the median of the ratios of neighbours, and the machine's own peak (a large float32 matrix
product) is measured between the cases of the same run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from scripts.bench.gru_cases import REFERENCE, Case, call_of

PEAK_SIZE = 1536  # rows of the square product that gives the peak


@dataclass(frozen=True)
class Pace:
    """How long a case may take."""

    rounds: int  # turns of each contender
    burst: float  # seconds that a turn lasts at least


@dataclass
class Timing:
    """One contender on one case: seconds a call in each round."""

    backend: str
    case: Case
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds a call, median of the rounds."""
        return statistics.median(self.seconds)

    def ratio_to(self, other: Timing) -> float:
        """How many times faster than `other`: the median over the rounds."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))


def burst(call: Callable[[], None], count: int, device: str) -> float:
    """Seconds of one call, the mean of `count` in a row."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(count):
        call()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / count


def measure(case: Case, names: list[str], pace: Pace) -> list[Timing]:
    """Time the contenders that can serve the case, in turns; `nn.GRU` is always the first of them."""
    if case.threads:
        torch.set_num_threads(case.threads)
    calls = {name: call for name in names if (call := call_of(name, case)) is not None}
    counts = {}
    for name, call in calls.items():
        burst(call, 1, case.device)
        counts[name] = max(1, round(pace.burst / burst(call, 2, case.device)))
    timings = {name: Timing(name, case) for name in calls}
    for turn in range(pace.rounds):
        order = list(calls)
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            timings[name].seconds.append(burst(calls[name], counts[name], case.device))
    return list(timings.values())


class Peak:
    """The most floating point operations a second that float32 `torch.mm` reached, by number of threads."""

    def __init__(self) -> None:
        self.flops: dict[int, float] = {}

    def probe(self, threads: int) -> None:
        """Try once more."""
        torch.set_num_threads(threads)
        a, b = torch.randn(PEAK_SIZE, PEAK_SIZE), torch.randn(PEAK_SIZE, PEAK_SIZE)
        out = torch.empty(PEAK_SIZE, PEAK_SIZE)
        best = min(burst(lambda: torch.mm(a, b, out=out), 1, "cpu") for _ in range(4))
        self.flops[threads] = max(self.flops.get(threads, 0.0), 2.0 * PEAK_SIZE**3 / best)


def records(timings: list[Timing], peak: Peak | None = None) -> list[dict[str, object]]:
    """Plain data of one case's timings, a contender a record."""
    base = next(t for t in timings if t.backend == REFERENCE)
    found = []
    for t in timings:
        s, case = t.case.shape, t.case
        record: dict[str, object] = {
            "shape": s.name,
            "T": s.steps,
            "B": s.batch,
            "D": s.inputs,
            "H": s.hidden,
            "mode": case.mode,
            "ragged": case.ragged,
            "dtype": str(case.dtype).removeprefix("torch."),
            "threads": case.threads,
            "backend": t.backend,
            "microseconds": round(t.median * 1e6, 2),
            "ratio": round(t.ratio_to(base), 3),
        }
        if case.ragged:
            record["nanoseconds_per_token"] = round(t.median * 1e9 / case.rows, 2)
        if peak is not None:
            record["peak_percent"] = round(100 * case.flops / t.median / peak.flops[case.threads], 1)
        else:
            record["microseconds_per_step"] = round(t.median * 1e6 / s.steps, 3)
        found.append(record)
    return found
