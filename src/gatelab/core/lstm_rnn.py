"""The LSTM and the simple recurrent network from scratch: baselines, with the state_dict and call of `torch.nn`.

They run their steps (`cells.lstm_step`, `cells.rnn_step`) through the plain unroller and have no fast backend;
`torch_layers.TorchLSTM` and `TorchRNN` are the fast ones.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gatelab.core.cells import Nonlinearity, lstm_step, rnn_step
from gatelab.core.recurrent import Recurrent, Weights
from gatelab.core.unroll import State, unroll


class LSTM(Recurrent):
    """Long short-term memory over a sequence; `layer(x, (h, c) | None) -> (y, (h, c))`."""

    gates = 4
    state_names = ("h", "c")

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


class RNN(Recurrent):
    """Elman's recurrent network over a sequence; `layer(x, state=None) -> (y, state)`."""

    gates = 1

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
        *,
        nonlinearity: Nonlinearity = "tanh",
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity

    def _run(
        self, x: Tensor, state: State, weights: Weights, lengths: Tensor | None, reset_mask: Tensor | None
    ) -> tuple[Tensor, State]:
        w_ih, w_hh, b_ih, b_hh = weights[:4]
        projected = F.linear(x, w_ih, b_ih)
        return unroll(
            lambda i, s: (rnn_step(i, s[0], w_hh, b_hh, self.nonlinearity),),
            projected,
            state,
            lengths=lengths,
            reset_mask=reset_mask,
        )
