"""The interface of a backend: one layer in one direction, and the reason why it cannot serve a call, if so.

Nothing is computed here. The registry and the choice are in `dispatch.py`.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Spec(NamedTuple):
    """What a call asks for, as far as a backend's ability and its speed depend on it."""

    device: str
    dtype: torch.dtype
    reset_after: bool
    has_lengths: bool
    has_reset_mask: bool
    hidden: int
    batch: int
    steps: int
    training: bool = False  # a gradient will be asked for
    zoneout: bool = False
    layer_norm: bool = False


class Run(Protocol):
    """One GRU layer in one direction, forward in time.

    Shapes: x [T, B, D] with T >= 1, h0 [B, H], w_ih [3H, D], w_hh [3H, H], b_ih and b_hh [3H] or None,
    lengths [B] int64 on x's device, reset_mask [T, B] bool. x is zero past each length. Returns y [T, B,
    H], zero past each length, and the state [B, H] at each length. No result shares memory with an
    argument.

    g_ih and g_hh [3H] are the gains of the layer normalisation, both None without it. `zoneout` is the drawn
    mask [T, B, H] bool in training, True where a unit keeps its state; the probability in evaluation; None
    without it. A backend that cannot serve them raises.
    """

    def __call__(
        self,
        x: Tensor,
        h0: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None,
        b_hh: Tensor | None,
        g_ih: Tensor | None = None,
        g_hh: Tensor | None = None,
        *,
        reset_after: bool,
        lengths: Tensor | None,
        reset_mask: Tensor | None,
        zoneout: Tensor | float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the layer."""
        ...


class Unsupported(Protocol):
    """Why a backend cannot serve a call, or None when it can."""

    def __call__(self, spec: Spec) -> str | None:
        """Return the reason, or None."""
        ...


@dataclass(frozen=True)
class Backend:
    """One way to compute a GRU layer.

    `run_backward` walks the rows from their last step to their first on tensors in the order of time, the mask
    of zoneout among them, with `reset_mask` marking the same boundaries between steps; where it is missing the
    caller turns the sequence round before and after `run`.
    """

    name: str
    summary: str
    run: Run
    unsupported: Unsupported
    run_backward: Run | None = None
