"""What is measured: shapes, and one call of each contender on them. No clock is read here.

A contender is `nn.GRU` or a backend of `gatelab.GRU`, with the same weights and the same input. A ragged call
begins with padded x and `lengths` and ends with padded y for both: `nn.GRU` packs and unpacks inside the call.

Dimensions: T time, B batch, D input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gatelab.core.backends import BACKENDS, BackendError
from gatelab.core.gru import GRU

REFERENCE = "nn.GRU"  # what the ratios are of
SERVED = {"cpu": ("native", "torch", "reference"), "cuda": ("cudnn", "torch", "reference")}


@dataclass(frozen=True)
class Shape:
    """A named problem."""

    name: str
    steps: int
    batch: int
    inputs: int
    hidden: int

    def __str__(self) -> str:
        return f"{self.name} {self.steps},{self.batch},{self.inputs},{self.hidden}"


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

    @property
    def mode(self) -> str:
        """`training` or `inference`."""
        return "training" if self.training else "inference"

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
        """Operations of the matrix products; the gradient takes two more of each."""
        s = self.shape
        return self.rows * 2.0 * 3 * s.hidden * (s.inputs + s.hidden) * (3 if self.training else 1)


def contenders(device: str) -> list[str]:
    """`nn.GRU` and the backends that the registry has for this device."""
    return [REFERENCE, *(name for name in SERVED[device] if name in BACKENDS)]


def call_of(name: str, case: Case) -> Callable[[], None] | None:
    """One call of the contender on the case; None if it cannot serve it (see `gatelab.GRU.explain`)."""
    s, options = case.shape, {"device": case.device, "dtype": case.dtype}
    torch.manual_seed(0)
    original = nn.GRU(s.inputs, s.hidden, **options)
    x = torch.randn(s.steps, s.batch, s.inputs, **options)
    lengths = case.lengths() if case.ragged else None
    if lengths is not None:
        x.masked_fill_((torch.arange(s.steps).unsqueeze(1) >= lengths).unsqueeze(-1).to(case.device), 0)
    x.requires_grad_(case.training)
    layer: nn.Module
    if name == REFERENCE:
        layer = original

        def forward() -> Tensor:
            if lengths is None:
                return original(x)[0]
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
            return pad_packed_sequence(original(packed)[0], total_length=s.steps)[0]
    else:
        layer = GRU(s.inputs, s.hidden, **options, backend=name)
        layer.load_state_dict(original.state_dict())
        given = None if lengths is None else lengths.to(case.device)

        def forward() -> Tensor:
            return layer(x, lengths=given)[0]

    wanted = [x, *layer.parameters()]
    dy = torch.randn(s.steps, s.batch, s.hidden, **options)

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
