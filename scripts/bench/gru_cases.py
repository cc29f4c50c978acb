"""Layers measured in turns: the shapes, one call of each contender on them, and the clock around the calls.

A contender is `nn.GRU`, `nn.LSTM` or a backend of `gatelab.GRU`, with the same weights (of the GRUs) and the same
input. A ragged call begins with padded x and `lengths` and ends with padded y for all: PyTorch's layers pack and
unpack inside the call. On a machine that others use, only ratios of neighbours in time mean something.

Dimensions: T time, B batch, D input, H hidden.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatelab.core.backends import BACKENDS, BackendError
from gatelab.core.gru import GRU

REFERENCE = "nn.GRU"  # the ratios are to the first contender, which is this one
TORCH_LAYERS: dict[str, type[nn.RNNBase]] = {"nn.GRU": nn.GRU, "nn.LSTM": nn.LSTM}
SERVED = {"cpu": ("native", "torch", "reference"), "cuda": ("cudnn", "torch", "reference")}
PEAK_SIZE = 1536  # rows of the square product that gives the peak


@dataclass(frozen=True)
class Shape:
    """A named problem."""

    name: str
    steps: int
    batch: int
    inputs: int
    hidden: int


SHAPES = {
    name: Shape(name, *sizes)
    for name, sizes in {
        "A": (35, 20, 256, 256),
        "B": (70, 32, 512, 512),
        "C": (96, 32, 64, 128),
        "D": (256, 64, 128, 128),
        "E": (35, 20, 1024, 1024),
        "F": (336, 32, 7, 64),
        "S": (50, 1, 32, 64),
        "L": (1000, 16, 64, 128),
        "M": (24, 256, 32, 64),
        "one": (1, 1, 256, 256),
    }.items()
}


@dataclass(frozen=True)
class Case:
    """A shape and how it is run."""

    shape: Shape
    training: bool  # forward and backward, the gradient of x too; else forward without gradients
    ragged: bool = False
    threads: int = 0  # 0: as it is
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def lengths(self) -> Tensor:
        """[B] lengths uniform in 1 ... T, the same in every run; the first row is a full one."""
        torch.manual_seed(self.shape.steps + self.shape.batch)
        lengths = torch.randint(1, self.shape.steps + 1, (self.shape.batch,))
        lengths[0] = self.shape.steps
        return lengths

    @property
    def rows(self) -> int:
        """Valid tokens of a call."""
        return int(self.lengths().sum()) if self.ragged else self.shape.steps * self.shape.batch

    @property
    def flops(self) -> float:
        """Operations of a GRU's matrix products; the gradient takes two more of each."""
        s = self.shape
        return self.rows * 2.0 * 3 * s.hidden * (s.inputs + s.hidden) * (3 if self.training else 1)


def contenders(device: str) -> list[str]:
    """`nn.GRU` and the backends that there are for this device."""
    return [REFERENCE, *(name for name in SERVED[device] if name in BACKENDS)]


def call_of(name: str, case: Case) -> Callable[[], None] | None:
    """One call of the contender on the case; None if it cannot serve it (see `gatelab.GRU.explain`)."""
    s, options = case.shape, {"device": case.device, "dtype": case.dtype}
    torch.manual_seed(0)
    original = TORCH_LAYERS.get(name, nn.GRU)(s.inputs, s.hidden, **options)
    x = torch.randn(s.steps, s.batch, s.inputs, **options)
    lengths = case.lengths() if case.ragged else None
    if lengths is not None:
        x.masked_fill_((torch.arange(s.steps).unsqueeze(1) >= lengths).unsqueeze(-1).to(case.device), 0)
    x.requires_grad_(case.training)
    layer: nn.Module = original
    if name not in TORCH_LAYERS:
        layer = GRU(s.inputs, s.hidden, **options, backend=name)
        layer.load_state_dict(original.state_dict())
    given = None if lengths is None else lengths.to(case.device)
    wanted = [x, *layer.parameters()]
    dy = torch.randn(s.steps, s.batch, s.hidden, **options)

    def forward() -> Tensor:
        if name not in TORCH_LAYERS:
            return layer(x, lengths=given)[0]
        if lengths is None:
            return layer(x)[0]
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0], total_length=s.steps)[0]

    def call() -> None:
        if case.training:
            torch.autograd.grad(forward(), wanted, dy)
        else:
            with torch.no_grad():
                forward()

    try:
        call()
    except BackendError:
        return None
    return call


@dataclass(frozen=True)
class Pace:
    """How long a case may take: turns of each contender, and the seconds that a turn lasts at least."""

    rounds: int
    burst: float


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
    """Time the contenders that can serve the case, in turns of `burst` seconds; who begins changes."""
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


def records(timings: list[Timing], peak: Peak | None = None) -> list[dict[str, Any]]:
    """Plain data of one case's timings, a contender a record; ratios are to the first."""
    found = []
    for t in timings:
        s, case = t.case.shape, t.case
        record: dict[str, Any] = {
            "shape": s.name,
            "T": s.steps,
            "B": s.batch,
            "D": s.inputs,
            "H": s.hidden,
            "mode": "training" if case.training else "inference",
            "ragged": case.ragged,
            "dtype": str(case.dtype).removeprefix("torch."),
            "threads": case.threads,
            "backend": t.backend,
            "microseconds": round(t.median * 1e6, 2),
            "ratio": round(t.ratio_to(timings[0]), 3),
        }
        if case.ragged:
            record["nanoseconds_per_token"] = round(t.median * 1e9 / case.rows, 2)
        if peak is not None:
            record["peak_percent"] = round(100 * case.flops / t.median / peak.flops[case.threads], 1)
        else:
            record["microseconds_per_step"] = round(t.median * 1e6 / s.steps, 3)
        found.append(record)
    return found
