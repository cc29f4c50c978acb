"""minGRU: a GRU whose gate and candidate do not see the state, so that time is a parallel scan.

Feng et al. 2024, "Were RNNs All We Needed?" (arXiv:2410.01201), section 3.1:

    z_t = sigmoid(W_z x_t + b_z)
    c_t = W_h x_t + b_h                       (the paper's h~; no tanh)
    h_t = (1 - z_t) * h_{t-1} + z_t * c_t

The paper trains in log space, which needs c_t > 0; the scan here (`scan.py`) is stable without logarithms,
so the candidate keeps its sign. No fast kernel, no state-dependent gate: it is a baseline beside the GRU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gatelab.core.recurrent import Recurrent, Weights
from gatelab.core.scan import linear_scan
from gatelab.core.unroll import State, padding


class MinGRU(Recurrent):
    """minGRU over a sequence; `layer(x, state=None) -> (y, state)`, with the call of the other cores.

    Parameters of layer l: `weight_ih_l{l}` [2H, D] and `bias_ih_l{l}` [2H], rows (z, h).
    """

    gates = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            names=("weight_ih", "bias_ih"),
        )

    def _run(
        self, x: Tensor, state: State, weights: Weights, lengths: Tensor | None, reset_mask: Tensor | None
    ) -> tuple[Tensor, State]:
        k, c = F.linear(x, weights.w_ih, weights.b_ih).chunk(2, dim=-1)
        keep, value = torch.sigmoid(-k), torch.sigmoid(k) * c
        if reset_mask is not None:
            keep = keep.masked_fill(reset_mask.unsqueeze(-1), 0)
        if lengths is None:
            y = linear_scan(keep, value, state[0])
            return y, (y[-1],)
        over = padding(lengths, x.shape[0]).unsqueeze(-1)
        # past its length a row copies its state, so the last step holds the state at the length
        y = linear_scan(keep.masked_fill(over, 1), value.masked_fill(over, 0), state[0])
        return y.masked_fill(over, 0), (y[-1],)

    @staticmethod
    def parameter_count(
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        bidirectional: bool = False,
        **_other: Any,
    ) -> int:
        """Number of parameters in closed form; arguments that do not change it are accepted and ignored."""
        return MinGRU._count(1 if bias else 0, input_size, hidden_size, num_layers, bidirectional)
