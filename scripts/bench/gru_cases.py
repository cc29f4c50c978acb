"""Layers measured in turns: the shapes, one call of each contender on them, and the clock around the calls.

A contender is `nn.GRU`, `nn.LSTM` or a backend of `gatelab.GRU`, with the same weights (of the GRUs) and the same
input. A ragged call begins with padded x and `lengths` and ends with padded y for all: PyTorch's layers pack and
unpack inside the call. On a machine that others use, only ratios of neighbours in time mean something.

Dimensions: T time, B batch, D input, H hidden.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatelab.core.backends import BACKENDS, BackendError
from gatelab.core.gru import GRU
from scripts.harness import in_turns, median_ratio

TORCH_LAYERS: dict[str, type[nn.RNNBase]] = {"nn.GRU": nn.GRU, "nn.LSTM": nn.LSTM}
SERVED = {"cpu": ("native", "torch", "reference"), "cuda": ("triton", "cudnn", "torch", "reference")}
PRODUCT = "torch.mm"
"""Beside the layers: one product of square matrices, which says what the machine can do at that moment."""
SIDE = 1024
BF16 = "native, bf16"
"""The kernel in C where `matmul_precision=medium` lets it round the factors of its products, in training."""
Seconds = Mapping[str, list[float]]
"""Seconds a call of each contender, in each round."""


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
    captured: bool = False  # replayed as a CUDA graph: what the device takes, without Python's part

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
    return ["nn.GRU", *(name for name in SERVED[device] if name in BACKENDS)]


def call_of(name: str, case: Case) -> Callable[[], None] | None:
    """One call of the contender on the case; None if it cannot serve it (see `gatelab.GRU.explain`)."""
    s, options = case.shape, {"device": case.device, "dtype": case.dtype}
    torch.manual_seed(0)
    if name == PRODUCT:
        square, out = torch.randn(SIDE, SIDE, **options), torch.empty(SIDE, SIDE, **options)
        return lambda: (torch.mm(square, square, out=out), None)[1]
    original = TORCH_LAYERS.get(name, nn.GRU)(s.inputs, s.hidden, **options)
    x = torch.randn(s.steps, s.batch, s.inputs, **options)
    lengths = case.lengths() if case.ragged else None
    if lengths is not None:
        x.masked_fill_((torch.arange(s.steps).unsqueeze(1) >= lengths).unsqueeze(-1).to(case.device), 0)
    x.requires_grad_(case.training)
    layer: nn.Module = original
    if name not in TORCH_LAYERS:
        layer = GRU(s.inputs, s.hidden, **options, backend="native" if name == BF16 else name)
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
    if name == BF16:
        return in_medium_precision(call)
    return capture(call) if case.captured else call


def in_medium_precision(call: Callable[[], None]) -> Callable[[], None]:
    """The call where products of float32 may round their factors to BF16."""

    def medium() -> None:
        torch.set_float32_matmul_precision("medium")
        call()
        torch.set_float32_matmul_precision("highest")

    return medium


def capture(call: Callable[[], None]) -> Callable[[], None]:
    """The call as a CUDA graph."""
    with torch.cuda.stream(torch.cuda.Stream()):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


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


def measure(case: Case, names: list[str], rounds: int, seconds: float) -> Seconds:
    """Time the contenders that can serve the case, in turns of `seconds` at least."""
    if case.threads:
        torch.set_num_threads(case.threads)

    def turn(call: Callable[[], None]) -> Callable[[], float]:
        burst(call, 1, case.device)
        count = max(1, round(seconds / burst(call, 2, case.device)))
        return lambda: burst(call, count, case.device)

    calls = {name: call for name in names if (call := call_of(name, case)) is not None}
    return in_turns({name: turn(call) for name, call in calls.items()}, rounds, warm_up=0)


def records(case: Case, found: Seconds) -> Iterator[dict[str, Any]]:
    """Plain data of what was measured, a layer a record; ratios are to the first.

    `percent_of_mm` is the speed of the layer's matrix products, nothing else counted, as a share of `PRODUCT`'s.
    """
    s, first = case.shape, next(iter(found.values()))
    product = found.get(PRODUCT)
    for name, seconds in found.items():
        if name == PRODUCT:
            continue
        record = {"shape": s.name, "T": s.steps, "B": s.batch, "D": s.inputs, "H": s.hidden}
        record |= {"mode": "training" if case.training else "inference", "ragged": case.ragged}
        record |= {"captured": case.captured}
        record |= {"dtype": str(case.dtype).removeprefix("torch."), "threads": case.threads}
        record |= {"backend": name, "microseconds": round(median(seconds) * 1e6, 2)}
        record |= {"microseconds_per_step": round(median(seconds) * 1e6 / s.steps, 3)}
        if product is not None:
            share = case.flops / (2 * SIDE**3) * median_ratio(seconds, product)
            record["percent_of_mm"] = round(100 * share, 1)
        yield record | {"ratio": round(median_ratio(seconds, first), 3)}
