"""A sample that a task's network reads, for `gatelab explain`: what is read, what it costs, what is predicted.

A task makes one (`Task.reading`); `explanation.py` asks it and looks at the recurrent cores from outside. A task must
give the losses and the cores; what else it leaves out is not on the page.

Letters: R sequences that a core reads side by side, T steps, N losses, D input.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gatelab.core.unroll import padding
from gatelab.tasks.contract import HeatMap


@dataclass(frozen=True)
class Part:
    """A recurrent core of the network, and what it reads step by step.

    Attributes:
        name: what the page calls it, e.g. "encoder".
        core: the module, which the network calls time first; its first call is looked at.
        steps: the text of each step, or its time, of the first sequences (all of `R` or fewer).
        kind: how steps are shown: "text" in a row, "series" and "frames" along an axis.
        probes: what is known of each step, by name: numbers [R, T], NaN where it is not known. A unit's probe is the
            one that tells most of its variance.
        current: numbers [R, T] that stand for what a step reads, where it is one of many symbols; else None.
        drawn: curves to draw with the units, by name: [R, T], of the first sequences.
        lengths: the steps of each sequence that count [R], where the core is not told; None: what it is told, or all.
    """

    name: str
    core: Any
    steps: Sequence[Sequence[str]]
    kind: Literal["text", "series", "frames"]
    probes: Mapping[str, np.ndarray] = field(default_factory=dict)
    current: np.ndarray | None = None
    drawn: Mapping[str, np.ndarray] = field(default_factory=dict)
    lengths: Tensor | None = None


@dataclass(frozen=True)
class Prediction:
    """A prediction to attribute to what was read.

    Attributes:
        note: what is predicted, in a sentence.
        score: inputs like x -> the score, a scalar.
        x, baseline: what was read and what it is compared with, [T, *] of one shape.
        steps: the text or time of each step; features: names of the last dimension where each is shown, else empty.
    """

    note: str
    score: Callable[[Tensor], Tensor]
    x: Tensor
    baseline: Tensor
    steps: Sequence[str]
    kind: Literal["text", "series", "frames"]
    features: Sequence[str] = ()


@dataclass(frozen=True)
class Reading:
    """What a task gives to explain a run.

    Attributes:
        note: what was read, in a sentence; unit: of the losses.
        losses: runs the network over the sample and returns its losses [N], each time the same ones.
        parts: the cores.
        targets: what each loss is of, where that is one of a few symbols; else empty.
        carried: k -> losses of some positions with what was read in the last k steps alone, and with all of it.
        contexts: the k that are asked for; context_unit: what they count.
    """

    note: str
    unit: str
    losses: Callable[[], Tensor]
    parts: Sequence[Part]
    targets: Sequence[str] = ()
    carried: Callable[[int], tuple[Tensor, Tensor]] | None = None
    contexts: Sequence[int] = ()
    context_unit: str = "steps"
    prediction: Prediction | None = None
    maps: Sequence[HeatMap] = ()


@dataclass
class Call:
    """The first call of a core: x [T, R, D], the initial state, the lengths [R] of its sequences."""

    x: Tensor
    state: Any
    lengths: Tensor | None


@contextlib.contextmanager
def listening(core: nn.Module) -> Iterator[list[Call]]:
    """Note the first call of `core` inside."""
    calls: list[Call] = []

    def look(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not calls:
            x, state = (*args, kwargs.get("hx", kwargs.get("state")))[:2]
            calls.append(Call(x.detach(), state, kwargs.get("lengths")))

    handle = core.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


@contextlib.contextmanager
def cropped(core: nn.Module, steps: int) -> Iterator[None]:
    """Have every call of `core` that begins without a state read its last `steps` steps only, inside."""

    def crop(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        x, *rest = args
        return None if any(part is not None for part in rest) else (x[-steps:], *rest)

    handle = core.register_forward_pre_hook(crop)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def forgetful(core: nn.Module, steps: int) -> Iterator[None]:
    """Have every output of `core`, which reads forward, come of its own step and the `steps` before it, inside.

    Each is computed anew from a zero state; those of the first steps, which have no more before them, stay.
    """

    def again(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        x, (y, state) = args[0], output  # [T, R, D], [T, R, F]
        if len(x) <= steps:
            return output
        windows = x.unfold(0, steps + 1, 1).permute(3, 0, 1, 2)  # [steps + 1, T - steps, R, D]
        last = module.forward(windows.flatten(1, 2))[0][-1].unflatten(0, windows.shape[1:3])
        y = torch.cat((y[:steps], last))
        lengths = kwargs.get("lengths")
        if lengths is not None:
            y = y.masked_fill(padding(lengths, len(y)).unsqueeze(-1), 0)
        return y, state

    handle = core.register_forward_hook(again, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def with_context(
    core: nn.Module, losses: Callable[[], Tensor]
) -> Callable[[int], tuple[Tensor, Tensor]] | None:
    """`Reading.carried` of losses that follow from a core's outputs; None for one that reads in both directions."""
    if getattr(core, "bidirectional", False):
        return None

    def carried(k: int) -> tuple[Tensor, Tensor]:
        with forgetful(core, k):
            some = losses()
        return some, losses()

    return carried


def powers(most: int) -> list[int]:
    """0, 1, 2, 4, 8 ... and at last `most` itself."""
    found = [0] + [2**n for n in range(most.bit_length()) if 2**n < most]
    return [*found, most] if most > 0 else [0]


def decoded(tokens: Tensor, decode: Callable[[list[int]], str]) -> list[str]:
    """The text of each token [T]."""
    known = {token: decode([token]) for token in set(tokens.tolist())}
    return [known[token] for token in tokens.tolist()]
