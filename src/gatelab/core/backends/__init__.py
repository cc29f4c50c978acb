"""Ways to compute one GRU layer, and the choice among them.

`reference` is the oracle, `torch` has a hand-written gradient, `native` is a kernel in C for the CPU, `triton` is one
for CUDA devices, `cudnn` delegates to PyTorch.

`choose` is the one place where "auto" decides. A backend that was named either runs or raises: it never gives way
silently to another one.

`dispatch.json` beside this file says how long each backend took on a grid of sizes, as `scripts/bench/gru.py --table`
measured it: for a device and a dtype, one line for each kind of call and H, with columns of batch, steps and the
microseconds of each backend. A call takes the figures of the nearest point, in powers of two.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch

from gatelab.core.backends import cudnn, native, reference, torch_gru, triton_gru
from gatelab.core.backends.reference import Backend, Spec
from gatelab.core.torch_internals import is_exporting

BackendName = Literal["auto", "reference", "torch", "native", "triton", "cudnn"]

BACKENDS: dict[str, Backend] = {
    module.BACKEND.name: module.BACKEND for module in (reference, torch_gru, native, triton_gru, cudnn)
}

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendError",
    "BackendName",
    "Explanation",
    "Spec",
    "choose",
    "explain",
    "resolve",
]

NAMES = get_args(BackendName)
ORDER = ("triton", "cudnn", "native", "torch", "reference")  # the fastest first, as a rule
LOOPS = ("torch", "reference")  # over the steps, in operations of PyTorch

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
    found: Table = {}
    for block in json.loads(TABLE.read_text()).get(device, {}).get(dtype, []):
        kind = (block["training"], block["ragged"], block["hidden"])
        for i, size in enumerate(zip(block["batch"], block["steps"], strict=True)):
            times = {name: column[i] for name, column in block["microseconds"].items()}
            found[Point(*kind, *size)] = {name: time for name, time in times.items() if time is not None}
    return found


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


class BackendError(RuntimeError):
    """A named backend cannot serve this call."""


@dataclass(frozen=True)
class Explanation:
    """Which backend runs and why; `others` gives for each other one the reason why it does not."""

    backend: str
    reason: str
    others: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.backend} runs: {self.reason}"]
        return "\n".join(lines + [f"{name} does not: {why}" for name, why in self.others.items()])


def choose(spec: Spec) -> tuple[str, str]:
    """Return the backend that "auto" takes, and the reason: the fastest one that can serve the call.

    The table says which is the fastest; where it says nothing, and while PyTorch compiles
    (a graph must not depend on sizes), it is the first of `ORDER` that can. One that the call slows down, of which the
    table does not tell, is taken only where a loop of PyTorch's operations would be left.
    """
    if spec.obstacle is not None:
        return "reference", spec.obstacle
    if is_exporting():
        return "reference", "an exported graph holds PyTorch's own operations only, over any number of steps"
    able = tuple([name for name in ORDER if BACKENDS[name].unsupported(spec) is None])
    slow = [name for name in able if BACKENDS[name].slowed(spec) is not None]
    able = tuple([name for name in able if name not in slow])
    if slow and able[0] in LOOPS:
        return slow[0], f"no other kernel can serve this call. It takes {BACKENDS[slow[0]].slowed(spec)}"
    measured = not spec.layer_norm  # the table is of the plain layer; zoneout adds the same to all
    found = None
    if len(able) > 1 and measured and not torch.compiler.is_compiling():
        found = _by_table(spec, able)
    if found is not None:
        return found
    if able[0] == "reference":
        return "reference", "no faster backend can serve this call"
    return able[0], f"it is the fastest that can serve this call on {spec.device}"


@functools.lru_cache(maxsize=4096)  # a single step is over in microseconds
def _by_table(spec: Spec, able: tuple[str, ...]) -> tuple[str, str] | None:
    dtype = str(spec.dtype).removeprefix("torch.")
    call = Point(spec.training, spec.has_lengths, spec.hidden, spec.batch, spec.steps)
    point = nearest(spec.device, dtype, call)
    microseconds = {} if point is None else table(spec.device, dtype)[point]
    best = fastest(microseconds, able)
    return None if best is None else (best, _measured(best, microseconds, able, point))


def _measured(best: str, microseconds: Mapping[str, float], able: tuple[str, ...], point: object) -> str:
    times = {name: microseconds[name] / microseconds[best] for name in able if name in microseconds}
    others = ", ".join(f"{n} took {ratio:.2f} times as long" for n, ratio in times.items() if n != best)
    return f"measured fastest near {point}" + (f" ({others})" if others else "")


def resolve(name: str, spec: Spec | None) -> Backend:
    """Return the backend for this call; with `spec=None` only check that the name exists.

    Raises ValueError for an unknown name and BackendError for a backend that cannot serve the call.
    """
    if name not in NAMES:
        raise ValueError(f"unknown backend {name!r}; the backends are {', '.join(NAMES)}")
    if spec is None or name == "auto":
        return BACKENDS[choose(spec)[0]] if spec else reference.BACKEND
    why = BACKENDS[name].unsupported(spec)
    if why is not None:
        raise BackendError(f"backend={name!r} cannot serve this call: {why}. backend='auto' would choose one")
    return BACKENDS[name]


def explain(name: str, spec: Spec) -> Explanation:
    """Say what `resolve(name, spec)` does; the backend is 'none' when the named one cannot serve."""
    wanted, reason = choose(spec) if name == "auto" else (name, "it was named")
    others = {}
    for other, backend in BACKENDS.items():
        why = backend.unsupported(spec)
        slow = backend.slowed(spec) if why is None else None
        if other == wanted:
            if why is not None:
                wanted, reason = "none", f"{other} was named and cannot serve this call: {why}"
            elif slow is not None and name != "auto":
                reason += f". It takes {slow}"
        else:
            before = f"{wanted} was {'chosen' if name == 'auto' else 'named'} before it"
            others[other] = why or before + (f"; it would take {slow}" if slow else "")
    return Explanation(wanted, reason, others)
