"""The registry of GRU backends and the choice among them.

`choose` is the one place where "auto" decides. A backend that was named either runs or raises: it never gives
way silently to another one.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from gatelab.core.backends import cudnn, fused, native, reference
from gatelab.core.backends.spec import Backend, Spec

BackendName = Literal["auto", "reference", "torch", "native", "cudnn"]

BACKENDS: dict[str, Backend] = {
    module.BACKEND.name: module.BACKEND for module in (reference, fused, native, cudnn)
}


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
    """Return the backend that "auto" takes, and the reason: the fastest one that can serve the call."""
    if cudnn.unsupported(spec) is None:
        return "cudnn", "cuDNN serves this call and is the fastest on a CUDA device"
    if native.unsupported(spec) is None:
        return "native", "the C kernel is the fastest for this call"
    if fused.unsupported(spec) is None:
        return "torch", f"it is the fastest that can serve this call on {spec.device}"
    return "reference", "no faster backend can serve this call"


def resolve(name: str, spec: Spec | None) -> Backend:
    """Return the backend for this call; with `spec=None` only check that the name exists.

    Raises ValueError for an unknown name and BackendError for a backend that cannot serve the call.
    """
    if name not in get_args(BackendName):
        raise ValueError(f"unknown backend {name!r}; the backends are {', '.join(get_args(BackendName))}")
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
