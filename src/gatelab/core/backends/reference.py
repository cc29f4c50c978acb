"""The `reference` backend: the equations of `cells.py` in a plain autograd loop.

It is the oracle for every other backend and it runs wherever PyTorch does, double backward included. It is
not
fast: each step is a dozen small operations, each of them recorded.
"""

from torch import Tensor
from torch.nn import functional as F

from gatelab.core.backends.spec import Backend, Spec
from gatelab.core.cells import gru_step_after, gru_step_before
from gatelab.core.unroll import unroll


def run(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    *,
    reset_after: bool,
    lengths: Tensor | None = None,
    reset_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one layer in one direction; the arguments are those of `spec.Run`."""
    step = gru_step_after if reset_after else gru_step_before
    y, (h,) = unroll(
        lambda i, state: (step(i, state[0], w_hh, b_hh),),
        F.linear(x, w_ih, b_ih),
        (h0,),
        lengths=lengths,
        reset_mask=reset_mask,
    )
    return y, h


def unsupported(spec: Spec) -> str | None:
    """Nothing is out of reach of the plain loop."""
    return None


BACKEND = Backend("reference", "the equations in a plain autograd loop", run, unsupported)
