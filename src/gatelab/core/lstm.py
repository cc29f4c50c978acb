"""The LSTM from scratch: a baseline beside the GRU, with the state_dict and the call of `torch.nn.LSTM`.

It runs its step (`cells.lstm_step`) through the plain unroller; it has no fast backend.
`torch_layers.TorchLSTM` is the fast one.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gatelab.core.cells import lstm_step
from gatelab.core.recurrent import Recurrent, Weights
from gatelab.core.unroll import State, unroll


class LSTM(Recurrent):
    """Long short-term memory over a sequence; `layer(x, (h, c) | None) -> (y, (h, c))`."""

    gates = 4
    state_names = ("h", "c")

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
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )

    def _run(
        self, x: Tensor, state: State, weights: Weights, lengths: Tensor | None, reset_mask: Tensor | None
    ) -> tuple[Tensor, State]:
        w_ih, w_hh, b_ih, b_hh = weights[:4]
        projected = F.linear(x, w_ih, b_ih)
        return unroll(
            lambda i, s: lstm_step(i, s[0], s[1], w_hh, b_hh),
            projected,
            state,
            lengths=lengths,
            reset_mask=reset_mask,
        )

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
        columns = hidden_size + (2 if bias else 0)
        return LSTM._count(columns, input_size, hidden_size, num_layers, bidirectional)
