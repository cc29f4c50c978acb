"""The registry of GRU backends and the choice among them.

`choose` is the one place where "auto" decides. A backend that was named either runs or raises: it never gives
way silently to another one.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from gatelab.core.backends import cudnn, fused, native, reference
from gatelab.core.backends.dispatch import Point, fastest, nearest, table
from gatelab.core.backends.spec import Backend, Spec

BackendName = Literal["auto", "reference", "torch", "native", "cudnn"]

BACKENDS: dict[str, Backend] = {
    module.BACKEND.name: module.BACKEND for module in (reference, fused, native, cudnn)
}

NAMES = get_args(BackendName)
ORDER = ("cudnn", "native", "torch", "reference")  # the fastest first, as a rule


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

    The dispatch table says which is the fastest (`dispatch.py`); where it says nothing, and while PyTorch compiles
    (a graph must not depend on sizes), it is the first of `ORDER` that can.
    """
    able = tuple([name for name in ORDER if BACKENDS[name].unsupported(spec) is None])
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
        if other == wanted:
            if why is not None:
                wanted, reason = "none", f"{other} was named and cannot serve this call: {why}"
        else:
            others[other] = why or f"{wanted} was {'chosen' if name == 'auto' else 'named'} before it"
    return Explanation(wanted, reason, others)
